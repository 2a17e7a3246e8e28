"""How far a process stands back where cores are short, so that others' commands need not wait.

Linux weighs by niceness only within a group of processes. Each session is such a group
(sched(7), "The autogroup feature"), and so is each systemd unit: a niceness alone would do nothing
between the processes of a plant, as each has a session of its own.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
_TRIES, _WAIT_S = 20, 0.1
_STEP = 1.25
"""One step of niceness changes the share of a core by this factor (sched(7))."""
_DEFAULT_WEIGHT = 100


def cpu_weight(nice: int) -> int:
    """The same as `CPUWeight` of a systemd unit (systemd.resource-control(5): 1 to 10000)."""
    return max(1, round(_DEFAULT_WEIGHT / _STEP**nice))


def stand_back(nice: int, autogroup: Path = AUTOGROUP) -> None:
    """Set the niceness of this thread and of its session's group; never a smaller one.

    A group that the process does not lead belongs to others, and stays.
    """
    if not nice:
        return
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    if os.getsid(0) != os.getpid():
        return
    for _ in range(_TRIES):
        try:
            autogroup.write_text(str(nice))
            return
        except BlockingIOError:  # the kernel takes ten of these a second, of all processes
            time.sleep(_WAIT_S)
        except OSError:  # a kernel without such groups, or a /proc that is read-only
            return

"""Watches one process for its runner: does it make progress, does it keep to its memory?

The process says that it moves in the words of sd_notify(3), as it would to systemd: READY=1 once,
WATCHDOG=1 again and again, WATCHDOG_USEC before a step that may take longer, STATUS for a person.
Other than systemd, the runner does not count time in which the process, or it itself, found no free
core: on a machine at its limit a process is late, not dead.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from shopfloor.plant.vital_signs import STOPPED, CoreWait, memory_mb, run_state

PERIOD_S = 0.1
START_LIMIT_S = 90.0
"""From the start to READY=1, in units too; here without the waits for a core."""

_MAX_BYTES = 4096
_SUSPICIOUS = 0.5
"""From this part of the limit on, the waits for a core are read; they cost some file reads."""


@dataclass(frozen=True)
class Verdict:
    """The process must go, by this signal, and why.

    SIGABRT lets Python say where it hangs (faulthandler); a stopped process would not take it.
    """

    number: signal.Signals
    cause: str


class Watch:
    """One life of a process at a time; `begin` starts the next.

    address: path of the socket that the process tells things to; made here.
    watchdog_s, memory_limit_mb: 0 for no limit.
    """

    def __init__(
        self,
        address: str,
        watchdog_s: float,
        memory_limit_mb: float,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._watchdog_s, self._memory_limit_mb = watchdog_s, memory_limit_mb
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)
        self.environment = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)) if watchdog_s else "",
            "WATCHDOG_PID": "",
        }
        self._core_wait: CoreWait | None = None
        self.begin(0)

    def begin(self, pid: int) -> None:
        """Watch the process `pid` from now on; what an earlier one said is forgotten."""
        self._hear()
        self._pid = pid
        self._speaks = self._ends = False
        self._limit_s = self._watchdog_s
        self._status = ""
        self._looked_ns = self._clock_ns()
        self._moved()

    def look(self) -> Verdict | None:
        """Judge the process; to be called every `PERIOD_S`."""
        self._hear()
        now_ns = self._clock_ns()
        elapsed_s, self._looked_ns = (now_ns - self._looked_ns) / 1e9, now_ns
        if self._memory_limit_mb and (used := memory_mb(self._pid)) > self._memory_limit_mb:
            cause = f"over its memory limit: {used:.0f} MB of {self._memory_limit_mb:g} MB"
            return Verdict(signal.SIGKILL, cause)
        if self._ends or not self._limit_s:
            return None
        limit_s = self._limit_s if self._speaks else max(START_LIMIT_S, self._limit_s)
        # Who was held up himself does not know what happened meanwhile.
        self._silent_s += min(elapsed_s, 2.0 * PERIOD_S)
        if self._silent_s <= limit_s * _SUSPICIOUS:
            return None
        if self._core_wait is None:
            self._core_wait = CoreWait(self._pid, now_ns)
        else:
            self._silent_s -= self._core_wait.since_last_s(now_ns)
        if self._silent_s <= limit_s:
            return None
        if not self._speaks:
            return Verdict(signal.SIGABRT, f"not ready after {self._silent_s:.0f} s")
        if run_state(self._pid) == STOPPED:
            return Verdict(signal.SIGKILL, f"stopped by a signal for {self._silent_s:.1f} s")
        cause = self._status or f"stuck: no progress for {self._silent_s:.1f} s"
        return Verdict(signal.SIGABRT, cause)

    def close(self) -> None:
        """Close the socket and remove its file."""
        address = self._socket.getsockname()
        self._socket.close()
        os.unlink(address)

    def _moved(self) -> None:
        self._silent_s = 0.0
        self._core_wait = None

    def _hear(self) -> None:
        while True:
            try:
                lines = self._socket.recv(_MAX_BYTES).decode(errors="replace").split("\n")
            except BlockingIOError:
                return
            for line in lines:
                key, _, value = line.partition("=")
                if key in ("READY", "WATCHDOG"):
                    self._speaks = not self._ends
                    self._status = ""
                    self._moved()
                elif key == "STOPPING":
                    self._speaks, self._ends = False, True
                elif key == "STATUS":
                    self._status = value
                elif key == "WATCHDOG_USEC" and value.isdecimal():
                    self._limit_s = int(value) / 1e6

"""What Linux knows of a process without asking it: its state, its memory, its waits for a core.

Source: proc_pid_stat(5), proc_pid_statm(5), and Documentation/scheduler/sched-stats.rst of Linux
for `schedstat`: time on a core, time ready to run without one, both in nanoseconds. A kernel
without `schedstat` knows of no waits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
GONE = ""
STOPPED = "T"
_ENDED = "ZX"
_RUNNABLE = "R"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def run_state(pid: int, proc: Path = PROC) -> str:
    """The state letter of a process as in `ps`; GONE where it has ended, reaped or not."""
    state = _state(proc / str(pid) / "stat")
    return GONE if state in _ENDED else state


def memory_mb(pid: int, proc: Path = PROC) -> float:
    """Resident memory in 1e6 bytes, shared pages included; 0 where the process has ended."""
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
    except (OSError, IndexError):
        return 0.0


@dataclass(frozen=True)
class _Thread:
    state: str
    ran_ns: int
    waited_ns: int


class CoreWait:
    """How long a process was held up because others had the cores.

    A process that is starved must not be taken for one that is stuck. The longest wait of its
    threads counts: any of them may hold the interpreter's lock, for which the others then sleep.
    """

    def __init__(self, pid: int, now_ns: int, proc: Path = PROC) -> None:
        self._folder = proc / str(pid) / "task"
        self._threads = self._read()
        self._at_ns = now_ns

    def since_last_s(self, now_ns: int) -> float:
        """Seconds since the last call, or since this was made, in which it found no free core."""
        elapsed_ns, self._at_ns = now_ns - self._at_ns, now_ns
        before, self._threads = self._threads, self._read()
        longest_ns = 0
        for tid, thread in self._threads.items():
            if (old := before.get(tid)) is None:
                continue
            waited_ns = thread.waited_ns - old.waited_ns
            if thread.state == old.state == _RUNNABLE:
                # The kernel adds a wait up when it ends; this one has not ended yet.
                waited_ns = max(waited_ns, elapsed_ns - (thread.ran_ns - old.ran_ns))
            longest_ns = max(longest_ns, waited_ns)
        return min(longest_ns, elapsed_ns) / 1e9

    def _read(self) -> dict[str, _Thread]:
        found = {}
        try:
            for tid in os.listdir(self._folder):
                ran, waited, _ = (self._folder / tid / "schedstat").read_text().split()
                state = _state(self._folder / tid / "stat")
                found[tid] = _Thread(state, int(ran), int(waited))
        except (OSError, ValueError):
            return found  # it has ended meanwhile, or the kernel does not say
        return found


def _state(file: Path) -> str:
    try:
        return file.read_text().rpartition(") ")[2][:1]
    except OSError:
        return GONE

"""What the line manager learns of its host's processes from outside: are they there, do they run?

From the runner's file where there is one, which knows how a process ended; from /proc otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shopfloor.plant.runner_state import ProcessState, RunnerStateReader
from shopfloor.plant.vital_signs import GONE, STOPPED, CoreWait, run_state


@dataclass(frozen=True)
class Down:
    """A process is not in service, and why. for_good: its runner does not start it again."""

    cause: str
    for_good: bool = False


class ProcessSigns:
    """Looks at processes by name in the plant file and by process id."""

    def __init__(self, reader: RunnerStateReader) -> None:
        self._reader = reader
        self._runner: Mapping[str, ProcessState] = {}
        self._waits: dict[int, CoreWait] = {}

    def refresh(self) -> None:
        """Read the runner's file, if it has changed; before a round of questions."""
        self._runner = self._reader.read()

    def last_end(self, process: str) -> str:
        """How a process ended last, in words; empty where it never did or nobody knows."""
        state = self._runner.get(process)
        return state.last_end if state is not None else ""

    def down(self, process: str, pid: int) -> Down | None:
        """Why process `pid`, from which heartbeats came and stopped, is down; None: it is not."""
        state = self._runner.get(process)
        if state is not None and state.pid != pid:
            return _of_runner(state)
        run = run_state(pid)
        if run == GONE:
            return Down(f"process {pid} has ended")
        if run == STOPPED:
            return Down(f"process {pid} is stopped by a signal (SIGSTOP)")
        return None

    def never_up(self, process: str) -> Down | None:
        """Why a process from which no heartbeat ever came is down; None: nobody knows of an end."""
        state = self._runner.get(process)
        return _of_runner(state) if state is not None and state.last_end else None

    def held_up_s(self, pid: int, now_ns: int) -> float:
        """Seconds since the last question for which the process found no free core.

        0 at the first question; see `keep_only` for who is not asked about any more.
        """
        wait = self._waits.get(pid)
        if wait is None:
            self._waits[pid] = CoreWait(pid, now_ns)
            return 0.0
        return wait.since_last_s(now_ns)

    def keep_only(self, pids: Iterable[int]) -> None:
        """No more questions about the waits of other processes."""
        kept = set(pids)
        self._waits = {pid: wait for pid, wait in self._waits.items() if pid in kept}


def _of_runner(state: ProcessState) -> Down:
    if state.gave_up:
        return Down(f"{state.last_end}; it stays down", True)
    again = f"starts again as process {state.pid}" if state.pid else "to be started again"
    return Down(f"{state.last_end}; {again}")

"""A small shop that is killed at any step that leaves a trace, and started again."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from shopfloor.ros.commands import Refused
from shopfloor.scheduling.commands import Commands
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.dispatching import Dispatcher, Progress
from shopfloor.scheduling.floor import Dispatch, Floor, PlanState, StoredPlan
from shopfloor.scheduling.journal import EventKind, Journal
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.problem import Job, JobState, Machine, Operation, Problem
from shopfloor.scheduling.rules import dispatch

NOW_NS = 1_700_000_000_000_000_000
JOBS = 2


class Killer:
    """Counts steps and ends this process at number `at`, as a power switch would."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def __call__(self, name: str) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class LoggedMachines:
    """Machines whose memory is a file: they outlive the scheduler. Work takes no time."""

    def __init__(self, log: Path, step: Callable[[str], None], tells: bool) -> None:
        self._log, self._step, self._tells = log, step, tells

    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def start(self, dispatched: Dispatch) -> None:
        self._step("before the machine")
        with self._log.open("a") as file:
            file.write(dispatched.dispatch_id + "\n")
        self._step("after the machine")

    def progress(self, dispatch_id: str) -> Progress | None:
        return Progress(1.0, 1, 0, "", "done") if dispatch_id in self._lines() else None

    def cancel(self, dispatch_id: str) -> None: ...

    def was_started(self, dispatch_id: str) -> bool | None:
        return dispatch_id in self._lines() if self._tells else None


def problem() -> Problem:
    jobs = tuple(
        Job(
            f"j{n}",
            (
                Operation("a", ("m1", "m2"), (1000, 1000)),
                Operation("b", ("m2",), (500,), 0, ("a",)),
            ),
        )
        for n in range(JOBS)
    )
    return Problem(NOW_NS // 1_000_000, (Machine("m1"), Machine("m2")), jobs)


def run_shop(folder: Path, killer: Killer, tells: bool, resume: bool = False) -> dict[str, object]:
    """Start, recover, plan, and run until nothing is left to start; what a person would see."""
    journal = Journal(folder / "journal.sqlite", synchronous="OFF", step=killer)
    floor = Floor(journal)
    clock = [NOW_NS]
    commands = Commands(floor, lambda: clock[0])
    machines = LoggedMachines(folder / "machine.log", killer, tells)
    dispatcher = Dispatcher(commands, machines, lambda: clock[0])
    doubtful = dispatcher.recover()
    for job in list(floor.state.jobs.values()):
        if resume and job.state is JobState.HELD:
            commands.hold_job(job.job_id, False, "looked at it: it did not run")
    if floor.state.frame is None:
        floor.load(problem(), NOW_NS)
    for _ in range(100):
        clock[0] += 60_000_000_000
        _plan(commands)
        for assignment in dispatcher.due(1 << 60):
            try:
                dispatcher.execute(floor.version_in_force, assignment)
            except Refused:
                continue
        dispatcher.poll()
        if all(j.state in (JobState.DONE, JobState.HELD) for j in floor.state.jobs.values()):
            break
    events = journal.events(limit=100_000)
    states = {j.job_id: j.state for j in floor.state.jobs.values()}
    journal.close()
    return {
        "doubt": len(doubtful),
        "sequences": [e.sequence for e in events],
        "states": states,
        "kinds": Counter(e.kind for e in events),
    }


def _plan(commands: Commands) -> None:
    made = commands.problem()
    if not made.to_plan:
        return
    decoder = Decoder(Model(made))
    plan = decoder.assignments(decoder.decode(dispatch(decoder.model, "EDD")))
    score = decoder.model.objective.score(plan)
    version = commands.floor.version_in_force
    stored = StoredPlan(0, version, PlanState.DRAFT, NOW_NS, made, plan, score, "EDD")
    commands.store(stored, commit=True)


def started(folder: Path) -> Counter[str]:
    """How often each operation was begun at the machine."""
    log = folder / "machine.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter("/".join(line.split("/")[:2]) for line in lines)


def killed_at(folder: Path, at: int, tells: bool) -> bool:
    """Run the shop in a child that dies at step `at`; False: it ended before that."""
    child = os.fork()
    if child == 0:
        run_shop(folder, Killer(at), tells)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


__all__ = ["JOBS", "EventKind", "Killer", "killed_at", "run_shop", "started"]

"""Dispatch: an assignment is in the journal before its machine hears of it, and is never repeated.

A machine adapter starts work and is asked how it goes. After a crash it is asked whether what the
journal calls dispatched was begun; where it cannot tell, the operation is in doubt: nothing of the
job is dispatched any more until a person resumes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.commands import Commands
from shopfloor.scheduling.floor import Dispatch, is_up, with_operation
from shopfloor.scheduling.journal import EventKind
from shopfloor.scheduling.problem import (
    Assignment,
    JobState,
    OperationState,
)
from shopfloor.scheduling.steps import Step


@dataclass(frozen=True)
class Progress:
    """What a machine says of one dispatch. outcome "": it runs; else done, failed or cancelled."""

    fraction: float = 0.0
    good: int = 0
    scrap: int = 0
    text: str = ""
    outcome: str = ""


class MachineAdapter(Protocol):
    """The way to the machines."""

    def start(self, dispatch: Dispatch) -> None:
        """Begin. Raises OSError where the machine surely did not begin."""

    def progress(self, dispatch_id: str) -> Progress | None:
        """How it goes; None: nothing is known of it."""

    def cancel(self, dispatch_id: str) -> None:
        """Stop where the machine can."""

    def was_started(self, dispatch_id: str) -> bool | None:
        """After a restart: whether the machine began it; None: it cannot tell."""


class SimulatedMachines:
    """Machines that need exactly the planned time, divided by `speed`, on the clock given."""

    def __init__(self, now_ms: Callable[[], int], speed: float = 1.0) -> None:
        self._now_ms = now_ms
        self._speed = speed
        self._running: dict[str, tuple[int, Dispatch]] = {}
        self._cancelled: set[str] = set()

    def start(self, dispatch: Dispatch) -> None:
        """Begin."""
        self._running[dispatch.dispatch_id] = (self._now_ms(), dispatch)

    def progress(self, dispatch_id: str) -> Progress | None:
        """How far it is."""
        if dispatch_id not in self._running:
            return None
        began, dispatch = self._running[dispatch_id]
        if dispatch_id in self._cancelled:
            return Progress(outcome="cancelled", text="cancelled")
        length = max(dispatch.assignment.end - dispatch.assignment.start, 1)
        fraction = min(max((self._now_ms() - began) * self._speed / length, 0.0), 1.0)
        return Progress(fraction, outcome="done" if fraction >= 1.0 else "", text="running")

    def cancel(self, dispatch_id: str) -> None:
        """Stop it."""
        self._cancelled.add(dispatch_id)

    def was_started(self, dispatch_id: str) -> bool | None:
        """Its memory ended with the process."""
        return None


class Dispatcher:
    """Starts work and takes its outcome. Every step is in the journal first."""

    def __init__(
        self, commands: Commands, adapter: MachineAdapter, now_ns: Callable[[], int]
    ) -> None:
        self._commands = commands
        self._floor = commands.floor
        self._adapter = adapter
        self._now_ns = now_ns
        self._number = 0

    def execute(
        self, plan_version: int, wanted: Assignment, *, command_id: str = "", caller: str = ""
    ) -> Dispatch:
        """Run an assignment of the plan in force. Raises Refused where it is not begun."""
        assignment = self._allowed(plan_version, wanted)
        self._number += 1
        dispatch = Dispatch(
            f"{assignment.job_id}/{assignment.operation_id}/{self._now_ns()}/{self._number}",
            plan_version, assignment, caller, command_id, self._now_ns(),
        )  # fmt: skip

        def act(step: Step) -> None:
            self._write(step, dispatch, OperationState.RUNNING)
            self._floor.put_dispatch(step.transaction, dispatch)
            dispatches = self._floor.state.dispatches
            step.applied.insert(0, lambda: dispatches.update({dispatch.dispatch_id: dispatch}))
            self._note(step, EventKind.DISPATCHED, dispatch, "started")

        self._commands.step(act)
        try:
            self._adapter.start(dispatch)
        except OSError as error:
            self.finish(dispatch, Progress(outcome="failed", text=str(error)))
            raise Refused(Reason.EFFECT_FAILED, str(error)) from None
        return dispatch

    def _allowed(self, plan_version: int, wanted: Assignment) -> Assignment:
        operation = self._floor.operation(wanted.key)
        if operation is None:
            raise Refused(Reason.UNKNOWN_TARGET, f"no operation {'/'.join(wanted.key)}")
        if plan_version != self._floor.version_in_force:
            text = f"plan {self._floor.version_in_force} is in force, not {plan_version}"
            raise Refused(Reason.VERSION_MISMATCH, text)
        planned = self._commands.assignment(wanted.key)
        if planned is None or (planned.machine_id, planned.start) != (
            wanted.machine_id,
            wanted.start,
        ):
            text = f"{'/'.join(wanted.key)} is not planned so in plan {plan_version}"
            raise Refused(Reason.INVALID_ARGUMENT, text)
        if not operation.is_open:
            raise Refused(Reason.INVALID_TRANSITION, f"is {operation.state.name}")
        job = self._floor.state.jobs[wanted.job_id]
        if job.state not in (JobState.WAITING, JobState.RUNNING):
            raise Refused(Reason.INTERLOCK, f"job is {job.state.name}")
        text = self._blocked(planned, operation.predecessors, job.predecessors)
        if text:
            raise Refused(Reason.INTERLOCK, text)
        return planned

    def _blocked(
        self, planned: Assignment, before: tuple[str, ...], jobs_before: tuple[str, ...]
    ) -> str:
        """What forbids to start it now; empty: nothing."""
        state = self._floor.state
        machines = state.machines
        operation = self._floor.operation(planned.key)
        assert operation is not None
        for name in (planned.machine_id, *operation.resource_ids):
            if not is_up(machines[name]):
                return f"{name} is {machines[name].state.name}: {machines[name].state_reason}"
        for name in before:
            other = self._floor.operation((planned.job_id, name))
            if other is not None and other.state is not OperationState.DONE:
                return f"{name} is {other.state.name}, not done"
        for name in jobs_before:
            job = state.jobs.get(name)
            if job is not None and job.state not in (JobState.DONE, JobState.CANCELLED):
                return f"job {name} is {job.state.name}, not done"
        load: dict[str, int] = {}
        for dispatch in state.dispatches.values():
            a = dispatch.assignment
            load[a.machine_id] = load.get(a.machine_id, 0) + 1
            running = self._floor.operation(a.key)
            for name in running.resource_ids if running is not None else ():
                load[name] = load.get(name, 0) + 1
        for name in (planned.machine_id, *operation.resource_ids):
            if load.get(name, 0) >= machines[name].capacity:
                return f"{name} is busy"
        for other_id in load:
            pair = {planned.machine_id, other_id}
            if any({m.machine_id, o} == pair for m in machines.values() for o in m.forbidden_with):
                return f"{other_id} runs, and may not together with {planned.machine_id}"
        return ""

    def _write(self, step: Step, dispatch: Dispatch, state: OperationState) -> None:
        key = dispatch.assignment.key
        operation = self._floor.operation(key)
        assert operation is not None
        job = with_operation(self._floor.state.jobs[key[0]], replace(operation, state=state))
        self._floor.put_job(step.transaction, job)
        step.applied.insert(0, lambda: self._floor.state.jobs.update({key[0]: job}))

    def _note(self, step: Step, kind: EventKind, dispatch: Dispatch, text: str) -> None:
        a = dispatch.assignment
        self._commands.note(
            step, kind, f"{a.job_id}/{a.operation_id} on {a.machine_id}: {text}",
            machine_id=a.machine_id, job_id=a.job_id, operation_id=a.operation_id,
            plan_version=dispatch.plan_version, command_id=dispatch.command_id,
            caller=dispatch.caller,
        )  # fmt: skip

    def finish(self, dispatch: Dispatch, progress: Progress) -> None:
        """Take the outcome of a dispatch."""
        done = progress.outcome == "done"

        def act(step: Step) -> None:
            self._write(step, dispatch, OperationState.DONE if done else OperationState.FAILED)
            step.transaction.remove("dispatch", dispatch.dispatch_id)
            dispatches = self._floor.state.dispatches
            step.applied.insert(0, lambda: dispatches.__delitem__(dispatch.dispatch_id))
            words = progress.text or progress.outcome
            text = f"{words}, {progress.good} good, {progress.scrap} scrap"
            self._note(step, EventKind.DONE if done else EventKind.FAILED, dispatch, text)

        self._commands.step(act)

    def poll(self) -> list[tuple[Dispatch, Progress]]:
        """How everything that runs goes; what has ended is in the journal when this returns."""
        found = []
        for dispatch in list(self._floor.state.dispatches.values()):
            if dispatch.in_doubt:
                continue
            progress = self._adapter.progress(dispatch.dispatch_id)
            if progress is None:
                progress = Progress(outcome="in doubt", text="the machine does not know of it")
                self._doubt(dispatch, progress.text)
            elif progress.outcome:
                self.finish(dispatch, progress)
            found.append((dispatch, progress))
        return found

    def cancel(self, dispatch: Dispatch) -> None:
        """Ask the machine to stop."""
        self._adapter.cancel(dispatch.dispatch_id)

    def recover(self) -> list[Dispatch]:
        """After a restart: settle what was in flight; returns what is in doubt."""
        doubtful = []
        for dispatch in list(self._floor.state.dispatches.values()):
            if dispatch.in_doubt:
                doubtful.append(dispatch)
                continue
            started = self._adapter.was_started(dispatch.dispatch_id)
            if started is None:
                self._doubt(dispatch, "was in flight when the scheduler stopped")
                doubtful.append(dispatch)
            elif not started:
                text = "was not begun when the scheduler stopped"
                self.finish(dispatch, Progress(outcome="failed", text=text))
        return doubtful

    def _doubt(self, dispatch: Dispatch, why: str) -> None:
        job = self._floor.state.jobs[dispatch.assignment.job_id]
        doubtful = replace(dispatch, in_doubt=True)

        def act(step: Step) -> None:
            self._floor.put_dispatch(step.transaction, doubtful)
            dispatches = self._floor.state.dispatches
            step.applied.insert(0, lambda: dispatches.update({dispatch.dispatch_id: doubtful}))
            self._commands.hold(step, job, True)
            self._note(step, EventKind.IN_DOUBT, dispatch, why)

        self._commands.step(act)

    def due(self, now_ms: int) -> list[Assignment]:
        """What the plan in force starts by now and nothing forbids, in its order."""
        plan = self._floor.in_force
        if plan is None:
            return []
        found = []
        for a in plan.assignments:
            if a.start > now_ms:
                break
            operation = self._floor.operation(a.key)
            job = self._floor.state.jobs.get(a.job_id)
            if operation is None or job is None or not operation.is_open:
                continue
            if job.state in (JobState.WAITING, JobState.RUNNING) and not self._blocked(
                a, operation.predecessors, job.predecessors
            ):
                found.append(a)
        return found

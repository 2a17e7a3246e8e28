"""What people and other systems may ask of the scheduler: each command once and journalled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.floor import with_operation
from shopfloor.scheduling.journal import EventKind
from shopfloor.scheduling.plan_commands import PlanCommands
from shopfloor.scheduling.problem import (
    Constraint,
    Job,
    JobState,
    MachineState,
    Operation,
    OperationState,
    Problem,
    Rule,
    Window,
)
from shopfloor.scheduling.steps import Step

_STATES = (MachineState.UP, MachineState.DOWN, MachineState.HELD, MachineState.DERATED)


class Commands(PlanCommands):
    """The services, without ROS: machines, jobs and operations here, plans in the base."""

    # Machines -----------------------------------------------------------------------------------

    def set_machine_state(
        self,
        machine_id: str,
        state: int,
        speed_factor: float,
        until: int | None,
        reason: str,
        **ids: Any,
    ) -> None:
        """Up, down, held or derated, until an expected end (ms of ROS time, None: not known)."""
        self.machine(machine_id)
        if state not in _STATES:
            raise Refused(Reason.INVALID_ARGUMENT, f"state {state} cannot be set")
        wanted = MachineState(state)
        if wanted is MachineState.DERATED and not 0.0 < speed_factor < 1.0:
            text = f"speed_factor {speed_factor!r}; allowed: above 0 and below 1"
            raise Refused(Reason.INVALID_ARGUMENT, text)
        kind = EventKind.MACHINE_STATE
        self.step(
            lambda step: self.change_machine(
                step, kind, machine_id, wanted, reason, until, speed_factor, **ids
            )
        )

    def change_machine(
        self,
        step: Step,
        kind: EventKind,
        machine_id: str,
        state: MachineState,
        reason: str,
        until: int | None = None,
        speed_factor: float = 1.0,
        **ids: Any,
    ) -> None:
        """The same from inside: what the graph itself decides, in a step that is under way."""
        floor = self.floor
        factor = speed_factor if state is MachineState.DERATED else 1.0
        machine = replace(
            self.machine(machine_id),
            state=state,
            state_reason="" if state is MachineState.UP else reason[:254],
            state_until=None if state is MachineState.UP else until,
        )
        floor.put_machine(step.transaction, machine)
        floor.put_slowed(step.transaction, machine_id, factor)
        text = f"{machine_id} {state.name}: {reason}"
        self.note(step, kind, text, machine_id=machine_id, **ids)

        def apply() -> None:
            floor.state.machines[machine_id] = machine
            floor.state.slowed[machine_id] = factor

        step.applied.insert(0, apply)

    def book_downtime(self, machine_id: str, window: Window, why: str) -> None:
        """Nothing is planned on the machine in that time."""
        known = self.machine(machine_id)
        machine = replace(known, downtimes=(*known.downtimes, window))

        def act(step: Step) -> None:
            self.floor.put_machine(step.transaction, machine)
            machines = self.floor.state.machines
            step.applied.append(lambda: machines.update({machine_id: machine}))
            self.note(step, EventKind.MAINTENANCE, f"{machine_id}: {why}", machine_id=machine_id)

        self.step(act)

    def load(self, problem: Problem, caller: str) -> None:
        """Take machines and jobs that are not known yet, and tariff, set-ups and weights."""
        for event in self.floor.load(problem, self._now_ns(), caller=caller):
            self._on_event(event)

    # Jobs and operations ------------------------------------------------------------------------

    def hold_job(self, job_id: str, hold: bool, reason: str, **ids: Any) -> None:
        """Hold a job, or resume it; resuming also frees what is in doubt, to be run again."""
        job = self.job(job_id)
        if job.state in (JobState.DONE, JobState.CANCELLED):
            raise Refused(Reason.INVALID_TRANSITION, f"job is {job.state.name}")
        if hold == (job.state is JobState.HELD):
            text = "is held already" if hold else "is not held"
            raise Refused(Reason.INVALID_TRANSITION, f"job {job_id} {text}")
        kind = EventKind.JOB_HELD if hold else EventKind.JOB_RESUMED

        def act(step: Step) -> None:
            self.hold(step, job, hold)
            self.note(step, kind, f"{job_id}: {reason}", job_id=job_id, **ids)

        self.step(act)

    def hold(self, step: Step, job: Job, hold: bool) -> Job:
        """Write the job as held or resumed."""
        floor = self.floor
        rows = job.operations
        freed = []
        if not hold:
            freed = [d for d in floor.state.dispatches.values()
                     if d.in_doubt and d.assignment.job_id == job.job_id]  # fmt: skip
            again = {d.assignment.operation_id for d in freed}
            rows = tuple(
                replace(o, state=OperationState.FAILED) if o.operation_id in again else o
                for o in rows
            )
        begun = any(o.state in (OperationState.RUNNING, OperationState.DONE) for o in rows)
        state = JobState.HELD if hold else JobState.RUNNING if begun else JobState.WAITING
        changed = replace(job, operations=rows, state=state)
        floor.put_job(step.transaction, changed)
        for dispatch in freed:
            step.transaction.remove("dispatch", dispatch.dispatch_id)

        def apply() -> None:
            floor.state.jobs[job.job_id] = changed
            for dispatch in freed:
                del floor.state.dispatches[dispatch.dispatch_id]

        step.applied.insert(0, apply)
        return changed

    def pin_operation(
        self,
        job_id: str,
        operation_id: str,
        pin: bool,
        machine_id: str,
        start: int | None,
        **ids: Any,
    ) -> list[Constraint]:
        """Pin to a machine, a start (ms) or both, or unpin; what is returned forbids it.

        Nothing is changed where something is returned.
        """
        job = self.job(job_id)
        operation = self.operation(job_id, operation_id)
        if not operation.is_open:
            raise Refused(Reason.INVALID_TRANSITION, f"operation is {operation.state.name}")
        if pin and not machine_id and start is None:
            raise Refused(Reason.INVALID_ARGUMENT, "neither machine nor start is given")
        machine, at = (machine_id, start) if pin else ("", None)
        conflicts = self._pin_conflicts(job, operation, machine, at)
        if conflicts:
            return conflicts
        pinned = replace(operation, pinned_machine=machine, pinned_start=at)
        changed = with_operation(job, pinned)

        def act(step: Step) -> None:
            self.floor.put_job(step.transaction, changed)
            step.applied.append(lambda: self.floor.state.jobs.update({job_id: changed}))
            kind = EventKind.PINNED if pin else EventKind.UNPINNED
            text = f"{job_id}/{operation_id}" + (f" to {machine or 'any machine'}" if pin else "")
            self.note(
                step,
                kind,
                text,
                job_id=job_id,
                operation_id=operation_id,
                machine_id=machine,
                **ids,
            )

        self.step(act)
        return []

    def _pin_conflicts(
        self, job: Job, operation: Operation, machine_id: str, start: int | None
    ) -> list[Constraint]:
        """What forbids the pin for itself, whatever the rest of the plan is."""

        def because(rule: Rule, text: str, window: Window | None = None) -> Constraint:
            ids = (job.job_id, operation.operation_id, machine_id)
            return Constraint(rule, text, *ids, window=window)

        if machine_id and machine_id not in operation.machine_ids:
            allowed = ", ".join(operation.machine_ids)
            text = f"{machine_id} is not eligible; allowed: {allowed}"
            return [because(Rule.ELIGIBILITY, text)]
        if start is None:
            return []
        if start < self.now_ms():
            return [because(Rule.PIN, "the start lies in the past")]
        if job.release is not None and start < job.release:
            return [because(Rule.RELEASE, "the start lies before the release")]
        found: list[Constraint] = []
        for name in [machine_id] if machine_id else operation.machine_ids:
            machine = self.floor.state.machines[name]
            end = start + (operation.duration_on(name) or 0)
            clash = next((w for w in machine.downtimes if start < w.end and w.start < end), None)
            if clash is None:
                return []
            text = f"{name} is down then ({clash.label or 'downtime'})"
            found.append(because(Rule.DOWNTIME, text, clash))
        return found

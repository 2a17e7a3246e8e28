"""What people and other systems may ask of the scheduler: each command once and journalled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.floor import Floor, PlanState, StoredPlan, with_operation
from shopfloor.scheduling.journal import Event, EventKind, Transaction
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.problem import (
    Assignment,
    Constraint,
    Job,
    JobState,
    Machine,
    MachineState,
    Operation,
    OperationState,
    Problem,
    Rule,
    Window,
    changed_fraction,
)
from shopfloor.scheduling.repair import repair

_STATES = (MachineState.UP, MachineState.DOWN, MachineState.HELD, MachineState.DERATED)


@dataclass
class Step:
    """What a command does: writes in `transaction`, and `applied` once they are on disk."""

    transaction: Transaction
    applied: list[Callable[[], None]] = field(default_factory=list)


class Commands:
    """The services, without ROS. on_event hears of everything that is in the journal.

    now_ns: ROS time.
    """

    def __init__(
        self,
        floor: Floor,
        now_ns: Callable[[], int],
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.floor = floor
        self._now_ns = now_ns
        self._on_event = on_event

    def now_ms(self) -> int:
        """ROS time, rounded up: nothing starts before now."""
        return -(-self._now_ns() // 1_000_000)

    def problem(self, freeze_ms: int = 0) -> Problem:
        """What has to be planned now. Raises Refused where nothing is known yet."""
        problem = self.floor.problem(self.now_ms(), freeze_ms=freeze_ms)
        if problem is None:
            raise Refused(Reason.NOT_READY, "no machines are known yet")
        return problem

    def step(self, act: Callable[[Step], None]) -> None:
        """All that `act` writes in one transaction; the memory follows when it is on disk."""
        with self.floor.journal.transaction() as transaction:
            step = Step(transaction)
            act(step)
        for apply in step.applied:
            apply()

    def note(self, step: Step, kind: EventKind, text: str, **ids: Any) -> None:
        """Write an event; it is published once it is on disk."""
        event = step.transaction.event(Event(kind, self._now_ns(), text[:254], **ids))
        step.applied.append(lambda: self._on_event(event))

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
            text = f"{machine_id or 'no machine'} is not eligible; allowed: {allowed}"
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

    # Plans --------------------------------------------------------------------------------------

    def commit(self, version: int, sha256: str, expected_version: int, **ids: Any) -> None:
        """Put a draft in force, if the plan in force is still the expected one."""
        plan = self.plan(version)
        self._same_version(expected_version)
        if sha256 and sha256 != plan.sha256:
            raise Refused(Reason.VERSION_MISMATCH, f"plan {version} has another hash")
        if plan.state is not PlanState.DRAFT:
            text = f"plan {version} is {plan.state.name}, not a draft"
            raise Refused(Reason.INVALID_TRANSITION, text)
        self.step(lambda step: self.put_in_force(step, plan, **ids))

    def put_in_force(
        self,
        step: Step,
        plan: StoredPlan,
        before: PlanState = PlanState.SUPERSEDED,
        **ids: Any,
    ) -> None:
        """Commit in a step that is under way. Raises Refused where facts forbid the plan by now."""
        broken = self.floor.is_current(plan)
        if broken:
            raise Refused(Reason.INVALID_TRANSITION, f"out of date: {broken[0].text}"[:254])
        committed = replace(plan, state=PlanState.COMMITTED)
        self.floor.put_in_force(step.transaction, committed, before)
        state = self.floor.state

        def apply() -> None:
            state.in_force = committed
            state.last_version = max(state.last_version, committed.version)

        step.applied.insert(0, apply)
        text = f"plan {plan.version} by {plan.stage}, J {plan.score.objective:.4f}"
        self.note(step, EventKind.PLAN_COMMITTED, text, plan_version=plan.version, **ids)

    def rollback(self, to_version: int, expected_version: int, **ids: Any) -> int:
        """An earlier plan in force again, less what has run since; returns its new version."""
        plan = self.plan(to_version)
        self._same_version(expected_version)
        made = self.repaired(plan)

        def act(step: Step) -> None:
            self.put_in_force(step, made, PlanState.ROLLED_BACK)
            text = f"back to plan {to_version} as {made.version}"
            self.note(step, EventKind.PLAN_ROLLED_BACK, text, plan_version=made.version, **ids)

        self.step(act)
        return made.version

    def repaired(self, plan: StoredPlan, freeze_ms: int = 0) -> StoredPlan:
        """The plan made valid for now with as few changes as possible; not stored yet."""
        problem = self.problem(freeze_ms)
        decoder = Decoder(Model(problem, Base(plan.assignments)))
        schedule = decoder.decode(repair(decoder, plan.assignments))
        assignments = decoder.assignments(schedule)
        broken = check(problem, assignments)
        if broken:
            raise Refused(Reason.INVALID_TRANSITION, f"cannot be repaired: {broken[0].text}"[:254])
        return StoredPlan(
            version=self.floor.state.last_version + 1,
            base_version=plan.version,
            state=PlanState.DRAFT,
            stamp_ns=self._now_ns(),
            problem=problem,
            assignments=assignments,
            score=decoder.model.objective.score(
                assignments, changed_fraction(plan.assignments, assignments)
            ),
            stage="repair",
        )

    def store(
        self, plan: StoredPlan, *, commit: bool, approval: str = "", **ids: Any
    ) -> StoredPlan:
        """Store a plan under the next version; commit it, or say why a person has to."""
        floor = self.floor
        plan = replace(plan, version=floor.state.last_version + 1, state=PlanState.DRAFT)
        stored = [plan]

        def act(step: Step) -> None:
            floor.put_plan(step.transaction, plan)
            text = f"plan {plan.version} by {plan.stage}, J {plan.score.objective:.4f}"
            self.note(step, EventKind.PLAN_MADE, text, plan_version=plan.version, **ids)
            step.applied.insert(0, lambda: setattr(floor.state, "last_version", plan.version))
            if commit:
                try:
                    self.put_in_force(step, plan, **ids)
                    stored[0] = replace(plan, state=PlanState.COMMITTED)
                except Refused as refusal:
                    self.note(step, EventKind.PLAN_REJECTED, str(refusal),
                              plan_version=plan.version, **ids)  # fmt: skip
            elif approval:
                self.note(step, EventKind.APPROVAL_NEEDED, approval,
                          plan_version=plan.version, **ids)  # fmt: skip

        self.step(act)
        return stored[0]

    # Helpers ------------------------------------------------------------------------------------

    def machine(self, machine_id: str) -> Machine:
        """A known machine; raises Refused."""
        machine = self.floor.state.machines.get(machine_id)
        if machine is None:
            raise Refused(Reason.UNKNOWN_TARGET, f"no machine '{machine_id}'")
        return machine

    def job(self, job_id: str) -> Job:
        """A known job; raises Refused."""
        job = self.floor.state.jobs.get(job_id)
        if job is None:
            raise Refused(Reason.UNKNOWN_TARGET, f"no job '{job_id}'")
        return job

    def operation(self, job_id: str, operation_id: str) -> Operation:
        """A known operation; raises Refused."""
        operation = self.floor.operation((job_id, operation_id))
        if operation is None:
            raise Refused(Reason.UNKNOWN_TARGET, f"job '{job_id}' has no '{operation_id}'")
        return operation

    def plan(self, version: int) -> StoredPlan:
        """A stored plan; raises Refused."""
        plan = self.floor.plan(version) if version else None
        if plan is None:
            text = f"no plan {version}"
            raise Refused(Reason.UNKNOWN_TARGET, text)
        return plan

    def _same_version(self, expected: int) -> None:
        now = self.floor.version_in_force
        if expected != now:
            text = f"plan {now} is in force, expected {expected}"
            raise Refused(Reason.VERSION_MISMATCH, text)

    def assignment(self, key: tuple[str, str]) -> Assignment | None:
        """Of the plan in force."""
        plan = self.floor.in_force
        rows = () if plan is None else plan.assignments
        return next((a for a in rows if a.key == key), None)

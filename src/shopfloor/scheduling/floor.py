"""What the scheduler knows: machines, jobs, pins, plans, and what runs; all of it is journalled.

The state in memory is only ever changed after the journal has it, and is read back from there at
start. Durations in jobs are kept at full speed; `problem` scales those of machines that are slowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum

from shopfloor.scheduling.checker import check
from shopfloor.scheduling.codec import from_json, to_json
from shopfloor.scheduling.journal import Event, EventKind, Journal, Transaction
from shopfloor.scheduling.objective import Score
from shopfloor.scheduling.problem import (
    Assignment,
    Constraint,
    Job,
    JobState,
    Key,
    Machine,
    MachineState,
    Operation,
    OperationState,
    Problem,
    plan_sha256,
)

_PLANS_KEPT = 500


class PlanState(IntEnum):
    """Numbers of Plan.STATE_*."""

    UNKNOWN = 0
    DRAFT = 1
    COMMITTED = 2
    SUPERSEDED = 3
    ROLLED_BACK = 4


@dataclass(frozen=True)
class StoredPlan:
    """A plan with what it was made from."""

    version: int
    base_version: int
    state: PlanState
    stamp_ns: int
    problem: Problem
    assignments: tuple[Assignment, ...]
    score: Score
    stage: str
    baseline_rule: str = ""
    baseline_score: Score | None = None
    bound: float = float("inf")
    solve_ms: float = 0.0

    @property
    def sha256(self) -> str:
        """Hash over who runs what, where and when."""
        return plan_sha256(self.assignments)


@dataclass(frozen=True)
class Dispatch:
    """An operation that was given to its machine; it is in the journal before the machine knows."""

    dispatch_id: str
    plan_version: int
    assignment: Assignment
    caller: str
    command_id: str
    stamp_ns: int
    in_doubt: bool = False


@dataclass
class _State:
    machines: dict[str, Machine] = field(default_factory=dict)
    slowed: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    dispatches: dict[str, Dispatch] = field(default_factory=dict)
    frame: Problem | None = None
    in_force: StoredPlan | None = None
    last_version: int = 0


@dataclass(frozen=True)
class _Slowed:
    factor: float


class Floor:
    """The state, and how it becomes a problem.

    unknown_stop_ms: a stop without an expected end is taken to last this long from now.
    """

    def __init__(self, journal: Journal, unknown_stop_ms: int = 3_600_000) -> None:
        self.journal = journal
        self.unknown_stop_ms = unknown_stop_ms
        state = self.state = _State()
        state.machines = {k: from_json(Machine, v) for k, v in journal.items("machine").items()}
        state.jobs = {k: from_json(Job, v) for k, v in journal.items("job").items()}
        state.slowed = {k: from_json(_Slowed, v).factor for k, v in journal.items("slowed").items()}
        state.dispatches = {k: from_json(Dispatch, v) for k, v in journal.items("dispatch").items()}
        frame = journal.item("frame", "")
        state.frame = None if frame is None else from_json(Problem, frame)
        state.last_version = int(journal.item("number", "last_version") or 0)
        version = int(journal.item("number", "in_force") or 0)
        state.in_force = self.plan(version)

    # Reading ------------------------------------------------------------------------------------

    @property
    def in_force(self) -> StoredPlan | None:
        """The plan that is being carried out."""
        return self.state.in_force

    @property
    def version_in_force(self) -> int:
        """Its version, 0: none."""
        return self.state.in_force.version if self.state.in_force is not None else 0

    def plan(self, version: int) -> StoredPlan | None:
        """A plan by its version; 0: the one in force."""
        if not version:
            return self.state.in_force
        content = self.journal.item("plan", str(version))
        return None if content is None else from_json(StoredPlan, content)

    def operation(self, key: Key) -> Operation | None:
        """An operation by job and operation id."""
        job = self.state.jobs.get(key[0])
        rows = () if job is None else job.operations
        return next((o for o in rows if o.operation_id == key[1]), None)

    def problem(self, now: int, *, freeze_ms: int = 0) -> Problem | None:
        """What has to be planned now; None before any machine is known.

        freeze_ms: what the plan in force starts within it is kept, where it still can be.
        """
        state = self.state
        if state.frame is None:
            return None
        machines = tuple(
            self._machine(m, now + self.unknown_stop_ms) for m in state.machines.values()
        )
        jobs = tuple(
            self._job(j)
            for j in state.jobs.values()
            if j.state not in (JobState.DONE, JobState.CANCELLED)
        )
        running = tuple(self._running(d, now) for d in state.dispatches.values())
        problem = replace(state.frame, now=now, machines=machines, jobs=jobs, fixed=running)
        return self._frozen(problem, freeze_ms) if freeze_ms else problem

    def _machine(self, machine: Machine, until: int) -> Machine:
        factor = self.state.slowed.get(machine.machine_id, 1.0)
        if machine.is_stopped and machine.state_until is None:
            machine = replace(machine, state_until=until)
        return replace(machine, speed_factor=machine.speed_factor * factor)

    def _job(self, job: Job) -> Job:
        slowed = self.state.slowed
        done = {
            j.job_id
            for j in self.state.jobs.values()
            if j.state in (JobState.DONE, JobState.CANCELLED)
        }
        operations = []
        for o in job.operations:
            durations = tuple(
                max(round(d / slowed.get(m, 1.0)), 1)
                for m, d in zip(o.machine_ids, o.durations_ms, strict=True)
            )
            operations.append(replace(o, durations_ms=durations))
        predecessors = tuple(p for p in job.predecessors if p not in done)
        return replace(job, operations=tuple(operations), predecessors=predecessors)

    @staticmethod
    def _running(dispatch: Dispatch, now: int) -> Assignment:
        a = dispatch.assignment
        # what takes longer than planned is expected to end any moment
        return replace(a, end=max(a.end, now + 1), state=OperationState.RUNNING, frozen=True)

    def _frozen(self, problem: Problem, freeze_ms: int) -> Problem:
        """Keep what starts soon, as far as the rules still allow it."""
        plan = self.in_force
        if plan is None:
            return problem
        open_keys = {(j.job_id, o.operation_id) for j, o in problem.to_plan}
        soon = [
            replace(a, frozen=True)
            for a in plan.assignments
            if a.key in open_keys and problem.now <= a.start < problem.now + freeze_ms
        ]
        kept: list[Assignment] = []
        for a in sorted(soon, key=lambda a: a.start):
            trial = [*problem.fixed, *kept, a]
            there = {t.key for t in trial}
            before = problem.job_by_id[a.job_id].predecessors
            waits = any(j.job_id in before for j, o in problem.to_plan
                        if (j.job_id, o.operation_id) not in there)  # fmt: skip
            broken = [c for c in check(problem, trial) if (c.job_id, c.operation_id) in there]
            if not waits and not broken:
                kept.append(a)
        return replace(problem, fixed=(*problem.fixed, *kept))

    # Writing ------------------------------------------------------------------------------------

    def put_machine(self, t: Transaction, machine: Machine) -> None:
        """Write a machine."""
        t.put("machine", machine.machine_id, to_json(machine))

    def put_job(self, t: Transaction, job: Job) -> None:
        """Write a job."""
        t.put("job", job.job_id, to_json(job))

    def put_slowed(self, t: Transaction, machine_id: str, factor: float) -> None:
        """Write how much slower than planned a machine is."""
        t.put("slowed", machine_id, to_json(_Slowed(factor)))

    def put_dispatch(self, t: Transaction, dispatch: Dispatch) -> None:
        """Write a dispatch."""
        t.put("dispatch", dispatch.dispatch_id, to_json(dispatch))

    def put_plan(self, t: Transaction, plan: StoredPlan) -> None:
        """Write a plan."""
        t.put("plan", str(plan.version), to_json(plan))
        if plan.version > self.state.last_version:
            t.put("number", "last_version", str(plan.version))
            old = plan.version - _PLANS_KEPT
            if old != self.version_in_force:
                t.remove("plan", str(old))

    def put_in_force(self, t: Transaction, plan: StoredPlan, before: PlanState) -> None:
        """Write that a plan is in force; the one that was gets the state `before`."""
        old = self.in_force
        if old is not None and old.version != plan.version:
            self.put_plan(t, replace(old, state=before))
        self.put_plan(t, plan)
        t.put("number", "in_force", str(plan.version))

    def load(self, problem: Problem, stamp_ns: int, *, caller: str = "") -> list[Event]:
        """Take machines, jobs and all else from a validated problem; known ids are kept."""
        state = self.state
        machines = {m.machine_id: m for m in problem.machines if m.machine_id not in state.machines}
        jobs = {j.job_id: j for j in problem.jobs if j.job_id not in state.jobs}
        frame = replace(problem, machines=(), jobs=(), fixed=())
        with self.journal.transaction() as t:
            t.put("frame", "", to_json(frame))
            for machine in machines.values():
                self.put_machine(t, machine)
            for job in jobs.values():
                self.put_job(t, job)
                text = f"job {job.job_id}: {len(job.operations)} operations"
                t.event(
                    Event(EventKind.JOB_ADDED, stamp_ns, text, job_id=job.job_id, caller=caller)
                )
        state.frame = frame
        state.machines |= machines
        state.jobs |= jobs
        return t.events

    def known_otherwise(self, problem: Problem) -> list[str]:
        """Jobs of a problem that are known with another order, and in what; `load` keeps them."""
        found = []
        for told in problem.jobs:
            known = self.state.jobs.get(told.job_id)
            fields = [] if known is None else _differing(known, told)
            if fields:
                found.append(f"job {told.job_id} ({', '.join(fields)})")
        return found

    def is_current(self, plan: StoredPlan) -> list[Constraint]:
        """What forbids a plan now, as far as facts have changed since it was made."""
        problem = self.problem(plan.problem.now)
        if problem is None:
            return []
        wanted = {(j.job_id, o.operation_id) for j, o in problem.to_plan}
        facts = {a.key for a in problem.fixed}
        rest = [a for a in plan.assignments if a.key in wanted and a.key not in facts]
        return check(problem, [*problem.fixed, *rest])


def with_operation(job: Job, operation: Operation) -> Job:
    """The job with one operation replaced, and its state to match."""
    rows = tuple(
        operation if o.operation_id == operation.operation_id else o for o in job.operations
    )
    state = job.state
    if state in (JobState.WAITING, JobState.RUNNING):
        if all(o.state is OperationState.DONE for o in rows):
            state = JobState.DONE
        elif any(o.state in (OperationState.RUNNING, OperationState.DONE) for o in rows):
            state = JobState.RUNNING
    return replace(job, operations=rows, state=state)


def _differing(known: Job, told: Job) -> list[str]:
    """Names of what an order says differently; not what the floor itself changes."""
    fields = [name for name in ("release", "due", "due_is_hard", "quantity")
              if getattr(known, name) != getattr(told, name)]  # fmt: skip
    if not math.isclose(known.weight, told.weight, rel_tol=1e-6):  # it is float32 in a message
        fields.append("weight")
    if [o.operation_id for o in known.operations] != [o.operation_id for o in told.operations]:
        fields.append("operations")
    return fields


def is_up(machine: Machine) -> bool:
    """Whether work may be started on it."""
    return machine.state in (MachineState.UP, MachineState.DERATED)

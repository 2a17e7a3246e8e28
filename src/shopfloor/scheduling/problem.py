"""What a plan is made from, and what a plan is: machines, jobs, rules, assignments.

All times are whole milliseconds of ROS time; durations are whole milliseconds. Solvers, checker and
journal share this file and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from functools import cached_property

Key = tuple[str, str]
"""An operation: job_id and operation_id."""


class MachineKind(IntEnum):
    """Numbers of Machine.KIND_*."""

    UNKNOWN = 0
    PRODUCTION = 1
    RESOURCE = 2


class MachineState(IntEnum):
    """Numbers of Machine.STATE_*."""

    UNKNOWN = 0
    UP = 1
    DOWN = 2
    HELD = 3
    DERATED = 4


class JobState(IntEnum):
    """Numbers of Job.STATE_*."""

    UNKNOWN = 0
    WAITING = 1
    RUNNING = 2
    DONE = 3
    HELD = 4
    CANCELLED = 5


class OperationState(IntEnum):
    """Numbers of Operation.STATE_*."""

    UNKNOWN = 0
    WAITING = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4


class Rule(IntEnum):
    """Numbers of Constraint.KIND_*: what forbids or causes something in a plan."""

    UNKNOWN = 0
    RELEASE = 1
    DUE_DATE = 2
    PREDECESSOR = 3
    ELIGIBILITY = 4
    CAPACITY = 5
    RESOURCE = 6
    FORBIDDEN_PAIR = 7
    CALENDAR = 8
    DOWNTIME = 9
    MACHINE_STATE = 10
    SETUP = 11
    PIN = 12
    FROZEN = 13
    HOLD = 14
    HORIZON = 15
    OBJECTIVE = 16


@dataclass(frozen=True)
class Window:
    """[start, end) with a meaning given by the field that holds it."""

    start: int
    end: int
    value: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Constraint:
    """One rule in the terms of the problem; empty ids: none."""

    rule: Rule
    text: str
    job_id: str = ""
    operation_id: str = ""
    machine_id: str = ""
    other_id: str = ""
    window: Window | None = None

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.text}"


@dataclass(frozen=True)
class Machine:
    """A machine, or a shared resource that operations hold while they run elsewhere.

    calendar: when it may work, empty: always. state_until: expected end of DOWN, HELD or UNKNOWN;
    None: not known, so nothing is planned on it. forbidden_with: machines that may not run while
    this one runs; it counts both ways.
    """

    machine_id: str
    line: str = ""
    kind: MachineKind = MachineKind.PRODUCTION
    state: MachineState = MachineState.UP
    state_reason: str = ""
    state_until: int | None = None
    capacity: int = 1
    speed_factor: float = 1.0
    power_kw: float = 0.0
    idle_power_kw: float = 0.0
    calendar: tuple[Window, ...] = ()
    downtimes: tuple[Window, ...] = ()
    forbidden_with: tuple[str, ...] = ()

    @property
    def is_stopped(self) -> bool:
        """Whether it gets no new work in its present state."""
        return self.state not in (MachineState.UP, MachineState.DERATED)


@dataclass(frozen=True)
class Operation:
    """One step of a job. durations_ms[i] is the time on machine_ids[i] at its present speed."""

    operation_id: str
    machine_ids: tuple[str, ...]
    durations_ms: tuple[int, ...]
    standard_ms: int = 0
    predecessors: tuple[str, ...] = ()
    setup_family: str = ""
    resource_ids: tuple[str, ...] = ()
    state: OperationState = OperationState.WAITING
    pinned_machine: str = ""
    pinned_start: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it still has to be planned."""
        return self.state in (OperationState.WAITING, OperationState.FAILED)

    def duration_on(self, machine_id: str) -> int | None:
        """Milliseconds on that machine; None where it is not eligible."""
        if machine_id in self.machine_ids:
            return self.durations_ms[self.machine_ids.index(machine_id)]
        return None


@dataclass(frozen=True)
class Job:
    """An order. release None: at once; due None: no due date."""

    job_id: str
    operations: tuple[Operation, ...]
    product: str = ""
    quantity: int = 1
    release: int | None = None
    due: int | None = None
    due_is_hard: bool = False
    weight: float = 1.0
    state: JobState = JobState.WAITING
    predecessors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """One operation on one machine in [start, end), set-up at its beginning included."""

    job_id: str
    operation_id: str
    machine_id: str
    start: int
    end: int
    setup_ms: int = 0
    state: OperationState = OperationState.WAITING
    frozen: bool = False
    pinned: bool = False

    @property
    def key(self) -> Key:
        """Job and operation."""
        return (self.job_id, self.operation_id)


@dataclass(frozen=True)
class Weights:
    """J = utilisation * U - tardiness * T - energy * E; the terms stand in `objective`."""

    utilisation: float = 0.5
    tardiness: float = 0.35
    energy: float = 0.15


@dataclass(frozen=True)
class Problem:
    """All that a plan is made from. `fixed` operations keep machine, start and end."""

    now: int
    machines: tuple[Machine, ...]
    jobs: tuple[Job, ...]
    problem_id: str = ""
    horizon: int | None = None
    fixed: tuple[Assignment, ...] = ()
    setup_families: tuple[str, ...] = ()
    setup_ms: tuple[tuple[int, ...], ...] = ()
    tariff: tuple[Window, ...] = ()
    default_price: float = 0.0
    weights: Weights = field(default_factory=Weights)

    @cached_property
    def machine_by_id(self) -> Mapping[str, Machine]:
        """Machines and resources by id."""
        return {m.machine_id: m for m in self.machines}

    @cached_property
    def job_by_id(self) -> Mapping[str, Job]:
        """Jobs by id."""
        return {j.job_id: j for j in self.jobs}

    @cached_property
    def operation_by_key(self) -> Mapping[Key, Operation]:
        """Operations by job and operation id."""
        return {(j.job_id, o.operation_id): o for j in self.jobs for o in j.operations}

    @cached_property
    def fixed_by_key(self) -> Mapping[Key, Assignment]:
        """Fixed assignments by job and operation id."""
        return {a.key: a for a in self.fixed}

    @cached_property
    def forbidden_pairs(self) -> frozenset[tuple[str, str]]:
        """Pairs of machines that may not run at the same time, each in sorted order."""
        return frozenset(
            (min(m.machine_id, other), max(m.machine_id, other))
            for m in self.machines
            for other in m.forbidden_with
        )

    @cached_property
    def waiting_jobs(self) -> frozenset[str]:
        """Jobs that are left out: held, done or cancelled, or behind a held one."""
        out = {j.job_id for j in self.jobs if j.state not in (JobState.WAITING, JobState.RUNNING)}
        held = {j.job_id for j in self.jobs if j.state is JobState.HELD}
        changed = True
        while changed:
            more = {j.job_id for j in self.jobs if set(j.predecessors) & held} - held
            changed = bool(more)
            held |= more
        return frozenset(out | held)

    @cached_property
    def to_plan(self) -> tuple[tuple[Job, Operation], ...]:
        """The operations that a plan has to place, besides the fixed ones."""
        return tuple(
            (job, operation)
            for job in self.jobs
            if job.job_id not in self.waiting_jobs
            for operation in job.operations
            if operation.is_open and (job.job_id, operation.operation_id) not in self.fixed_by_key
        )

    @cached_property
    def sha256(self) -> str:
        """Hash over everything, 64 lower-case hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def setup_between(self, first: str, second: str) -> int:
        """Set-up from one family to the next, milliseconds; 0 where one of them is empty."""
        if not first or not second:
            return 0
        rows = self.setup_families
        return self.setup_ms[rows.index(first)][rows.index(second)]


def plan_sha256(assignments: Iterable[Assignment]) -> str:
    """Hash over who runs what, where and when; the order does not matter."""
    rows = sorted((a.job_id, a.operation_id, a.machine_id, a.start, a.end) for a in assignments)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def in_plan_order(assignments: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Sorted by start, then machine."""
    return tuple(sorted(assignments, key=lambda a: (a.start, a.machine_id, a.key)))


def changed_fraction(base: tuple[Assignment, ...], plan: tuple[Assignment, ...]) -> float:
    """Share of the operations in both plans that have another machine or another start."""
    places = {a.key: (a.machine_id, a.start) for a in base}
    both = [a for a in plan if a.key in places]
    moved = sum(places[a.key] != (a.machine_id, a.start) for a in both)
    return moved / len(both) if both else 0.0


class ProblemError(ValueError):
    """The problem contradicts itself; `problems` lists all that is wrong, one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = f" (and {len(problems) - 8} more)" if len(problems) > 8 else ""
        super().__init__("; ".join(problems[:8]) + more)

"""What every command stands on: lookups that refuse, and steps that are journalled before they act.

A step writes in one transaction; memory and listeners hear of it once it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.floor import Floor, StoredPlan
from shopfloor.scheduling.journal import Event, EventKind, Transaction
from shopfloor.scheduling.problem import Assignment, Job, Machine, Operation, Problem


@dataclass
class Step:
    """What a command does: writes in `transaction`, and `applied` once they are on disk."""

    transaction: Transaction
    applied: list[Callable[[], None]] = field(default_factory=list)


class Steps:
    """The floor, and how it changes. on_event hears of everything that is in the journal.

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

    def assignment(self, key: tuple[str, str]) -> Assignment | None:
        """Of the plan in force."""
        plan = self.floor.in_force
        rows = () if plan is None else plan.assignments
        return next((a for a in rows if a.key == key), None)

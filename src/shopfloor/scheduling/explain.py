"""Why an operation is where it is, why not elsewhere, and what differs between two plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Candidate, Decoder, by_start
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.objective import FAR
from shopfloor.scheduling.problem import (
    Assignment,
    Constraint,
    Job,
    Key,
    Operation,
    Problem,
    Rule,
)


@dataclass(frozen=True)
class Alternative:
    """The best place on another machine. delta: J there less J now, NaN: not allowed there."""

    machine_id: str
    assignment: Assignment | None
    delta: float
    blocking: Constraint


class ChangeKind(IntEnum):
    """Numbers of PlanChange.KIND_*."""

    ADDED = 1
    REMOVED = 2
    MACHINE = 3
    EARLIER = 4
    LATER = 5


@dataclass(frozen=True)
class Change:
    """The difference of two plans in one operation."""

    kind: ChangeKind
    before: Assignment | None
    after: Assignment | None


def diff(first: Sequence[Assignment], second: Sequence[Assignment]) -> list[Change]:
    """What differs, by start in the second plan; what is only in the first comes last."""
    before = {a.key: a for a in first}
    changes = []
    for a in sorted(second, key=lambda a: (a.start, a.machine_id)):
        old = before.pop(a.key, None)
        if old is None:
            changes.append(Change(ChangeKind.ADDED, None, a))
        elif old.machine_id != a.machine_id:
            changes.append(Change(ChangeKind.MACHINE, old, a))
        elif old.start != a.start:
            kind = ChangeKind.EARLIER if a.start < old.start else ChangeKind.LATER
            changes.append(Change(kind, old, a))
    changes += [Change(ChangeKind.REMOVED, a, None) for a in before.values()]
    return changes


def explain(
    problem: Problem, plan: Sequence[Assignment], key: Key, other_machine: str = ""
) -> tuple[str, list[Alternative]]:
    """The answer in words, and the alternatives: `other_machine`, or every other eligible one.

    Each alternative is planned through: the operation goes there, the rest of the plan makes room
    in its present order, and J is compared. Raises KeyError where the plan has no such operation.
    """
    present = next((a for a in plan if a.key == key), None)
    if present is None or key not in problem.operation_by_key:
        raise KeyError(f"no operation {'/'.join(key)} in this plan")
    job = problem.job_by_id[key[0]]
    operation = problem.operation_by_key[key]
    names = [other_machine] if other_machine else list(operation.machine_ids)
    names = [name for name in names if name != present.machine_id]
    decoder = Decoder(Model(problem))
    candidate = decoder.candidate_of(plan)
    rows = [_alternative(decoder, candidate, job, operation, present, name) for name in names]
    return _words(operation, present, rows), rows


def _alternative(
    decoder: Decoder,
    candidate: Candidate | None,
    job: Job,
    operation: Operation,
    present: Assignment,
    name: str,
) -> Alternative:
    model = decoder.model

    def forbidden(rule: Rule, text: str) -> Alternative:
        constraint = Constraint(rule, text, *present.key, name)
        return Alternative(name, None, math.nan, constraint)

    if name not in operation.machine_ids:
        return forbidden(Rule.ELIGIBILITY, f"{name} is not eligible")
    if operation.pinned_machine:
        return forbidden(Rule.PIN, f"is pinned to {operation.pinned_machine}")
    if present.key not in model.index_of or candidate is None:
        return forbidden(Rule.FROZEN, "runs or is frozen")
    i = model.index_of[present.key]
    m = model.machine_index[name]
    now = decoder.decode(candidate)
    other = candidate.copy()
    other.choice[i] = next(k for k, option in enumerate(model.options[i]) if option[0] == m)
    other.order = by_start(now, other.order)
    # what came before it stays, what comes after makes room
    later = {k for k in range(model.n) if now.start[k] >= now.start[i]}
    other.not_before = [0 if k in later else t for k, t in enumerate(candidate.not_before)]
    there = decoder.decode(other)
    if there.makespan >= FAR:
        machine = model.problem.machine_by_id[name]
        return forbidden(Rule.MACHINE_STATE, f"{name} is {machine.state.name} for good")
    if there.violation:
        return forbidden(Rule.DUE_DATE, "a hard due date or a pin would be missed")
    moved = next(a for a in decoder.assignments(there) if a.key == present.key)
    delta = there.value - now.value
    blocking = _blocking(model.problem, decoder.assignments(now), present, moved, delta)
    return Alternative(name, moved, delta, blocking)


_PLACE = (
    Rule.MACHINE_STATE, Rule.DOWNTIME, Rule.CALENDAR, Rule.FORBIDDEN_PAIR, Rule.RESOURCE,
    Rule.CAPACITY, Rule.SETUP,
)  # fmt: skip
"""Rules that can keep an operation from a place, the one that is hardest to change first."""


def _blocking(
    problem: Problem,
    plan: Sequence[Assignment],
    present: Assignment,
    moved: Assignment,
    delta: float,
) -> Constraint:
    """The rule that keeps it from starting there as early as it starts now; else the objective."""
    where = (*present.key, moved.machine_id)
    if moved.start <= present.start:
        text = f"allowed, but J changes by {delta:+.4f}"
        return Constraint(Rule.OBJECTIVE, text, *where)
    later = f"free {(moved.start - present.start) / 1000:.0f} s later (J {delta:+.4f})"
    length = moved.end - moved.start
    there = replace(moved, start=present.start, end=present.start + length)
    # What starts after it would make room; what runs by then does not.
    others = [a for a in plan if a.key != present.key and a.start < present.start]
    broken = [c for c in check(problem, [*others, there]) if c.rule in _PLACE]
    if not broken:
        return Constraint(Rule.CAPACITY, f"{moved.machine_id} is {later}", *where)
    first = min(broken, key=lambda c: _PLACE.index(c.rule))
    window = next(
        (w for w in problem.machine_by_id[moved.machine_id].downtimes
         if first.rule is Rule.DOWNTIME and w.start < there.end and there.start < w.end),
        None,
    )  # fmt: skip
    return Constraint(first.rule, f"{first.text}; {later}", *where, first.other_id, window)


def _words(operation: Operation, present: Assignment, rows: list[Alternative]) -> str:
    if not rows:
        return f"{present.machine_id} is the only machine for it"
    better = [r for r in rows if r.delta > 0]
    if better:
        best = max(better, key=lambda r: r.delta)
        return (
            f"{best.machine_id} would be better: J {best.delta:+.4f}; a longer search may find it"
        )
    allowed = [r for r in rows if not math.isnan(r.delta)]
    if not allowed:
        return f"no other machine is allowed: {rows[0].blocking.text}"
    best = max(allowed, key=lambda r: r.delta)
    return f"the next best is {best.machine_id}: J {best.delta:+.4f}; {best.blocking.text}"

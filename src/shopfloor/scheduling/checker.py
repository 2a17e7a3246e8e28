"""The independent checker: whether a plan keeps every hard rule.

Written apart from the solvers, on purpose: it shares only `problem` with them, compares every pair
in the plainest way, and believes nothing that a solver says. Facts (two fixed operations that
clash) are not the plan's fault; every rule that touches an operation that was planned counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from shopfloor.scheduling.problem import (
    Assignment,
    Constraint,
    Job,
    Machine,
    MachineState,
    Operation,
    OperationState,
    Problem,
    Rule,
    Window,
)


def check(problem: Problem, assignments: Sequence[Assignment]) -> list[Constraint]:
    """Every broken rule, in words; empty: the plan is valid."""
    found = [*_complete(problem, assignments)]
    known = [
        a
        for a in assignments
        if a.key in problem.operation_by_key and a.machine_id in problem.machine_by_id
    ]
    for assignment in known:
        if assignment.key not in problem.fixed_by_key:
            found += _alone(problem, assignment)
    found += _order(problem, known)
    by_machine: dict[str, list[Assignment]] = defaultdict(list)
    for a in sorted(known, key=lambda a: (a.start, a.end)):
        by_machine[a.machine_id].append(a)
        for resource in problem.operation_by_key[a.key].resource_ids:
            by_machine[resource].append(a)
    for machine_id, users in by_machine.items():
        machine = problem.machine_by_id[machine_id]
        found += _capacity(problem, machine, users)
        found += _setups(problem, machine, users)
    for first, second in sorted(problem.forbidden_pairs):
        found += _pair(problem, by_machine.get(first, []), by_machine.get(second, []))
    found += _jobs(problem, known)
    return found


def _broken(rule: Rule, a: Assignment, text: str, other: str = "") -> Constraint:
    words = f"job {a.job_id} operation {a.operation_id} on {a.machine_id}: {text}"
    return Constraint(rule, words, a.job_id, a.operation_id, a.machine_id, other)


def _complete(problem: Problem, assignments: Sequence[Assignment]) -> Iterable[Constraint]:
    wanted = {(job.job_id, operation.operation_id) for job, operation in problem.to_plan}
    wanted |= set(problem.fixed_by_key)
    seen = set()
    for a in assignments:
        if a.key not in wanted:
            yield _broken(Rule.HOLD, a, "is not to be planned")
        if a.machine_id not in problem.machine_by_id:
            yield _broken(Rule.ELIGIBILITY, a, "there is no such machine")
        if a.key in seen:
            yield _broken(Rule.CAPACITY, a, "is planned twice")
        seen.add(a.key)
        fact = problem.fixed_by_key.get(a.key)
        if fact and (a.machine_id, a.start, a.end) != (fact.machine_id, fact.start, fact.end):
            yield _broken(Rule.FROZEN, a, "is frozen and was moved")
    for job_id, operation_id in sorted(wanted - seen):
        text = f"job {job_id} operation {operation_id} is not planned"
        yield Constraint(Rule.UNKNOWN, text, job_id, operation_id)


def _alone(problem: Problem, a: Assignment) -> Iterable[Constraint]:
    """Rules that an assignment breaks without any other."""
    job: Job = problem.job_by_id[a.job_id]
    operation: Operation = problem.operation_by_key[a.key]
    machine = problem.machine_by_id[a.machine_id]
    duration = operation.duration_on(a.machine_id)
    if duration is None:
        yield _broken(Rule.ELIGIBILITY, a, "the machine is not eligible")
    elif a.end - a.start != duration + a.setup_ms:
        yield _broken(Rule.ELIGIBILITY, a, f"lasts {a.end - a.start} ms, not {duration} + set-up")
    if a.setup_ms < 0:
        yield _broken(Rule.SETUP, a, "set-up is negative")
    if a.start < problem.now:
        yield _broken(Rule.RELEASE, a, "starts in the past")
    if job.release is not None and a.start < job.release:
        yield _broken(Rule.RELEASE, a, "starts before its release")
    if operation.pinned_machine and a.machine_id != operation.pinned_machine:
        yield _broken(Rule.PIN, a, f"is pinned to {operation.pinned_machine}")
    if operation.pinned_start is not None and a.start != operation.pinned_start:
        yield _broken(Rule.PIN, a, f"starts at {a.start}, pinned to {operation.pinned_start}")
    if problem.horizon is not None and a.end > problem.horizon:
        yield _broken(Rule.HORIZON, a, "ends after the horizon")
    for place in (machine, *(problem.machine_by_id[r] for r in operation.resource_ids)):
        yield from _place(a, place)


def _place(a: Assignment, machine: Machine) -> Iterable[Constraint]:
    for window in machine.downtimes:
        if a.start < window.end and window.start < a.end:
            text = f"{machine.machine_id} is down ({window.label or 'downtime'})"
            yield _broken(Rule.DOWNTIME, a, text, machine.machine_id)
    if machine.calendar and not _inside(a, machine.calendar):
        yield _broken(Rule.CALENDAR, a, f"outside the calendar of {machine.machine_id}")
    stopped = machine.state in (MachineState.DOWN, MachineState.HELD, MachineState.UNKNOWN)
    if stopped and (machine.state_until is None or a.start < machine.state_until):
        text = f"{machine.machine_id} is {machine.state.name}"
        yield _broken(Rule.MACHINE_STATE, a, text, machine.machine_id)


def _inside(a: Assignment, calendar: Iterable[Window]) -> bool:
    reached = a.start
    for window in sorted(calendar, key=lambda w: w.start):
        if window.start <= reached < window.end:
            reached = window.end
    return reached >= a.end


def _order(problem: Problem, assignments: Sequence[Assignment]) -> Iterable[Constraint]:
    by_key = {a.key: a for a in assignments}
    by_job: dict[str, list[Assignment]] = defaultdict(list)
    for a in assignments:
        by_job[a.job_id].append(a)
    for a in assignments:
        operation = problem.operation_by_key[a.key]
        before = [by_key[key] for o in operation.predecessors if (key := (a.job_id, o)) in by_key]
        for job_id in problem.job_by_id[a.job_id].predecessors:
            before += by_job[job_id]
        for other in before:
            both_fixed = a.key in problem.fixed_by_key and other.key in problem.fixed_by_key
            if other.end > a.start and not both_fixed:
                text = f"starts before {other.job_id}/{other.operation_id} ends"
                yield _broken(Rule.PREDECESSOR, a, text, other.job_id)
        for name in operation.predecessors:
            open_one = problem.operation_by_key[(a.job_id, name)]
            if (a.job_id, name) not in by_key and open_one.state is not OperationState.DONE:
                yield _broken(Rule.PREDECESSOR, a, f"{name} is neither planned nor done")


def _capacity(
    problem: Problem, machine: Machine, users: Sequence[Assignment]
) -> Iterable[Constraint]:
    rule = Rule.CAPACITY if machine.machine_id == users[0].machine_id else Rule.RESOURCE
    for a in users:
        # the load is highest at a start
        there = [b for b in users if b.start <= a.start < b.end]
        facts = all(b.key in problem.fixed_by_key for b in there)
        if len(there) > machine.capacity and not facts:
            others = ", ".join(f"{b.job_id}/{b.operation_id}" for b in there if b is not a)
            text = f"{machine.machine_id} is taken by {others}"
            yield _broken(rule, a, text, machine.machine_id)


def _setups(
    problem: Problem, machine: Machine, users: Sequence[Assignment]
) -> Iterable[Constraint]:
    families = [
        (a, problem.operation_by_key[a.key].setup_family)
        for a in users
        if a.machine_id == machine.machine_id and problem.operation_by_key[a.key].setup_family
    ]
    for (first, family), (second, following) in pairwise(families):
        needed = problem.setup_between(family, following)
        facts = first.key in problem.fixed_by_key and second.key in problem.fixed_by_key
        if second.setup_ms < needed and not facts:
            text = f"set-up {second.setup_ms} ms, needs {needed} ms from {family} to {following}"
            yield _broken(Rule.SETUP, second, text, first.job_id)


def _pair(
    problem: Problem, first: Sequence[Assignment], second: Sequence[Assignment]
) -> Iterable[Constraint]:
    for a in first:
        for b in second:
            facts = a.key in problem.fixed_by_key and b.key in problem.fixed_by_key
            if a.start < b.end and b.start < a.end and not facts:
                text = f"runs while {b.machine_id} runs {b.job_id}/{b.operation_id}"
                yield _broken(Rule.FORBIDDEN_PAIR, a, text, b.machine_id)


def _jobs(problem: Problem, assignments: Sequence[Assignment]) -> Iterable[Constraint]:
    for a in assignments:
        job = problem.job_by_id[a.job_id]
        is_late = job.due_is_hard and job.due is not None and a.end > job.due
        if is_late and a.key not in problem.fixed_by_key:
            yield _broken(Rule.DUE_DATE, a, "ends after its hard due date")

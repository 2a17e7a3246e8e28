"""The checker sees every rule that a plan breaks: a plan that keeps all, broken in one way each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_problems import NOW, random_problem

from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.problem import (
    Assignment,
    Job,
    JobState,
    Machine,
    MachineKind,
    MachineState,
    Operation,
    OperationState,
    Problem,
    Rule,
    Window,
)
from shopfloor.scheduling.rules import dispatch


def at(second: int) -> int:
    return NOW + 1000 * second


def one(job_id: str, **fields: object) -> Job:
    """A job of one operation of 10 s on m1 or m2."""
    values: dict[str, object] = {"machine_ids": ("m1", "m2"), "durations_ms": (10_000, 10_000)}
    operation = Operation("a", **{**values, **fields})  # type: ignore[arg-type]
    return Job(job_id, (operation,))


MACHINES = (
    Machine("m1", downtimes=(Window(at(100), at(110), label="service"),)),
    Machine("m2", forbidden_with=("m3",)),
    Machine("m3", calendar=(Window(at(0), at(50)), Window(at(60), at(90)))),
    Machine("m4", state=MachineState.DOWN, state_until=at(30)),
    Machine("wide", capacity=2),
    Machine("camera", kind=MachineKind.RESOURCE, downtimes=(Window(at(80), at(85)),)),
)
JOBS = (
    one("released"),
    one("late"),
    one("pinned", pinned_machine="m1"),
    one("timed", pinned_start=at(40)),
    one("red", machine_ids=("m1",), durations_ms=(10_000,), setup_family="red"),
    one("blue", machine_ids=("m1",), durations_ms=(10_000,), setup_family="blue"),
    one("seen", machine_ids=("m2",), durations_ms=(10_000,), resource_ids=("camera",)),
    one("seen too", machine_ids=("m4",), durations_ms=(10_000,), resource_ids=("camera",)),
    one("shift", machine_ids=("m3",), durations_ms=(10_000,)),
    *(one(f"wide {n}", machine_ids=("wide",), durations_ms=(10_000,)) for n in range(3)),
    one("fixed", machine_ids=("wide",), durations_ms=(10_000,), state=OperationState.RUNNING),
    Job("after", one("x").operations, predecessors=("released",)),
    Job("two", (
        Operation("a", ("m4",), (10_000,)), Operation("b", ("m4",), (10_000,), predecessors=("a",)),
    )),
    replace(one("held"), state=JobState.HELD),
)  # fmt: skip
CHANGED = {"released": {"release": at(5)}, "late": {"due": at(200), "due_is_hard": True}}
FIXED = Assignment("fixed", "a", "wide", at(-5), at(5), state=OperationState.RUNNING, frozen=True)
PROBLEM = Problem(
    NOW,
    MACHINES,
    tuple(replace(job, **CHANGED.get(job.job_id, {})) for job in JOBS),  # type: ignore[arg-type]
    horizon=at(1000),
    fixed=(FIXED,),
    setup_families=("red", "blue"),
    setup_ms=((0, 3000), (4000, 0)),
)


def put(
    job_id: str, machine_id: str, start: int, setup: int = 0, operation: str = "a"
) -> Assignment:
    end = at(start + 10 + setup)
    return Assignment(job_id, operation, machine_id, at(start), end, 1000 * setup)


GOOD = (
    FIXED,
    put("released", "m1", 5),
    put("pinned", "m1", 15),
    put("red", "m1", 25),
    put("blue", "m1", 35, setup=3),
    put("timed", "m2", 40),
    put("late", "m2", 190),
    put("seen", "m2", 60),
    put("seen too", "m4", 50),
    put("shift", "m3", 70),
    put("wide 0", "wide", 10),
    put("wide 1", "wide", 10),
    put("wide 2", "wide", 20),
    put("after", "m1", 120),
    put("two", "m4", 30),
    put("two", "m4", 40, operation="b"),
)


def moved(job_id: str, machine_id: str, start: int, setup: int = 0) -> tuple[Assignment, ...]:
    """The good plan with the one operation of a job elsewhere."""
    new = put(job_id, machine_id, start, setup)
    return tuple(new if a.job_id == job_id and a.operation_id == "a" else a for a in GOOD)


def changed(job_id: str, **fields: object) -> tuple[Assignment, ...]:
    return tuple(
        replace(a, **fields) if a.job_id == job_id and a.operation_id == "a" else a  # type: ignore[arg-type]
        for a in GOOD
    )


def test_the_good_plan_is_good() -> None:
    assert check(PROBLEM, GOOD) == []


@pytest.mark.parametrize(
    ("rule", "plan"),
    [
        (Rule.UNKNOWN, GOOD[:-1]),
        (Rule.CAPACITY, (*GOOD, put("late", "m2", 210))),
        (Rule.HOLD, (*GOOD, put("held", "m2", 300))),
        (Rule.FROZEN, changed("fixed", start=at(-4), end=at(6))),
        (Rule.FROZEN, changed("fixed", machine_id="m2")),
        (Rule.ELIGIBILITY, moved("released", "m3", 5)),
        (Rule.ELIGIBILITY, changed("late", end=at(199))),
        (Rule.SETUP, changed("late", start=at(191), setup_ms=-1000)),
        (Rule.RELEASE, moved("released", "m1", 4)),
        (Rule.RELEASE, changed("wide 2", start=at(-1), end=at(9))),
        (Rule.DUE_DATE, moved("late", "m2", 191)),
        (Rule.PIN, moved("pinned", "m2", 15)),
        (Rule.PIN, moved("timed", "m2", 41)),
        (Rule.HORIZON, moved("after", "m1", 991)),
        (Rule.DOWNTIME, moved("after", "m1", 91)),
        (Rule.DOWNTIME, moved("seen", "m2", 75)),
        (Rule.CALENDAR, moved("shift", "m3", 45)),
        (Rule.CALENDAR, moved("shift", "m3", 81)),
        (Rule.MACHINE_STATE, moved("two", "m4", 29)),
        (Rule.PREDECESSOR, moved("two", "m4", 31)),
        (Rule.PREDECESSOR, moved("after", "m2", 14)),
        (Rule.CAPACITY, moved("pinned", "m1", 14)),
        (Rule.CAPACITY, moved("wide 2", "wide", 19)),
        (Rule.ELIGIBILITY, changed("late", machine_id="m9")),
        (Rule.RESOURCE, moved("seen too", "m4", 51)),
        (Rule.SETUP, changed("blue", setup_ms=2000, end=at(47))),
        (Rule.FORBIDDEN_PAIR, moved("shift", "m3", 69)),
    ],
)  # fmt: skip
def test_what_is_broken_is_seen(rule: Rule, plan: tuple[Assignment, ...]) -> None:
    broken = check(PROBLEM, plan)
    assert rule in {c.rule for c in broken}, broken
    assert all(c.text for c in broken)


Break = Callable[[Assignment], Assignment]
BREAKS: dict[str, Break] = {
    "shorter": lambda a: replace(a, end=a.end - 1),
    "longer": lambda a: replace(a, end=a.end + 1),
    "into the past": lambda a: replace(a, start=NOW - 1, end=NOW - 1 + a.end - a.start),
    "onto a resource": lambda a: replace(a, machine_id="camera"),
    "onto no machine": lambda a: replace(a, machine_id="m99"),
}


@pytest.mark.parametrize("name", BREAKS)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_random_plan_with_one_change_that_cannot_be_right(name: str, seed: int, at: int) -> None:
    problem = random_problem(seed)
    decoder = Decoder(Model(problem))
    plan = decoder.assignments(decoder.decode(dispatch(decoder.model, "EDD")))
    free = [a for a in plan if a.key not in problem.fixed_by_key]
    if not free:
        return
    target = free[at % len(free)]
    broken = [BREAKS[name](a) if a is target else a for a in plan]
    assert any(c.job_id == target.job_id for c in check(problem, broken))
    assert check(problem, [a for a in plan if a is not target])


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_two_operations_in_one_place_are_seen(seed: int) -> None:
    problem = random_problem(seed)
    decoder = Decoder(Model(problem))
    plan = decoder.assignments(decoder.decode(dispatch(decoder.model, "EDD")))
    narrow = {m.machine_id for m in problem.machines if m.capacity == 1}
    for first in plan:
        for second in plan:
            if second.key in problem.fixed_by_key or first.key == second.key:
                continue
            if first.machine_id == second.machine_id and first.machine_id in narrow:
                length = second.end - second.start
                onto = replace(second, start=first.start, end=first.start + length)
                rows = [onto if a is second else a for a in plan]
                assert Rule.CAPACITY in {c.rule for c in check(problem, rows)}
                return

"""Solvers against the checker: every plan keeps every rule, and is never worse than the hint."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_problems import NOW, random_problem

from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.local_search import Found, improve
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.problem import changed_fraction
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.repair import repair
from shopfloor.scheduling.rules import LEAST_LOAD, RULES, dispatch
from shopfloor.scheduling.solver import solve
from shopfloor.scheduling.validation import validate
from shopfloor.sim.orders import factory

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_every_rule_makes_a_valid_plan(seed: int) -> None:
    problem = random_problem(seed)
    validate(problem)
    decoder = Decoder(Model(problem))
    for rule in (*RULES, LEAST_LOAD):
        schedule = decoder.decode(dispatch(decoder.model, rule))
        plan = decoder.assignments(schedule)
        assert check(problem, plan) == []
        score = decoder.model.objective.score(plan)
        assert score.objective == pytest.approx(schedule.value)
        assert 0.0 <= score.utilisation <= 1.0
        assert score.energy >= 0.0


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_annealing_stays_valid_and_never_gets_worse(seed: int) -> None:
    problem = random_problem(seed)
    decoder = Decoder(Model(problem))
    candidate = dispatch(decoder.model, "EDD")
    start = Found(candidate, decoder.decode(candidate))
    ticks = iter(range(10_000))
    found = improve(decoder, start, random.Random(seed), 60, lambda _: None, lambda: next(ticks))
    assert check(problem, decoder.assignments(found.schedule)) == []
    assert found.schedule.rank >= start.schedule.rank


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_repair_of_a_plan_that_still_fits_changes_nothing(seed: int) -> None:
    problem = random_problem(seed)
    decoder = Decoder(Model(problem))
    plan = decoder.assignments(decoder.decode(dispatch(decoder.model, "SLACK")))
    again = Decoder(Model(problem, Base(plan, 1.0)))
    schedule = again.decode(repair(again, plan))
    assert changed_fraction(plan, again.assignments(schedule)) == 0.0


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_cp_sat_neighbourhoods_decode_to_valid_plans(seed: int) -> None:
    from shopfloor.scheduling import large_neighbourhood

    problem = random_problem(seed)
    decoder = Decoder(Model(problem))
    candidate = dispatch(decoder.model, "SPT")
    start = Found(candidate, decoder.decode(candidate))
    deadline = time.monotonic() + 0.3
    found = large_neighbourhood.search(decoder, start, random.Random(1), deadline, lambda _: None)
    assert check(problem, decoder.assignments(found.schedule)) == []
    assert found.schedule.rank >= start.schedule.rank


def test_solve_ends_with_a_checked_plan_no_worse_than_any_rule() -> None:
    problem = from_data(factory(1), NOW)
    seen = []
    solution = solve(problem, 2.0, on_incumbent=seen.append)
    assert solution.best is not None and solution.baseline is not None
    assert solution.refused == 0
    assert check(problem, solution.best.assignments) == []
    assert solution.best.value >= solution.baseline.objective
    assert [i.value for i in seen] == sorted(i.value for i in seen)


def test_cancel_ends_the_processes_at_once() -> None:
    problem = from_data(factory(2), NOW)
    cancel = threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    began = time.monotonic()
    solution = solve(problem, 60.0, cancel=cancel)
    assert time.monotonic() - began < 20.0
    assert solution.cancelled
    assert solution.best is not None


def test_never_less_than_the_hint() -> None:
    problem = from_data(factory(3), NOW)
    good = solve(problem, 1.0).best
    assert good is not None
    again = solve(problem, 0.05, hint=good.assignments).best
    assert again is not None and again.value >= good.value

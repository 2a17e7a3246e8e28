"""The bound of J: no plan of anybody beats it, and what meets it is proven."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_problems import random_problem

from shopfloor.scheduling.bound import earliest_ends, least_makespan, objective_bound
from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Candidate, Decoder
from shopfloor.scheduling.job_shop_files import job_shop, read_job_shop
from shopfloor.scheduling.local_search import Found, improve
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.rules import LEAST_LOAD, RULES, dispatch
from shopfloor.scheduling.solver import solve


@given(st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_no_plan_beats_the_bound(seed: int) -> None:
    decoder = Decoder(Model(random_problem(seed)))
    model = decoder.model
    bound, ends = objective_bound(model), earliest_ends(model)
    shortest = least_makespan(model, ends)
    for rule in (*RULES, LEAST_LOAD):
        candidate = dispatch(model, rule)
        start = Found(candidate, decoder.decode(candidate))
        clock = iter(range(10_000)).__next__
        found = improve(decoder, start, random.Random(seed), 20, lambda _: None, clock).schedule
        assert found.value <= bound + 1e-9
        assert found.makespan >= shortest
        assert all(end >= earliest for end, earliest in zip(found.end, ends, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_small_job_shop_is_proven_and_really_best(seed: int) -> None:
    rng = random.Random(seed)
    orders = [rng.sample(range(3), 3) for _ in range(3)]
    times = [[rng.randint(1, 9) for _ in range(3)] for _ in range(3)]
    problem = job_shop("small", times, orders)
    solution = solve(problem, 60.0)
    assert solution.proven and solution.best is not None
    assert solution.bound == pytest.approx(solution.best.score.objective)
    decoder = Decoder(Model(problem))
    shortest = min(
        decoder.decode(Candidate(order, [0] * 9, [0] * 9)).makespan for order in _orders()
    )
    assert solution.best.score.makespan_s == shortest / 1000.0


def _orders() -> list[list[int]]:
    """Every interleaving of three jobs of three operations, in the order of each job."""
    turns = set(permutations([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    found = []
    for turn in turns:
        seen = [0, 0, 0]
        order = []
        for job in turn:
            order.append(3 * job + seen[job])
            seen[job] += 1
        found.append(order)
    return found


def test_a_plan_that_meets_the_bound_ends_the_search_at_once() -> None:
    solution = solve(job_shop("one", [[5, 3]], [[0, 1]]), 3600.0)
    assert solution.proven
    assert "search" not in solution.stages_ms


def test_a_flexible_job_shop_ends_valid_and_within_its_bound() -> None:
    text = "3 2\n2 2 1 3 2 5 1 2 4\n2 1 1 4 2 1 6 2 3\n1 2 1 5 2 2\n"
    problem = read_job_shop("flexible", text)
    solution = solve(problem, 4.0)
    assert solution.best is not None and solution.baseline is not None
    assert solution.refused == 0 and check(problem, solution.best.assignments) == []
    assert solution.baseline.objective <= solution.best.value <= solution.bound + 1e-9

"""Planning by a number of moves, as a replay does: the same inputs, the same plan on every run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling_problems import NOW, random_problem

from shopfloor.scheduling.checker import check
from shopfloor.scheduling.model import Base
from shopfloor.scheduling.planning import Request
from shopfloor.scheduling.problem import Job, Machine, Operation, Problem, Window, plan_sha256
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.solver import Incumbent, Solution, solve
from shopfloor.sim.orders import factory

MOVES = 300
IN_A_PROCESS = """
import json, sys
from shopfloor.scheduling.problem import plan_sha256
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.solver import solve
from shopfloor.sim.orders import factory
found = solve(from_data(factory(1, jobs=12), 1000), 0.0, moves=300).best
print(json.dumps([plan_sha256(found.assignments), found.value.hex(), found.stage]))
assert "ortools" not in sys.modules, "CP-SAT was asked"
"""


def shop() -> Problem:
    return from_data(factory(1, jobs=12), NOW)


def planned(problem: Problem, moves: int = MOVES) -> tuple[Solution, list[Incumbent]]:
    seen: list[Incumbent] = []
    return solve(problem, 5.0, on_incumbent=seen.append, moves=moves), seen


def test_no_clock_is_read_and_no_thread_or_process_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a plan in moves depends on the computer")

    problem = shop()
    with monkeypatch.context() as patch:
        for name in ("time", "time_ns", "perf_counter", "perf_counter_ns", "sleep",
                     "monotonic", "monotonic_ns", "process_time", "thread_time"):  # fmt: skip
            patch.setattr(time, name, refuse)
        patch.setattr(subprocess.Popen, "__init__", refuse)
        patch.setattr(threading.Thread, "start", refuse)
        first, again = planned(problem), planned(problem)
        with pytest.raises(AssertionError, match="depends on the computer"):
            solve(problem, 1.0)
    solution, seen = first
    assert first == again
    assert solution.best is not None and solution.baseline is not None
    assert check(problem, solution.best.assignments) == []
    assert solution.best.stage == "local search, 300 moves"
    assert solution.best.value > solution.baseline.objective
    assert [i.value for i in seen] == sorted(i.value for i in seen)
    assert set(solution.stages_ms.values()) == {0.0} == {i.elapsed_s for i in seen}


def test_threads_side_by_side_do_not_disturb_each_other() -> None:
    problem = shop()
    alone = planned(problem)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(planned, [problem] * 3))
    finally:
        sys.setswitchinterval(interval)
    assert together == [alone] * 3


def test_another_order_in_sets_does_not_show_and_cp_sat_is_not_asked() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "22", "333")
    }
    (text,) = found
    assert "moves" in json.loads(text)[2]


def test_seed_moves_and_stability_weight_decide_the_plan() -> None:
    problem = shop()

    def plan(seed: int = 1, moves: int = MOVES, stability: float = 0.2) -> str:
        base = Base(first.assignments, stability)
        best = solve(broken, 0.0, base=base, keep_base=True, seed=seed, moves=moves).best
        assert best is not None
        return plan_sha256(best.assignments)

    first = planned(problem)[0].best
    assert first is not None
    busy = max(first.assignments, key=lambda a: a.end - a.start).machine_id
    stop = Window(NOW + 600_000, NOW + 2_400_000, label="maintenance")
    machines = [
        replace(m, downtimes=(*m.downtimes, stop)) if m.machine_id == busy else m
        for m in problem.machines
    ]
    broken = replace(problem, machines=tuple(machines))
    assert plan() == plan()
    assert len({plan(stability=0.0), plan(seed=2, stability=0.0), plan(moves=0)}) == 3
    assert plan(stability=0.0) != plan(stability=10.0)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_random_problems_give_valid_plans_twice_the_same(seed: int) -> None:
    problem = random_problem(seed)
    first, again = planned(problem, 40), planned(problem, 40)
    assert first == again
    assert first[0].best is not None and first[0].refused == 0
    assert check(problem, first[0].best.assignments) == []


def test_where_no_plan_keeps_the_rules_there_is_none_and_nobody_asks_why() -> None:
    job = Job("j", (Operation("o", ("m",), (5000,)),), due=NOW + 1000, due_is_hard=True)
    solution = solve(Problem(NOW, (Machine("m"),), (job,)), 5.0, moves=MOVES)
    assert solution.best is None
    assert solution.violations and not solution.conflicts


def test_a_budget_of_seconds_becomes_moves_within_bounds() -> None:
    def request(budget_s: float, jobs: int) -> Request:
        problem = from_data(factory(1, jobs=jobs), NOW)
        return Request(problem, budget_s, lambda: None, in_moves=True)

    assert request(0.3, 12).moves == 300
    large = request(600.0, 50)
    assert 0 < large.moves * len(large.problem.to_plan) <= 2_000_000 < 600_000 * 50
    best = request(600.0, 12).carry_out(processes=0).best
    assert best is not None and "moves" not in best.stage, "rules alone were asked for"
    best = request(0.3, 12).carry_out(processes=1).best
    assert best is not None and best.stage == "local search, 300 moves"

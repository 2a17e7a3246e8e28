"""The solver: a valid plan in milliseconds from rules, better ones from processes that search.

`solve` runs rules in this process, then starts the search in processes of their own that cancel and
deadline really end. Every plan that it hands out has passed the independent checker, and is never
worse than the hint that it was given. A replay asks for so many moves instead of seconds: then the
search is local search on this thread, and the same inputs give the same plan on every run.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shopfloor.scheduling.bound import objective_bound
from shopfloor.scheduling.checker import check
from shopfloor.scheduling.decoder import Candidate, Decoder, Schedule
from shopfloor.scheduling.local_search import Found, improve
from shopfloor.scheduling.model import Base, Model
from shopfloor.scheduling.objective import Score
from shopfloor.scheduling.problem import Assignment, Constraint, Problem, changed_fraction
from shopfloor.scheduling.repair import repair
from shopfloor.scheduling.rules import RULES, dispatch
from shopfloor.scheduling.solver_process import (
    ANNEAL,
    NEIGHBOURHOODS,
    WHOLE,
    Report,
    Task,
    unpack,
    write,
)

_POLL_S = 0.02
_SAME = 1e-9
"""Values of J that differ by less are the same."""
_PROGRAM = "from shopfloor.scheduling.solver_process import main; main()"


@dataclass(frozen=True)
class Incumbent:
    """A plan that passed the checker. value: J less the cost of moves; bound: no J is larger."""

    assignments: tuple[Assignment, ...]
    score: Score
    value: float
    stage: str
    elapsed_s: float
    bound: float


@dataclass
class Solution:
    """What came out. best None: nothing valid was found, and `violations` are the best try's."""

    best: Incumbent | None
    baseline_rule: str = ""
    baseline: Score | None = None
    bound: float = float("inf")
    """No plan has a larger J."""
    cancelled: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)
    violations: list[Constraint] = field(default_factory=list)
    conflicts: list[Constraint] = field(default_factory=list)
    """Rules that contradict each other: there is no valid plan."""
    refused: int = 0
    """Plans of the search that the checker refused: a defect, counted."""

    @property
    def proven(self) -> bool:
        """Whether no plan is better than the best."""
        return self.best is not None and self.best.value >= self.bound - _SAME


def solve(
    problem: Problem,
    budget_s: float,
    *,
    hint: tuple[Assignment, ...] = (),
    base: Base | None = None,
    keep_base: bool = False,
    on_incumbent: Callable[[Incumbent], None] = lambda incumbent: None,
    cancel: threading.Event | None = None,
    processes: int = 2,
    seed: int = 1,
    moves: int | None = None,
) -> Solution:
    """Plan a validated problem within `budget_s` seconds.

    hint: a plan that the result is not worse than, where it is valid. base: the plan to stay close
    to; keep_base: start from its repair. on_incumbent: called with every better plan, the first one
    after milliseconds. cancel: when set, the best so far is returned within a tenth of a second.
    moves: this takes the place of `budget_s`: rules and so many moves of local search, without
    CP-SAT, on this thread and without a clock: work takes no time (0: rules alone).
    """
    if moves is not None:
        run = _Run(problem, base, on_incumbent, clock=lambda: 0.0)
        run.rules(hint, keep_base)
        run.search_moves(moves, cancel or threading.Event(), seed)
        return run.solution
    run = _Run(problem, base, on_incumbent)
    run.rules(hint, keep_base)
    if run.solution.best is None and budget_s > 0:
        from shopfloor.scheduling.conflicts import find_conflicts

        run.solution.conflicts = find_conflicts(problem)
        if run.solution.conflicts:
            return run.solution
    left = budget_s - run.elapsed()
    if left > 0.1 and processes > 0 and run.decoder.model.n > 0 and not run.solution.proven:
        run.search(left, cancel or threading.Event(), processes, seed)
    return run.solution


class _Run:
    def __init__(
        self,
        problem: Problem,
        base: Base | None,
        on_incumbent: Callable[[Incumbent], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or time.monotonic
        self._began = self._clock()
        self.problem = problem
        self.base = base
        self.decoder = Decoder(Model(problem, base))
        self.solution = Solution(None, bound=objective_bound(self.decoder.model))
        self._on_incumbent = on_incumbent
        self._hint: tuple[tuple[int, float], tuple[Assignment, ...]] | None = None

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def rules(self, hint: tuple[Assignment, ...], keep_base: bool) -> None:
        """The plans that take milliseconds: repair, hint, each rule."""
        began = self._clock()
        if keep_base and self.base is not None:
            self._try("repair", repair(self.decoder, self.base.assignments))
        if hint:
            candidate = self.decoder.candidate_of(hint)
            if candidate is not None:
                self._try("hint", candidate)
        self.solution.stages_ms["repair"] = 1000 * (self._clock() - began)
        began = self._clock()
        best: tuple[tuple[int, float], str, Schedule] | None = None
        for rule in RULES:
            schedule = self._try(rule, dispatch(self.decoder.model, rule))
            rank = (-schedule.violation, self._plain(schedule))
            if best is None or rank > best[0]:
                best = (rank, rule, schedule)
        assert best is not None
        self.solution.stages_ms["rules"] = 1000 * (self._clock() - began)
        self.solution.baseline_rule = best[1]
        if not best[0][0]:
            plan = self.decoder.assignments(best[2])
            self.solution.baseline = self.decoder.model.objective.score(plan)

    def _plain(self, schedule: Schedule) -> float:
        """J without the cost of moves: a rule is judged by what it is worth alone."""
        model = self.decoder.model
        return schedule.value + model.move_cost * self.decoder.moved(
            schedule.start, schedule.machine
        )

    def _try(self, stage: str, candidate: Candidate) -> Schedule:
        schedule = self.decoder.decode(candidate)
        if schedule.makespan < 1 << 49:
            plan = self.decoder.assignments(schedule)
            self._offer(stage, plan, schedule.rank)
        return schedule

    def _offer(self, stage: str, plan: tuple[Assignment, ...], rank: tuple[int, float]) -> bool:
        """Take a plan if it is better than all before and, to be handed out, valid."""
        if self._hint is not None and rank <= self._hint[0]:
            return False
        broken = check(self.problem, plan)
        if broken and not rank[0]:
            self.solution.refused += 1  # its maker thought it valid
            return False
        self._hint = (rank, plan)
        if broken:
            self.solution.violations = broken
            return True
        self.solution.violations = []
        model = self.decoder.model
        changed = 0.0
        if self.base is not None:
            changed = changed_fraction(self.base.assignments, plan)
        score = model.objective.score(plan, changed)
        self.solution.best = Incumbent(
            plan, score, rank[1], stage, self.elapsed(), self.solution.bound
        )
        self._on_incumbent(self.solution.best)
        return True

    def search_moves(self, moves: int, cancel: threading.Event, seed: int) -> None:
        """Local search on this thread until so many moves are tried, one proves best, or cancel."""
        start = None if self._hint is None else self.decoder.candidate_of(self._hint[1])
        if start is None:
            return
        tried = itertools.count()

        def count() -> float:
            return math.inf if self.solution.proven or cancel.is_set() else next(tried)

        def better(found: Found) -> None:
            plan = self.decoder.assignments(found.schedule)
            self._offer(f"{ANNEAL}, {moves} moves", plan, found.schedule.rank)

        found = Found(start, self.decoder.decode(start))
        improve(self.decoder, found, random.Random(seed), moves, better, count)
        self.solution.cancelled = cancel.is_set()

    def search(self, budget_s: float, cancel: threading.Event, processes: int, seed: int) -> None:
        """Processes that search until the budget is spent, one proves the best, or cancel."""
        if self._hint is None:
            return
        began = time.monotonic()
        deadline = began + budget_s
        # what only has to be short is what CP-SAT is best at, with its own neighbourhoods
        if self.decoder.model.only_makespan:
            roles, workers = [WHOLE], processes
        else:
            roles, workers = [(ANNEAL, NEIGHBOURHOODS)[k % 2] for k in range(processes)], 1
        children: list[_Child] = []
        try:
            for number, role in enumerate(roles):
                children.append(_Child(Task(
                    self.problem, self.base, self._hint[1], role, seed + number, deadline, workers
                )))  # fmt: skip
            self._watch(children, deadline, cancel)
        finally:
            for child in children:
                child.end()
        self.solution.stages_ms["search"] = 1000 * (time.monotonic() - began)

    def _watch(self, children: list[_Child], deadline: float, cancel: threading.Event) -> None:
        with selectors.DefaultSelector() as selector:
            for child in children:
                selector.register(child.out, selectors.EVENT_READ, child)
            running = len(children)
            while running and not cancel.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                for key, _ in selector.select(min(left, _POLL_S)):
                    child = key.data
                    for report in child.reports():
                        self._heard(report, child, children)
                        if self.solution.proven:
                            return
                    if child.ended:
                        selector.unregister(key.fileobj)
                        running -= 1
            self.solution.cancelled = cancel.is_set()

    def _heard(self, report: Report, child: _Child, children: list[_Child]) -> None:
        self.solution.bound = min(self.solution.bound, report.bound)
        if self._offer(report.stage, report.assignments, (-report.violation, report.value)):
            for other in children:
                if other is not child:
                    other.tell(report.assignments)


class _Child:
    """A process that searches."""

    def __init__(self, task: Task) -> None:
        source = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH", ""))))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin = self._process.stdin
        self.out = self._process.stdout
        self._received = bytearray()
        self.ended = False
        self.tell(task)

    def tell(self, message: object) -> None:
        """Send it a message; a process that is gone hears nothing."""
        with contextlib.suppress(BrokenPipeError):
            write(self._stdin, message)

    def reports(self) -> list[Report]:
        """What it has to say now; the stream is readable."""
        content = os.read(self.out.fileno(), 1 << 20)
        self.ended = not content
        self._received += content
        return list(unpack(self._received))

    def end(self) -> None:
        """Kill it, and be sure that it is gone."""
        self._process.kill()
        self._process.wait()
        for stream in (self._stdin, self.out):
            with contextlib.suppress(OSError):
                stream.close()

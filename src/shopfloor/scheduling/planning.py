"""One request to plan: what the worker takes, and what comes back while it runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shopfloor.scheduling.model import Base
from shopfloor.scheduling.problem import Assignment, Problem
from shopfloor.scheduling.solver import Incumbent, Solution, solve

_MOVES_PER_S = 1000
"""Moves that stand for a second of a budget: what a slow computer tries in one."""

_MOST_PLACED = 2_000_000
"""Operations placed by all moves of a request: some seconds, far from where a replay gives up."""


@dataclass
class Request:
    """One solve. `incumbents` fills on the worker's thread; `wake` is called there after each.

    in_moves: the budget is a number of moves, so that a replay plans the same on every run.
    """

    problem: Problem
    budget_s: float
    wake: Callable[[], None]
    hint: tuple[Assignment, ...] = ()
    base: Base | None = None
    base_version: int = 0
    keep_base: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False
    in_moves: bool = False
    incumbents: deque[Incumbent] = field(default_factory=lambda: deque(maxlen=64))

    def carry_out(self, processes: int) -> Solution:
        """Solve, on the worker's thread."""
        moves = None
        if self.in_moves:
            moves = self.moves if processes else 0
        return solve(
            self.problem,
            self.budget_s,
            hint=self.hint,
            base=self.base,
            keep_base=self.keep_base,
            on_incumbent=self._heard,
            cancel=self.cancel,
            processes=processes,
            moves=moves,
        )

    @property
    def moves(self) -> int:
        """What the budget comes to in moves."""
        most = _MOST_PLACED // max(len(self.problem.to_plan), 1)
        return min(round(_MOVES_PER_S * self.budget_s), most)

    def _heard(self, incumbent: Incumbent) -> None:
        self.incumbents.append(incumbent)
        self.wake()

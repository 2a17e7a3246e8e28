"""One request to plan: what the worker takes, and what comes back while it runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from shopfloor.scheduling.model import Base
from shopfloor.scheduling.problem import Assignment, Problem
from shopfloor.scheduling.solver import Incumbent, Solution, solve


@dataclass
class Request:
    """One solve. `incumbents` fills on the worker's thread; `wake` is called there after each."""

    problem: Problem
    budget_s: float
    wake: Callable[[], None]
    hint: tuple[Assignment, ...] = ()
    base: Base | None = None
    base_version: int = 0
    keep_base: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False
    incumbents: deque[Incumbent] = field(default_factory=lambda: deque(maxlen=64))

    def carry_out(self, processes: int) -> Solution:
        """Solve, on the worker's thread."""
        return solve(
            self.problem,
            self.budget_s,
            hint=self.hint,
            base=self.base,
            keep_base=self.keep_base,
            on_incumbent=self._heard,
            cancel=self.cancel,
            processes=processes,
        )

    def _heard(self, incumbent: Incumbent) -> None:
        self.incumbents.append(incumbent)
        self.wake()

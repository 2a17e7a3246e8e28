"""Overall equipment effectiveness from states and verdicts. Pure.

ISO 22400-2: OEE = availability x effectiveness x quality ratio. Availability is the time in
EXECUTE over the planned time, performance the parts made over what the nominal rate gives in that
time, quality the parts passed over the parts judged. Only production mode counts as planned; in
maintenance and manual mode the clock stands still.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from shopfloor.plc.packml import Mode, State

RATE_WINDOW_S = 60.0


@dataclass(frozen=True)
class Figures:
    """Counts since the reset, and the ratios; NaN where there is nothing to divide by."""

    total: int
    passed: int
    failed: int
    review: int
    rate_per_min: float
    availability: float
    performance: float
    quality: float
    oee: float


class Oee:
    """Adds up one unit. Times: seconds of one steady clock; each call may only go forward."""

    def __init__(self, nominal_rate_per_min: float, now_s: float) -> None:
        """Raises ValueError where the nominal rate is not above zero."""
        if not nominal_rate_per_min > 0.0:
            raise ValueError(f"nominal rate {nominal_rate_per_min} parts/min; allowed: above 0")
        self._nominal = nominal_rate_per_min
        self._state, self._mode = State.STOPPED, int(Mode.PRODUCTION)
        self.reset(now_s)

    def reset(self, now_s: float) -> None:
        """Start to count anew."""
        self._at_s = now_s
        self._planned_s = self._running_s = 0.0
        self._counts = {"pass": 0, "fail": 0, "review": 0}
        self._made: deque[float] = deque()

    def enter(self, state: State, mode: int, now_s: float) -> None:
        """The unit has changed."""
        self._advance(now_s)
        self._state, self._mode = state, mode

    def part(self, kind: str, now_s: float, before: str = "") -> None:
        """A part got its verdict: `pass`, `fail` or `review`; `before`: the one that it replaces.

        Raises KeyError for another kind.
        """
        self._counts[kind] += 1
        if before:
            self._counts[before] -= 1
        else:
            self._made.append(now_s)

    def figures(self, now_s: float) -> Figures:
        """The figures up to now."""
        self._advance(now_s)
        while self._made and self._made[0] < now_s - RATE_WINDOW_S:
            self._made.popleft()
        total = sum(self._counts.values())
        availability = _ratio(self._running_s, self._planned_s)
        performance = _ratio(total, self._nominal * self._running_s / 60.0)
        quality = _ratio(self._counts["pass"], total)
        return Figures(
            total,
            self._counts["pass"],
            self._counts["fail"],
            self._counts["review"],
            float(len(self._made)),
            availability,
            performance,
            quality,
            availability * performance * quality,
        )

    def _advance(self, now_s: float) -> None:
        passed_s, self._at_s = max(now_s - self._at_s, 0.0), max(now_s, self._at_s)
        if self._mode == Mode.PRODUCTION:
            self._planned_s += passed_s
            if self._state is State.EXECUTE:
                self._running_s += passed_s


def _ratio(part: float, whole: float) -> float:
    """0 to 1: a line that runs faster than its nominal rate makes up for no stop."""
    return min(part / whole, 1.0) if whole > 0.0 else math.nan

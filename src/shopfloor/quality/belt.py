"""Where the belt is: metres that it has run, from its encoder or from its speed and the time.

Pure. Times are ROS time in nanoseconds; a position counts up in the direction of travel from an
origin of no meaning. A part that was at position p under a camera is at the reject output when the
belt is at p + the distance between the two.
"""

from __future__ import annotations

import bisect
from collections import Counter, deque
from typing import Protocol

_HISTORY_S = 30.0
"""Exposures older than this cannot be placed by an encoder."""

_SPEED_OVER_S = 0.2
_SLACK_M = 0.02
"""A reading may be off by this much, beside the highest speed, before it counts as a jump."""

_REVERSED_M = 0.005


class Belt(Protocol):
    """What tells positions."""

    def at(self, stamp_ns: int) -> float | None:
        """Metres at a moment that is over or just now; None: not known."""


class TimedBelt:
    """A belt that never stops and keeps its speed: position by the clock."""

    def __init__(self, speed_m_per_s: float) -> None:
        """Raises ValueError where the speed is not above zero."""
        if not speed_m_per_s > 0.0:
            raise ValueError(f"belt speed {speed_m_per_s:g} m/s; allowed: above 0")
        self.speed_m_per_s = speed_m_per_s

    def at(self, stamp_ns: int) -> float:
        """Metres since the epoch; a double holds them to a tenth of a micrometre."""
        return self.speed_m_per_s * stamp_ns / 1e9

    def when(self, position_m: float) -> int:
        """The moment at which the belt is there."""
        return round(position_m / self.speed_m_per_s * 1e9)


class EncodedBelt:
    """A belt with an encoder, whose counter may wrap, fall, fail, jump or fall silent.

    pulses_per_m: counts per metre; negative where the counter falls as the belt runs forwards.
    bits: width of the counter, 0: it never wraps. max_speed_m_per_s: a change that the belt cannot
    have made is a jump (a counter that was reset, or drove on unread): no position from before it
    says anything any more. silent_s: without a reading for this long the position is not known.
    `counts` holds readings by what was wrong with them.
    """

    def __init__(
        self, pulses_per_m: float, *, bits: int, max_speed_m_per_s: float, silent_s: float
    ) -> None:
        """Raises ValueError on zero pulses or a speed that is not above zero."""
        if not pulses_per_m or not max_speed_m_per_s > 0.0:
            raise ValueError(
                f"{pulses_per_m:g} pulses per metre and at most {max_speed_m_per_s:g} m/s; "
                "allowed: other than 0, and above 0"
            )
        self.pulses_per_m = pulses_per_m
        self.bits = bits
        self.max_speed_m_per_s = max_speed_m_per_s
        self.silent_s = silent_s
        self.counts: Counter[str] = Counter()
        self._readings: deque[tuple[int, float]] = deque()
        self._raw = 0

    def read(self, stamp_ns: int, count: int, valid: bool = True) -> bool:
        """A reading came; False where it jumped, so that what was placed before is lost."""
        if not valid:
            self.counts["invalid"] += 1
            return True
        if not self._readings:
            self._raw = count
            self._readings.append((stamp_ns, 0.0))
            return True
        last_ns, last_m = self._readings[-1]
        if stamp_ns <= last_ns:
            self.counts["not newer"] += 1
            return True
        moved_m = self._pulses(count) / self.pulses_per_m
        possible_m = self.max_speed_m_per_s * (stamp_ns - last_ns) / 1e9 + _SLACK_M
        wrap_m = abs((1 << self.bits) / self.pulses_per_m) if self.bits else float("inf")
        self._raw = count
        if abs(moved_m) > possible_m or possible_m >= wrap_m / 2:
            # A gap in which it may have wrapped unseen is no better than a jump.
            self.counts["jump"] += 1
            self._readings.clear()
            # Far from all that was placed before: nothing of it can be mistaken for something here.
            self._readings.append((stamp_ns, 0.0))
            return False
        if moved_m < 0.0:
            self.counts["backwards"] += 1
        self._readings.append((stamp_ns, last_m + moved_m))
        while self._readings[-1][0] - self._readings[0][0] > _HISTORY_S * 1e9:
            self._readings.popleft()
        return True

    def at(self, stamp_ns: int) -> float | None:
        """Metres at `stamp_ns`: between two readings, or as far on as the present speed takes it.

        None: before the first reading, or too long after the last one.
        """
        if not self._readings or stamp_ns < self._readings[0][0]:
            return None
        last_ns, last_m = self._readings[-1]
        if stamp_ns >= last_ns:
            ahead_s = (stamp_ns - last_ns) / 1e9
            return None if ahead_s > self.silent_s else last_m + self.speed_m_per_s * ahead_s
        after = bisect.bisect_right(self._readings, stamp_ns, key=lambda reading: reading[0])
        (from_ns, from_m), (to_ns, to_m) = self._readings[after - 1], self._readings[after]
        return from_m + (to_m - from_m) * (stamp_ns - from_ns) / (to_ns - from_ns)

    def has_passed(self, stamp_ns: int) -> bool:
        """Whether a reading from then or later is there: `at` measures, and does not forecast."""
        return bool(self._readings) and self._readings[-1][0] >= stamp_ns

    def at_count(self, count: int) -> float | None:
        """Metres at a count that was latched not long ago, such as with an exposure."""
        if not self._readings:
            return None
        return self._readings[-1][1] + self._pulses(count) / self.pulses_per_m

    def count_at(self, position_m: float) -> int:
        """What the counter reads there; raises LookupError where it was never read."""
        if not self._readings:
            raise LookupError("the encoder was never read")
        ahead = round((position_m - self._readings[-1][1]) * self.pulses_per_m)
        return self._wrapped(self._raw + ahead)

    @property
    def speed_m_per_s(self) -> float:
        """Over the last readings, negative: backwards; 0 where there is only one."""
        if len(self._readings) < 2:
            return 0.0
        last_ns, last_m = self._readings[-1]
        oldest = self._readings[0]
        since_ns = last_ns - int(_SPEED_OVER_S * 1e9)
        from_ns, from_m = next((r for r in reversed(self._readings) if r[0] <= since_ns), oldest)
        return (last_m - from_m) / ((last_ns - from_ns) / 1e9)

    @property
    def runs_backwards(self) -> bool:
        """Whether it moves against the direction of travel now."""
        return self.speed_m_per_s * _SPEED_OVER_S < -_REVERSED_M

    def _pulses(self, count: int) -> int:
        """Counts since the last reading, the shorter way round."""
        if not self.bits:
            return count - self._raw
        half = 1 << (self.bits - 1)
        return (count - self._raw + half) % (1 << self.bits) - half

    def _wrapped(self, count: int) -> int:
        return count % (1 << self.bits) if self.bits else count

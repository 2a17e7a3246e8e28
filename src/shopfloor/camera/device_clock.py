"""A device's clock in terms of the host's steady clock: offset, drift, and the error of both.

A frame carries the device's stamp of its exposure and arrives some delay later, so each arrival
says: the device's stamp is at the latest now. Delays jitter upwards only, so the truth lies along
the lower edge of `arrival - stamp`. Its slope is the drift (lower convex hull, the edge above the
mean: Moon, Skelly and Towsley, INFOCOM 1999); what is left between edge and truth is the shortest
delay that the way allows. Where the device lets its clock be latched, that is measured, too.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

BLOCK_NS = 1_000_000_000
"""The edge is drawn through the smallest delay of each block of this length."""

WINDOW_BLOCKS = 60
"""Blocks that count; crystals wander with temperature over minutes, not over one."""

STEP_NS = 50_000_000
"""A jump of the clock that is not taken for jitter."""

PATIENCE_NS = 5_000_000_000
"""Delays may stay this long above the edge before that is taken for a step of the clock."""

MAX_DRIFT = 500e-6
"""No crystal is further off; a steeper edge is one that jitter drew."""


@dataclass(frozen=True, slots=True)
class Latch:
    """The device's clock read on purpose: it showed `device_ns` between the two host times."""

    device_ns: int
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """A device stamp on the host's steady clock. error_ns: bound of its error, NaN: not known."""

    steady_ns: int
    error_ns: float


class DeviceClock:
    """Learns one device's clock. All times are nanoseconds.

    delay_bound_ns: what the shortest delay from exposure to arrival can be at most, for a device
        that cannot be latched; NaN: not known, and so is the error then.
    """

    def __init__(self, delay_bound_ns: float = math.nan) -> None:
        self._delay_bound_ns = delay_bound_ns
        self.steps = 0
        self._forget()

    @property
    def drift_ppm(self) -> float:
        """How much faster the device's clock runs than the host's; NaN before it is known."""
        return -self._slope * 1e6 if len(self._blocks) >= 3 else math.nan

    def _forget(self) -> None:
        self._blocks: deque[tuple[int, int]] = deque(maxlen=WINDOW_BLOCKS)
        self._slope = 0.0
        self._anchor: tuple[int, float] | None = None
        self._spread_ns = 0.0
        self._last_ns = 0
        self._late: deque[tuple[int, int]] = deque(maxlen=WINDOW_BLOCKS)
        self._late_since_ns = self._late_frames = 0
        self._latch: Latch | None = None
        self._latch_is_new = False

    def latch(self, latch: Latch) -> None:
        """Take in a reading; a tighter one replaces the last, as any does after a while."""
        kept = self._latch
        age_ns = latch.device_ns - kept.device_ns if kept is not None else -1
        is_old = not 0 <= age_ns <= BLOCK_NS * WINDOW_BLOCKS
        if kept is None or is_old or _width(latch) <= _width(kept):
            self._latch, self._latch_is_new = latch, True

    def observe(self, device_ns: int, arrival_ns: int) -> Mapped:
        """Take in the frame stamped `device_ns` that arrived at `arrival_ns`, and map its stamp."""
        if self._anchor is not None and device_ns < self._last_ns:
            self._step()
        offset = arrival_ns - device_ns
        excess = offset - self._edge(device_ns) if self._anchor is not None else 0.0
        if excess < -STEP_NS:
            self._step()
        self._last_ns, self._latch_is_new = device_ns, False
        self._add(device_ns, offset)
        if self._is_late_for_good(device_ns, offset, excess):
            late = self._late
            self._step()
            self._last_ns = device_ns
            for stamp_ns, late_offset in late:
                self._add(stamp_ns, late_offset)
        return self._map(device_ns, arrival_ns)

    def _step(self) -> None:
        """The clock was set or began anew: nothing of before counts."""
        latch = self._latch if self._latch_is_new else None
        self._forget()
        self._latch = latch
        self.steps += 1

    def _add(self, device_ns: int, offset: int) -> None:
        if _lowers(self._blocks, device_ns, offset):
            self._fit()

    def _fit(self) -> None:
        """The line below all block minima that is nearest to them: an edge of their lower hull."""
        hull: list[tuple[int, int]] = []
        for point in self._blocks:
            while len(hull) >= 2 and _turns_down(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        self._slope = 0.0
        anchor = hull[-1]
        if len(hull) >= 2:
            mean = sum(stamp for stamp, _ in self._blocks) / len(self._blocks)
            right = next((i for i in range(1, len(hull)) if hull[i][0] >= mean), len(hull) - 1)
            (x0, y0), (x1, y1) = hull[right - 1], hull[right]
            # Two blocks are too short a lever: 0.1 ms of jitter would be 100 ppm.
            if len(self._blocks) >= 3:
                self._slope = max(-MAX_DRIFT, min(MAX_DRIFT, (y1 - y0) / (x1 - x0)))
            anchor = min(self._blocks, key=lambda b: b[1] - self._slope * (b[0] - x0))
        self._anchor = (anchor[0], float(anchor[1]))
        above = sorted(offset - self._edge(stamp) for stamp, offset in self._blocks)
        self._spread_ns = above[len(above) // 2]

    def _edge(self, device_ns: int) -> float:
        assert self._anchor is not None
        return self._anchor[1] + self._slope * (device_ns - self._anchor[0])

    def _is_late_for_good(self, device_ns: int, offset: int, excess: float) -> bool:
        """Whether every delay for a while was far above the edge: the clock was set back."""
        if excess <= STEP_NS:
            self._late.clear()
            return False
        if not self._late:
            self._late_since_ns, self._late_frames = device_ns, 0
        self._late_frames += 1
        _lowers(self._late, device_ns, offset)
        return device_ns - self._late_since_ns >= PATIENCE_NS and self._late_frames >= 10

    def _map(self, device_ns: int, arrival_ns: int) -> Mapped:
        delay_ns, delay_error_ns = self._delay()
        steady_ns = device_ns + self._edge(device_ns) - delay_ns
        error_ns = delay_error_ns + self._spread_ns
        if self._late:
            # Late frames or a clock that was set: until that is settled, the worse of the two.
            error_ns += min(offset - self._edge(stamp) for stamp, offset in self._late)
        return Mapped(min(round(steady_ns), arrival_ns), error_ns)

    def _delay(self) -> tuple[float, float]:
        """The shortest delay, which lies between edge and truth, and the error of it."""
        latch = self._latch
        if latch is not None and self._last_ns - latch.device_ns < 2 * BLOCK_NS * WINDOW_BLOCKS:
            edge = self._edge(latch.device_ns)
            longest = edge - (latch.before_ns - latch.device_ns)
            shortest = max(0.0, edge - (latch.after_ns - latch.device_ns))
            if longest >= 0.0:
                return (longest + shortest) / 2, (longest - shortest) / 2
        if math.isnan(self._delay_bound_ns):
            return 0.0, math.nan
        return self._delay_bound_ns / 2, self._delay_bound_ns / 2


def _width(latch: Latch) -> int:
    return latch.after_ns - latch.before_ns


def _lowers(blocks: deque[tuple[int, int]], device_ns: int, offset: int) -> bool:
    """Take in a delay; whether it is the smallest of its block so far, which alone is kept."""
    if blocks and device_ns // BLOCK_NS == blocks[-1][0] // BLOCK_NS:
        if offset >= blocks[-1][1]:
            return False
        blocks[-1] = (device_ns, offset)
    else:
        blocks.append((device_ns, offset))
    return True


def _turns_down(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])

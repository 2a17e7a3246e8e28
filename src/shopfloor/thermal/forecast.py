"""Where a temperature is heading, from what its sensor said in the last minutes.

A board of two masses behind a fan (`heat_model`) is fitted with Gaussian priors for each pair of
time constants of a fixed grid, and the pairs are weighted by their evidence. No pair has to be
right: the forecast is the mean over all that explain the samples, and their spread is its
uncertainty. A step of the load is part of the model: the ladder tells of its own, others show as
samples that leave the forecast of a moment before.

Samples are kept by bins of two seconds and by value, which takes out jitter; gaps are bins that are
missing. What a coarse sensor tells is weighed by `quantised`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shopfloor.thermal.fit import BIN_S, COARSE_CELSIUS, TRANSIENT_S, Window, solve
from shopfloor.thermal.heat_model import (
    DRIFT,
    REFERENCE_CELSIUS,
    STEP_S,
    columns,
    cooling,
    unknown_board,
)

FloatArray = npt.NDArray[np.float64]
Row = tuple[float, float, float]
"""Mean time in seconds, degrees Celsius, number of readings."""

WINDOW_S = 300.0
HORIZON_S = 600.0
MIN_BINS = 6
_TRUSTED_MISFIT = 0.3**2
_GRID_S: FloatArray = np.arange(0.0, HORIZON_S + STEP_S, STEP_S, dtype=np.float64)
_SPREAD_AT_S = 60.0
_SPREAD_HALF_CELSIUS = 1.5
"""With this uncertainty a minute ahead the confidence is one half."""

_LEFT_CELSIUS = 0.9
_LEFT_AFTER_S = 6.0
_FAN_SEEN_S = 60.0
_FAN_MOVED = 0.02


@dataclass(frozen=True, eq=False)
class Forecast:
    """A fit. Temperatures in degrees Celsius, times in seconds from the fit on.

    temperature: now, without noise. settling: where it would be at the horizon with the present
    load and surroundings, without their drift. spread: standard deviation a minute ahead.
    confidence: 0..1.
    """

    temperature: float
    slope_per_s: float
    settling: float
    spread: float
    confidence: float
    _curve: FloatArray = field(repr=False)

    def at(self, seconds: float) -> float:
        """Temperature so many seconds ahead, up to the horizon."""
        return float(np.interp(seconds, _GRID_S, self._curve))

    def seconds_to(self, limit_celsius: float) -> float:
        """Until the limit is reached: 0 when it is, infinity when not within the horizon."""
        above = self._curve >= limit_celsius
        first = int(np.argmax(above))
        if not above[first]:
            return math.inf
        if first == 0:
            return 0.0
        before, after = self._curve[first - 1], self._curve[first]
        step = float(_GRID_S[1])
        return float(_GRID_S[first - 1]) + step * float((limit_celsius - before) / (after - before))


class Trace:
    """The samples of one sensor, and their forecast. Times are seconds of a steady clock."""

    def __init__(self, window_s: float = WINDOW_S, settle_s: float = 3.0 * TRANSIENT_S) -> None:
        """settle_s: samples count from so long after the step before the last one."""
        self._window_s = window_s
        self._settle_s = settle_s
        self.models = unknown_board()
        """The boards that are tried; at first nothing is known."""
        # Start of each bin, and its rows: time, value, number of readings.
        self._bins: deque[tuple[float, tuple[Row, ...]]] = deque()
        self._open: dict[float, list[float]] = {}  # of each value: sum of times, readings
        self._open_s = -math.inf
        self._fans: deque[tuple[float, float]] = deque()
        self._resolution = math.inf
        self._last: float | None = None
        self._step_at_s = -math.inf
        self._step_before_s = -math.inf
        self._said: deque[tuple[float, Forecast]] = deque(maxlen=10)

    def add(self, now_s: float, celsius: float, fan: float = math.nan) -> None:
        """One more sample. fan: share of its full speed, NaN: not known."""
        if self._last is not None and celsius != self._last:
            self._resolution = min(self._resolution, abs(celsius - self._last))
        self._last = celsius
        start_s = now_s - now_s % BIN_S
        if self._open_s != start_s:
            self._close()
            self._open_s = start_s
            if not math.isnan(fan):
                self._fans.append((now_s, fan))
        sums = self._open.setdefault(celsius, [0.0, 0.0])
        sums[0] += now_s
        sums[1] += 1.0

    def load_changed(self, now_s: float) -> None:
        """The load changed by a step: the forecast keeps to what that means."""
        self._step_before_s, self._step_at_s = self._step_at_s, now_s
        self._said.clear()

    def forecast(self, now_s: float) -> Forecast | None:
        """The forecast from `now_s` on; None while there are too few samples."""
        if self._trim(now_s) < MIN_BINS:
            return None
        self._notice_step(now_s)
        forecast = self._forecast(self._window(now_s), now_s)
        if not self._said or now_s - self._said[-1][0] >= BIN_S * 0.9:
            self._said.append((now_s, forecast))
        return forecast

    def window(self, now_s: float) -> Window | None:
        """What there is up to `now_s`; None while there are too few samples."""
        return self._window(now_s) if self._trim(now_s) >= MIN_BINS else None

    @property
    def step_at_s(self) -> float:
        """The last step of the load, told or noticed; -infinity: none."""
        return self._step_at_s

    @property
    def knows_fan(self) -> bool:
        """Whether the fan's speed came with the samples."""
        return bool(self._fans)

    def _trim(self, now_s: float) -> int:
        """Forget what is too old; the bins that are left."""
        self._close()
        start_s = max(now_s - self._window_s, self._step_before_s + self._settle_s)
        while self._bins and self._bins[0][0] < start_s:
            self._bins.popleft()
        while len(self._fans) > 1 and self._fans[1][0] < start_s:
            self._fans.popleft()
        return len(self._bins)

    def _close(self) -> None:
        """Keep what came since; of a fine sensor one row a bin is enough."""
        rows = tuple((t / n, v, n) for v, (t, n) in self._open.items())
        if not rows:
            return
        self._open = {}
        if self._bins and self._bins[-1][0] == self._open_s:
            rows = (*self._bins.pop()[1], *rows)
        fine = self._resolution < COARSE_CELSIUS
        self._bins.append((self._open_s, (_mean(rows),) if fine else rows))

    def _notice_step(self, now_s: float) -> None:
        """A load that changed by itself: samples leave a forecast of a moment before."""
        recent = [row for start_s, rows in self._bins if start_s >= now_s - 2.0 * BIN_S
                  for row in rows]  # fmt: skip
        if not recent or now_s - self._step_at_s < 3.0 * TRANSIENT_S:
            return
        mean_s, mean, _ = _mean(recent)
        for said_s, forecast in self._said:
            if _LEFT_AFTER_S <= now_s - said_s <= 3.0 * _LEFT_AFTER_S:
                allowed = _LEFT_CELSIUS + 2.0 * forecast.spread * (now_s - said_s) / _SPREAD_AT_S
                if abs(mean - forecast.at(mean_s - said_s)) > allowed:
                    self.load_changed(self._left_at(now_s, said_s, forecast))
                    return

    def _left_at(self, now_s: float, said_s: float, forecast: Forecast) -> float:
        """When the samples were last within half of what tells a step."""
        for start_s, rows in reversed(self._bins):
            _, mean, _ = _mean(rows)
            ahead_s = max(start_s + BIN_S / 2.0 - said_s, 0.0)
            if start_s <= said_s or abs(mean - forecast.at(ahead_s)) < _LEFT_CELSIUS / 2.0:
                return start_s + BIN_S / 2.0
        return said_s

    def _window(self, now_s: float) -> Window:
        rows = np.array([row for _, bin_rows in self._bins for row in bin_rows], dtype=np.float64)
        times = rows[:, 0] - now_s
        start_s = STEP_S * math.floor(float(times[0]) / STEP_S)
        step_s = self._step_at_s - now_s if self._step_at_s - now_s > start_s else -math.inf
        grid_s = np.arange(start_s, STEP_S, STEP_S, dtype=np.float64)
        resolution = self._resolution if math.isfinite(self._resolution) else 1.0
        fans = self._fan_at(grid_s + now_s)
        return Window(times, rows[:, 1], rows[:, 2], start_s, step_s, grid_s, fans, resolution)

    def _forecast(self, window: Window, now_s: float) -> Forecast:
        times, fans, grid_s = window.times, window.fans, window.grid_s
        design = window.design(self.models)
        fit = solve(self.models, design, *window.linearised(self.models, design))

        def curve(future: FloatArray) -> FloatArray:
            share = cooling(np.concatenate([fans, future]))
            return columns(self.models, _GRID_S, window.start_s, window.step_s, share)

        future = np.full(_GRID_S.size + 1, fans[-1])
        ahead = curve(future)
        told = fit.share @ np.einsum("kni,ki->kn", ahead, fit.solution)
        # Right after a step the readings are nearer to the truth than the fit is.
        near = window.misfit > _TRUSTED_MISFIT
        trusted = np.where(near, window.values - REFERENCE_CELSIUS, fit.values)
        per_celsius = self._fan_law(grid_s, fans, times, trusted)
        if per_celsius > 0.0:
            rise = np.concatenate([told - told[0], [told[-1] - told[0]]])
            ahead = curve(np.clip(fans[-1] + per_celsius * rise, 0.0, 1.0))
            told = fit.share @ np.einsum("kni,ki->kn", ahead, fit.solution)
        spread = fit.spread(ahead[:, int(_SPREAD_AT_S / STEP_S)])
        steady = ahead[:, -1].copy()
        steady[:, DRIFT] = ahead[:, 0, DRIFT]
        settling = float(fit.share @ np.einsum("ki,ki->k", steady, fit.solution))
        span_s = -float(times[0])
        return Forecast(
            temperature=REFERENCE_CELSIUS + float(told[0]),
            slope_per_s=float(told[1] - told[0]) / STEP_S,
            settling=REFERENCE_CELSIUS + settling,
            spread=spread,
            confidence=min(1.0, span_s / 20.0) / (1.0 + (spread / _SPREAD_HALF_CELSIUS) ** 2),
            _curve=REFERENCE_CELSIUS + told,
        )

    def _fan_at(self, times_s: FloatArray) -> FloatArray:
        """Share of full speed at each time; full speed where nothing tells."""
        if not self._fans:
            return np.ones_like(times_s)
        seen = np.array(self._fans)
        return np.asarray(np.interp(times_s, seen[:, 0], seen[:, 1]), dtype=np.float64)

    def _fan_law(
        self, grid_s: FloatArray, fans: FloatArray, times: FloatArray, fitted: FloatArray
    ) -> float:
        """How much faster the fan turns for each degree, from the last minute; 0: it does not."""
        recent = grid_s > -_FAN_SEEN_S
        fan = fans[recent]
        if fan.size < 5 or float(np.ptp(fan)) < _FAN_MOVED or fan[-1] > 1.0 - _FAN_MOVED:
            return 0.0
        celsius = np.interp(grid_s[recent], times, fitted)
        spread = float(((celsius - celsius.mean()) ** 2).sum())
        slope = float(((celsius - celsius.mean()) * fan).sum()) / max(spread, 1e-6)
        return min(max(slope, 0.0), 0.2)


def _mean(rows: Sequence[Row]) -> Row:
    count = sum(n for _, _, n in rows)
    return sum(t * n for t, _, n in rows) / count, sum(v * n for _, v, n in rows) / count, count

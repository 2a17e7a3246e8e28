"""Where a temperature is heading, from what its sensor said in the last minutes.

The model is a body that follows its load and its surroundings with one time constant:

    T(t) = a + b exp(-t / tau) + c t

a: settling temperature now, b: what is left of the last change, c: drift of the surroundings. For
a fixed tau this is linear, and with Gaussian priors on b and c (below) it is solved in closed form;
the taus of a fixed grid are then weighted by their evidence. No tau has to be right: the forecast
is the mean over all that explain the samples, and their spread is its uncertainty.

Samples are averaged into bins of a second (weighted by their number), which takes out jitter and
noise; gaps are bins that are missing. What a sensor of coarse steps cannot tell counts as noise.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

WINDOW_S = 300.0
MIN_WINDOW_S = 30.0
MIN_BINS = 8
_END_BINS = 8
HORIZON_S = 600.0
TAUS_S: FloatArray = np.array([8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0])

_B_SD_CELSIUS = 60.0
_C_SD_CELSIUS_PER_S = 0.01
"""Halls drift by less than a degree a minute; what is faster is the board itself."""

_LEVEL_SD_CELSIUS = 200.0
_GRID_S: FloatArray = np.arange(0.0, HORIZON_S + 2.0, 2.0, dtype=np.float64)
_SPREAD_AT_S = 60.0
_SPREAD_HALF_CELSIUS = 1.5
"""With this uncertainty a minute ahead the confidence is one half."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """A fit. Temperatures in degrees Celsius, times in seconds from the fit on.

    temperature: now, without noise. settling: where it would stay with the present load and
    surroundings. spread: standard deviation a minute ahead. confidence: 0..1.
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

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._bins: deque[tuple[float, float, int]] = deque()  # mean time, mean value, samples
        self._open: list[tuple[float, float]] = []
        self._open_at = -math.inf
        self._resolution = math.inf
        self._last: float | None = None
        self._within: deque[float] = deque(maxlen=60)  # variances within bins

    def add(self, now_s: float, celsius: float) -> None:
        """One more sample."""
        if self._last is not None and celsius != self._last:
            self._resolution = min(self._resolution, abs(celsius - self._last))
        self._last = celsius
        second = math.floor(now_s)
        if second != self._open_at:
            self._close()
            self._open_at = second
        self._open.append((now_s, celsius))

    def restart(self) -> None:
        """The load changed: what came before says nothing about what comes."""
        self._bins.clear()
        self._open.clear()
        self._open_at = -math.inf

    def forecast(self, now_s: float) -> Forecast | None:
        """The forecast from `now_s` on; None while there are too few samples.

        From the longest window that one model explains: load and fan change without notice.
        """
        while self._bins and self._bins[0][0] < now_s - self._window_s:
            self._bins.popleft()
        if len(self._bins) < MIN_BINS:
            return None
        bins = np.array(self._bins)
        times, values, counts = bins[:, 0] - now_s, bins[:, 1], bins[:, 2]
        variance = self._noise_variance(counts)
        window_s = self._window_s
        while True:
            recent = times >= -window_s
            fit, residuals = _solve(times[recent], values[recent], variance[recent])
            window_s /= 2.0
            enough = int((times >= -window_s).sum()) >= 2 * MIN_BINS
            if not enough or window_s < MIN_WINDOW_S or _explains(residuals, variance[recent]):
                return fit

    def _close(self) -> None:
        if not self._open:
            return
        times = [t for t, _ in self._open]
        values = [v for _, v in self._open]
        count = len(values)
        mean = sum(values) / count
        self._bins.append((sum(times) / count, mean, count))
        if count > 1:
            self._within.append(sum((v - mean) ** 2 for v in values) / (count - 1))
        self._open.clear()

    def _noise_variance(self, counts: FloatArray) -> FloatArray:
        resolution = self._resolution if math.isfinite(self._resolution) else 1.0
        within = sum(self._within) / len(self._within) if self._within else 0.0
        return resolution**2 / 12.0 + (within + 1e-4) / counts


def _explains(residuals: FloatArray, variance: FloatArray) -> bool:
    """Whether what a fit leaves is noise: not too much of it, and no run to one side at the end."""
    deviation = math.sqrt(float(variance.mean()))
    if math.sqrt(float((residuals**2).mean())) > 1.3 * deviation + 0.02:
        return False
    return abs(float(residuals[-_END_BINS:].mean())) <= 0.8 * deviation + 0.02


def _solve(
    times: FloatArray, values: FloatArray, variance: FloatArray
) -> tuple[Forecast, FloatArray]:
    """Bayesian mean over the grid of taus, and its residuals. times: seconds, now is 0; (n,)."""
    span = max(-float(times[0]), 1.0)
    mean = float(values.mean())
    y = values - mean
    weight = 1.0 / variance
    # Columns: level now, what is left of the transient (1 where the window starts), drift.
    decay = np.exp(-(times[None, :] + span) / TAUS_S[:, None])  # (k, n)
    design = np.empty((TAUS_S.size, times.size, 3))
    design[:, :, 0] = 1.0
    design[:, :, 1] = decay
    design[:, :, 2] = times
    prior = np.array([_LEVEL_SD_CELSIUS, _B_SD_CELSIUS, _C_SD_CELSIUS_PER_S]) ** -2
    weighted = design * weight[None, :, None]
    normal = np.swapaxes(design, 1, 2) @ weighted + np.diag(prior)  # (k, 3, 3)
    right = np.swapaxes(weighted, 1, 2) @ y  # (k, 3)
    covariance = np.linalg.inv(normal)
    solution = np.einsum("kij,kj->ki", covariance, right)
    # Log evidence of each tau, but for what all have in common.
    score = 0.5 * (np.einsum("ki,ki->k", right, solution) + np.log(np.linalg.det(covariance)))
    share = np.exp(score - score.max())
    share /= share.sum()

    a, b, c = solution[:, 0], solution[:, 1], solution[:, 2]
    left = b * np.exp(-span / TAUS_S)
    curve = mean + (share * a).sum() + (share * c).sum() * _GRID_S
    curve = curve + (share * left) @ np.exp(-_GRID_S[None, :] / TAUS_S[:, None])
    ahead = np.stack(
        [np.ones_like(TAUS_S), np.exp(-(_SPREAD_AT_S + span) / TAUS_S),
         np.full_like(TAUS_S, _SPREAD_AT_S)], axis=1,
    )  # fmt: skip
    each = np.einsum("ki,ki->k", ahead, solution)
    within = np.einsum("ki,kij,kj->k", ahead, covariance, ahead)
    middle = (share * each).sum()
    spread = math.sqrt(float((share * (within + (each - middle) ** 2)).sum()))
    residuals = y - share @ np.einsum("kni,ki->kn", design, solution)
    forecast = Forecast(
        temperature=float(curve[0]),
        slope_per_s=float((share * (c - left / TAUS_S)).sum()),
        settling=mean + float((share * a).sum()),
        spread=spread,
        confidence=min(1.0, span / 20.0) / (1.0 + (spread / _SPREAD_HALF_CELSIUS) ** 2),
        _curve=curve,
    )
    return forecast, residuals

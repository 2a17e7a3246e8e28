"""Samples of one sensor, fitted to boards: Bayesian least squares, weighed by evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shopfloor.thermal.heat_model import REFERENCE_CELSIUS, FloatArray, Models, columns, cooling
from shopfloor.thermal.quantised import likeliest_sigma, pull

BIN_S = 2.0
"""Samples are kept by bins of this length."""

COARSE_CELSIUS = 0.3
"""Steps from which a sensor's rounding is modelled; finer ones drown in noise."""

TRANSIENT_S = 8.0
_TRANSIENT_CELSIUS = 7.0
_STEP_UNSURE_S = 3.0
"""How far off it may be right after a step, how fast that fades, how exactly its time is known."""

_MISFIT_CELSIUS = 0.03
"""No board is exactly one of two masses: what a fit may miss by anywhere."""

_NEWTON_STEPS = 2
_ROUGH_SIGMA = 0.25


@dataclass(frozen=True, eq=False)
class Solution:
    """A fit. evidence: its logarithm for each model, (k,), but for what all have in common.

    share: of each model by evidence, (k,). solution (k, 7), covariance (k, 7, 7), values (n,).
    """

    evidence: FloatArray
    share: FloatArray
    solution: FloatArray
    covariance: FloatArray
    values: FloatArray

    def spread(self, at: FloatArray) -> float:
        """Standard deviation where the columns are `at`, (k, 7)."""
        each = np.einsum("ki,ki->k", at, self.solution)
        within = np.einsum("ki,kij,kj->k", at, self.covariance, at)
        middle = (self.share * each).sum()
        return math.sqrt(max(float((self.share * (within + (each - middle) ** 2)).sum()), 0.0))


def solve(models: Models, design: FloatArray, y: FloatArray, weight: FloatArray) -> Solution:
    """Of each model; design: (k, n, 7)."""
    weighted = design * weight[None, :, None]
    normal = np.swapaxes(design, 1, 2) @ weighted + models.precision
    right = np.swapaxes(weighted, 1, 2) @ y
    covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
    solution = (covariance @ right[:, :, None])[:, :, 0]
    each = (design @ solution[:, :, None])[:, :, 0]
    # By the residuals: right @ solution loses what tells one board from another to rounding.
    off = (y - each) ** 2 @ weight
    off += np.einsum("ki,kij,kj->k", solution, models.precision, solution)
    evidence = models.log_weight - 0.5 * (off + np.linalg.slogdet(normal)[1])
    share = np.exp(evidence - evidence.max())
    share /= share.sum()
    return Solution(evidence, share, solution, covariance, share @ each)


@dataclass(frozen=True, eq=False)
class Window:
    """What is fitted. Rows (n,): seconds from now on, degrees Celsius, numbers of readings.

    start_s: the first. step_s: when the load changed, -infinity: it did not. fans: shares of full
    speed each STEP_S seconds, at grid_s. resolution: of the sensor, in degrees.
    """

    times: FloatArray
    values: FloatArray
    counts: FloatArray
    start_s: float
    step_s: float
    grid_s: FloatArray
    fans: FloatArray
    resolution: float

    @property
    def watched_s(self) -> float:
        """How long the step was seen for; 0 where there is none."""
        after = self.times[self.times > self.step_s] if math.isfinite(self.step_s) else ()
        return BIN_S * float(np.unique(np.floor(np.asarray(after) / BIN_S)).size)

    @cached_property
    def misfit(self) -> FloatArray:
        """Variance of each row that is the model's fault."""
        misfit = np.full(self.times.size, _MISFIT_CELSIUS**2)
        passed = self.times - self.step_s
        after = passed > -_STEP_UNSURE_S
        fades = np.exp(-np.maximum(passed[after], 0.0) / TRANSIENT_S)
        misfit[after] += (_TRANSIENT_CELSIUS * fades) ** 2
        return misfit

    def design(self, models: Models) -> FloatArray:
        """Columns of each model, (k, n, 7)."""
        return columns(models, self.times, self.start_s, self.step_s, cooling(self.fans))

    def linearised(self, models: Models, design: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and weights under which least squares is the fit under the readings' likelihood.

        Of a fine sensor these are the readings; of a coarse one Newton's step from a fit that takes
        rounding as noise.
        """
        counts, misfit, resolution = self.counts, self.misfit, self.resolution
        y = self.values - REFERENCE_CELSIUS
        variance = (resolution**2 / 12.0 + _ROUGH_SIGMA**2) / counts + misfit
        fitted = solve(models, design, y, 1.0 / (variance + resolution**2 / 12.0)).values
        if resolution < COARSE_CELSIUS:
            off = np.median(np.abs(y - fitted) * np.sqrt(counts))
            return y, 1.0 / ((1.5 * float(off)) ** 2 / counts + misfit)
        seen, weight = self.relinearised(fitted)
        for _ in range(_NEWTON_STEPS - 1):
            seen, weight = self.relinearised(solve(models, design, seen, weight).values)
        return seen, weight

    def relinearised(self, fitted: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same of a coarse sensor, around fitted values."""
        y = self.values - REFERENCE_CELSIUS
        sigma = likeliest_sigma(fitted, y, self.counts, self.resolution)
        seen, weight = pull(fitted, y, self.counts, self.resolution, sigma)
        return seen, 1.0 / (1.0 / weight + self.misfit)

"""Likelihood of readings that a sensor has rounded to its resolution.

A reading v of resolution r says that temperature plus noise was within r/2 of v. With logistic
noise (nearly normal, and a wild value weighs no more than a few) both derivatives of its logarithm
are closed forms. Between two edges a coarse sensor says little, at an edge a lot: the time of each
change of a whole degree carries most of what is known.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SIGMAS: FloatArray = np.array([0.06, 0.1, 0.16, 0.25, 0.4, 0.65])
"""Noise of the sensors that are tried, degrees."""

_LOGISTIC = 1.0 / 1.70
"""Scale of the logistic distribution nearest to a normal one of deviation 1."""

_REACH_CELSIUS = 1.0
"""No reading moves the fit by more at once."""


def pull(
    fit: FloatArray, values: FloatArray, counts: FloatArray, resolution: float, sigma: float
) -> tuple[FloatArray, FloatArray]:
    """What a Gaussian observation at `fit` would have to be: its value and its weight, each (n,).

    One Newton step on the likelihood; `counts` readings have each of the `values`.
    """
    scale = _LOGISTIC * sigma
    low, high = _edges(fit, values, resolution, scale)
    slope = (low + high - 1.0) / scale
    curvature = (low * (1.0 - low) + high * (1.0 - high)) / scale**2
    weight = np.maximum(curvature, np.abs(slope) / _REACH_CELSIUS) + 1e-6
    return fit + slope / weight, counts * weight


def likeliest_sigma(
    fit: FloatArray, values: FloatArray, counts: FloatArray, resolution: float
) -> float:
    """The noise of SIGMAS under which the readings are likeliest."""
    best, most = float(SIGMAS[0]), -np.inf
    for sigma in SIGMAS:
        low, high = _edges(fit, values, resolution, _LOGISTIC * sigma)
        likelihood = float(counts @ np.log(np.maximum(high - low, 1e-12)))
        if likelihood > most:
            best, most = float(sigma), likelihood
    return best


def _edges(
    fit: FloatArray, values: FloatArray, resolution: float, scale: float
) -> tuple[FloatArray, FloatArray]:
    """Chance of less than the lower edge, and of less than the upper one."""
    below = np.clip((values - resolution / 2.0 - fit) / scale, -40.0, 40.0)
    above = np.clip((values + resolution / 2.0 - fit) / scale, -40.0, 40.0)
    return 1.0 / (1.0 + np.exp(-below)), 1.0 / (1.0 + np.exp(-above))

"""How well a crossing can be forecast at all: what the samples of a trace say about it.

The bound is Cramer and Rao's in the Bayesian form of van Trees (Detection, Estimation and
Modulation Theory, part I, section 2.4), linearised at the truth: the Fisher information that the
rounded, noisy samples have of a board's parameters, added to what was known of them before. It
holds for an observer who has the simulator's own equations, its fan law, the fan's speed at each
moment, the time of the change and the noise of the sensor; who has less cannot do better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm
from thermal_traces import CHANGE_S, GAP_S, SAMPLE_S, Crossing, Trajectory, crossings

FloatArray = npt.NDArray[np.float64]

_PRIOR_SEED = 900_000
_PRIOR_TRACES = 100
_STEPS_A_SECOND = 2
"""As the plant has them."""


def bounds(
    slopes_per_min: tuple[float, float],
    traces: int,
    seeds: Sequence[int],
    prior_widths: tuple[float, ...],
) -> FloatArray:
    """Least standard deviation in seconds of each crossing 60 s ahead, (seeds * traces, widths).

    A width of 1: the distribution of the boards is known, as far as a normal one can say it;
    3: three times as wide.
    """
    known = np.array([_truth(c) for c in crossings(slopes_per_min, _PRIOR_TRACES, _PRIOR_SEED)])
    covariance = np.cov(known.T) + 1e-8 * np.eye(known.shape[1])
    return np.array(
        [
            _bound(crossing, covariance, prior_widths)
            for seed in seeds
            for crossing in crossings(slopes_per_min, traces, seed)
        ]
    )


def quantile(deviations: FloatArray, share: float) -> float:
    """Size of error in seconds that this share of normal errors of these deviations keep."""
    return float(
        brentq(
            lambda size: float(np.mean(2.0 * norm.cdf(size / deviations) - 1.0)) - share, 0.0, 1e4
        )
    )


def _truth(crossing: Crossing) -> FloatArray:
    """A board's parameters, and its state at the first sample."""
    path, first = crossing.trajectory, int(crossing.since_s)
    spec = path.spec
    before = path.watts[0] if first < CHANGE_S else path.watts[1]
    logs = [math.log(x) for x in (spec.die_r, spec.die_c, spec.sink_c, spec.air_r)]
    state = [path.hall[first], path.drift, path.die[first], path.sink[first]]
    return np.array([*logs, spec.leakage_w_per_celsius, before, path.watts[1], *state])


def _bound(
    crossing: Crossing, covariance: FloatArray, prior_widths: tuple[float, ...]
) -> list[float]:
    truth = _truth(crossing)
    nudge = 1e-3 * np.sqrt(np.diag(covariance))
    nudged = truth[:, None] + np.hstack(
        [np.diag(nudge), -np.diag(nudge), np.zeros((len(truth), 1))]
    )
    first = int(crossing.since_s)
    die = _simulate(nudged, crossing.trajectory, first, int(crossing.now_s), crossing.at_s)
    count = len(truth)
    slopes = (die[:, :count] - die[:, count:-1]) / (2.0 * nudge)
    seconds = np.arange(first, int(crossing.now_s))
    there = (seconds < crossing.gap_s) | (seconds >= crossing.gap_s + GAP_S)
    seen, at_truth = slopes[: seconds.size], die[: seconds.size, -1] + crossing.offset
    weight = there * _information(at_truth, crossing.noise) / SAMPLE_S
    information = seen.T @ (weight[:, None] * seen)
    rate = die[-1, -1] - die[-2, -1]
    found = []
    for width in prior_widths:
        posterior = np.linalg.inv(information + np.linalg.inv(width**2 * covariance))
        found.append(math.sqrt(slopes[-1] @ posterior @ slopes[-1]) / rate)
    return found


def _simulate(
    parameters: FloatArray, path: Trajectory, first: int, now: int, last: int
) -> FloatArray:
    """Die temperatures (seconds, boards) of the plant's equations; the past fan is given."""
    die_r, die_c, sink_c, air_r = np.exp(parameters[:4])
    leakage, before, after, hall, drift, die, sink = parameters[4:]
    spec, made = path.spec, [die]
    span = spec.fan_full_celsius - spec.fan_start_celsius
    for _, second in pairwise(range(first, last + 1)):
        hall = hall + drift
        watts = before if second < CHANGE_S else after
        for _ in range(_STEPS_A_SECOND):
            law = 0.3 + 0.7 * (die - spec.fan_start_celsius) / span
            fan = path.fan[second] if second < now or path.fan_fails else np.clip(law, 0.3, 1.0)
            power = watts + leakage * (die - 50.0)
            through = (die - sink) / die_r
            out = (sink - hall) * (0.4 + 0.6 * fan) / air_r
            die = die + (power - through) / die_c / _STEPS_A_SECOND
            sink = sink + (through - out) / sink_c / _STEPS_A_SECOND
        made.append(die)
    return np.array(made)


def _information(celsius: FloatArray, noise: float) -> FloatArray:
    """Fisher information of one reading of whole degrees about the temperature, 1/degree^2."""
    found = np.zeros_like(celsius)
    nearest = np.round(celsius)
    for shift in range(-3, 4):
        above = (nearest + shift + 0.5 - celsius) / noise
        below = (nearest + shift - 0.5 - celsius) / noise
        chance = norm.cdf(above) - norm.cdf(below)
        change = (norm.pdf(below) - norm.pdf(above)) / noise
        found += np.where(chance > 1e-12, change**2 / np.maximum(chance, 1e-12), 0.0)
    return found

"""A board of two masses behind a fan, as columns of a linear fit.

A die of time constant tau1 sits on a heat sink that gives its heat to the hall, the better the
faster the fan turns:

    d sink/dt = drive - share(fan) (sink - hall) / tau2,    die = sink + what its power adds

For fixed tau1 and tau2 the temperature is linear in hall, first sink temperature, drive, the step
of the drive at a known time, what that step does to the die, drift and offset. The fan is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PASSIVE_SHARE = 0.35
"""Share of the cooling that is left while the fan stands still; forced air gives the rest."""

REFERENCE_CELSIUS = 30.0
"""Temperatures are fitted as differences to this one, where the hall is guessed to be."""

DIE_TAUS_S: FloatArray = np.array([5.0, 13.0])
SINK_TAUS_S: FloatArray = np.array([60.0, 100.0, 165.0, 270.0, 450.0, 800.0])
_PAIRS = list(itertools.product(range(DIE_TAUS_S.size), range(SINK_TAUS_S.size)))
_DIE = DIE_TAUS_S[[die for die, _ in _PAIRS]]
_SINK = np.array([sink for _, sink in _PAIRS])
MODELS = len(_PAIRS)
COLUMNS = 7
DRIFT = 5

STEP_S = 2.0
_SINK_TO_DIE = 4.5
"""Kelvin per watt from sink to hall over those from die to sink: 2 to 12 on boards with a fan."""


@dataclass(frozen=True)
class Prior:
    """Standard deviations of the columns, in degrees; drift in degrees a second."""

    hall: float = 20.0
    start: float = 60.0
    drive: float = 8.0
    step: float = 8.0
    step_correlation: float = 0.8
    drift: float = 0.005
    offset: float = 8.0

    def precision(self) -> FloatArray:
        """Inverse covariance, (7, 7): a step heats the die and the sink alike."""
        deviations = [
            self.hall, self.start, self.drive, self.step, self.step, self.drift, self.offset
        ]  # fmt: skip
        covariance = np.diag(np.array(deviations) ** 2)
        covariance[3, 4] = covariance[4, 3] = self.step_correlation * self.step**2
        return np.asarray(np.linalg.inv(covariance), dtype=np.float64)


def cooling(fan: FloatArray) -> FloatArray:
    """Cooling at a fan speed from 0 to 1, as a share of that at full speed."""
    return PASSIVE_SHARE + (1.0 - PASSIVE_SHARE) * fan


def columns(times: FloatArray, start_s: float, step_s: float, share: FloatArray) -> FloatArray:
    """The columns of every model at `times`; (models, times, 7).

    share: cooling each STEP_S seconds from start_s on. step_s: when the drive changed, -infinity:
    it did not.
    """
    rate = share[None, :] / SINK_TAUS_S[:, None]
    spent = np.cumsum(rate, axis=1) * STEP_S
    spent -= spent[:, :1]
    grow = np.exp(spent)
    # What a drive of one degree a second has added since the start, and since the step.
    gain = grow * -np.expm1(-rate * STEP_S) / rate
    gain[:, 0] = 0.0
    since_step = start_s + STEP_S * np.arange(share.size) > step_s
    unit = _SINK_TO_DIE / SINK_TAUS_S[:, None]
    fade = 1.0 / grow
    drive = np.cumsum(gain, axis=1) * fade * unit
    step = np.cumsum(np.where(since_step, gain, 0.0), axis=1) * fade * unit
    place = np.clip((times - start_s) / STEP_S, 0.0, share.size - 1.001)
    left = place.astype(np.intp)
    part = place - left
    made = np.empty((MODELS, times.size, COLUMNS))
    for index, rows in ((1, fade), (2, drive), (3, step)):
        made[:, :, index] = (rows[:, left] * (1.0 - part) + rows[:, left + 1] * part)[_SINK]
    made[:, :, 0] = 1.0 - made[:, :, 1]
    passed = np.maximum(times - step_s, 0.0) if np.isfinite(step_s) else np.zeros_like(times)
    made[:, :, 4] = -np.expm1(-passed[None, :] / _DIE[:, None])
    made[:, :, DRIFT] = times - start_s
    made[:, :, 6] = 1.0
    return made

"""A board of two masses behind a fan, as columns of a linear fit.

A die of time constant tau1 sits on a heat sink that gives its heat to the hall, the better the
faster the fan turns:

    d sink/dt = drive - share(fan) (sink - hall) / tau2,    die = sink + what its power adds

For fixed tau1 and tau2 the temperature is linear in hall, first sink temperature, drive, the step
of the drive at a known time, what that step does to the die, drift and offset. The fan is known.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PASSIVE_SHARE = 0.35
"""Share of the cooling that is left while the fan stands still; forced air gives the rest."""

REFERENCE_CELSIUS = 30.0
"""Temperatures are fitted as differences to this one, where the hall is guessed to be."""

_DIE_TAUS_S = (5.0, 13.0)
_SINK_TAUS_S = (60.0, 100.0, 165.0, 270.0, 450.0, 800.0)
COLUMNS = 7
STEP = slice(3, 5)
DRIFT = 5

STEP_S = 2.0
_SINK_TO_DIE = 4.5
"""Kelvin per watt from sink to hall over those from die to sink: 2 to 12 on boards with a fan."""

_LEAST_DOUBT = 0.1
_KNOWN_CORRELATION = 0.97
_NODE = math.sqrt(1.5)
"""A known board is tried at the middle and so many deviations to both sides, as Gauss and Hermite
would; it is never trusted to less than _LEAST_DOUBT, and never alone."""


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


@dataclass(frozen=True)
class BoardConstants:
    """What a board is, whatever it does: see the module's text for both time constants.

    sink_tau_s: at full fan. sink_to_die: kelvin per watt from sink to hall over those from die to
    sink. doubt: standard deviation of the logarithm of sink_tau_s.
    """

    die_tau_s: float
    sink_tau_s: float
    sink_to_die: float
    doubt: float


@dataclass(frozen=True, eq=False)
class Models:
    """Boards that are tried beside each other. Arrays (k,), but precision: (k, 7, 7).

    log_weight: how much each is believed before any sample, with its prior's normalisation.
    """

    die_taus_s: FloatArray
    sink_taus_s: FloatArray
    sink_to_die: FloatArray
    log_weight: FloatArray
    precision: FloatArray

    @cached_property
    def sinks(self) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
        """sink_taus_s and sink_to_die of the heat sinks that differ, and the one of each model."""
        both = np.stack([self.sink_taus_s, self.sink_to_die])
        (taus_s, to_die), sinks = np.unique(both, axis=1, return_inverse=True)
        return taus_s, to_die, sinks.ravel()

    @classmethod
    def grid(
        cls,
        die_taus_s: Sequence[float],
        sink_taus_s: Sequence[float],
        sink_to_die: Sequence[float],
        prior: Prior,
        weight: float = 1.0,
    ) -> Models:
        """Each with each, of the same weight."""
        rows = np.array(list(itertools.product(die_taus_s, sink_taus_s, sink_to_die)))
        precision = np.repeat(prior.precision()[None], len(rows), axis=0)
        log_weight = math.log(weight / len(rows)) + 0.5 * np.linalg.slogdet(precision)[1]
        return cls(rows[:, 0], rows[:, 1], rows[:, 2], log_weight, precision)

    @classmethod
    def known(cls, board: BoardConstants, weight: float) -> Models:
        """A board that was learnt, believed by `weight` below 1, beside all others."""
        spread = _NODE * max(board.doubt, _LEAST_DOUBT)
        prior = Prior(step_correlation=_KNOWN_CORRELATION)
        parts = [
            cls.grid(
                [board.die_tau_s],
                [board.sink_tau_s * math.exp(side * spread)],
                [board.sink_to_die],
                prior,
                weight * share,
            )
            for side, share in ((-1.0, 1.0 / 6.0), (0.0, 2.0 / 3.0), (1.0, 1.0 / 6.0))
        ]
        return cls.joined([*parts, unknown_board(1.0 - weight)])

    @classmethod
    def joined(cls, parts: Sequence[Models]) -> Models:
        """All of them."""
        columns = (
            [getattr(part, field.name) for part in parts] for field in dataclasses.fields(cls)
        )
        return cls(*(np.concatenate(column) for column in columns))

    def part(self, where: slice) -> Models:
        """Some of them."""
        fields = dataclasses.fields(self)
        return Models(*(getattr(self, field.name)[where] for field in fields))


def unknown_board(weight: float = 1.0) -> Models:
    """Boards of whom nothing is known: a grid over what there is, none has to be right."""
    return Models.grid(_DIE_TAUS_S, _SINK_TAUS_S, [_SINK_TO_DIE], Prior(), weight)


def cooling(fan: FloatArray) -> FloatArray:
    """Cooling at a fan speed from 0 to 1, as a share of that at full speed."""
    return PASSIVE_SHARE + (1.0 - PASSIVE_SHARE) * fan


def columns(
    models: Models, times: FloatArray, start_s: float, step_s: float, share: FloatArray
) -> FloatArray:
    """The columns of every model at `times`; (models, times, 7).

    share: cooling each STEP_S seconds from start_s on. step_s: when the drive changed, -infinity:
    it did not.
    """
    taus_s, to_die, sinks = models.sinks
    rate = share[None, :] / taus_s[:, None]
    spent = np.cumsum(rate, axis=1) * STEP_S
    spent -= spent[:, :1]
    grow = np.exp(spent)
    # What a drive of one degree a second has added since the start, and since the step.
    gain = grow * -np.expm1(-rate * STEP_S) / rate
    gain[:, 0] = 0.0
    since_step = start_s + STEP_S * np.arange(share.size) > step_s
    unit = (to_die / taus_s)[:, None]
    fade = 1.0 / grow
    drive = np.cumsum(gain, axis=1) * fade * unit
    step = np.cumsum(np.where(since_step, gain, 0.0), axis=1) * fade * unit
    place = np.clip((times - start_s) / STEP_S, 0.0, share.size - 1.001)
    left = place.astype(np.intp)
    part = place - left
    made = np.empty((models.die_taus_s.size, times.size, COLUMNS))
    for index, rows in ((1, fade), (2, drive), (3, step)):
        made[:, :, index] = (rows[:, left] * (1.0 - part) + rows[:, left + 1] * part)[sinks]
    made[:, :, 0] = 1.0 - made[:, :, 1]
    passed = np.maximum(times - step_s, 0.0) if np.isfinite(step_s) else np.zeros_like(times)
    made[:, :, 4] = -np.expm1(-passed[None, :] / models.die_taus_s[:, None])
    made[:, :, DRIFT] = times - start_s
    made[:, :, 6] = 1.0
    return made

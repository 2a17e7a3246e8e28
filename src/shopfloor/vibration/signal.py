"""What the cores of this folder pass around: a block as it came, and a window that is one signal.

Nothing here needs ROS.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

STANDARD_GRAVITY_M_S2 = 9.80665


class Unit(enum.IntEnum):
    """Unit of a signal; the values of VibrationBlock.UNIT_*."""

    UNKNOWN = 0
    ACCELERATION = 1
    VELOCITY = 2
    DISPLACEMENT = 3
    CURRENT = 4
    VOLTAGE = 5

    @property
    def symbol(self) -> str:
        """As it is written behind a number."""
        return ("", "m/s^2", "mm/s", "um", "A", "V")[self]


UNITS = {
    "m/s^2": (Unit.ACCELERATION, 1.0),
    "g": (Unit.ACCELERATION, STANDARD_GRAVITY_M_S2),
    "mm/s": (Unit.VELOCITY, 1.0),
    "um": (Unit.DISPLACEMENT, 1.0),
    "A": (Unit.CURRENT, 1.0),
    "V": (Unit.VOLTAGE, 1.0),
}
"""Units of recordings: what they become, and the factor."""


class Defect(enum.IntFlag):
    """What can be wrong with a signal; the values of SignalQuality.DEFECT_*."""

    NONE = 0
    NAN = 1
    FLATLINE = 2
    OPEN_BIAS = 4
    SATURATION = 8
    HUM = 16
    GAP = 32
    NON_MONOTONIC = 64
    TIME_JUMP = 128
    ZONE_OFFSET = 256
    SECOND_OFFSET = 512
    CLOCK_DRIFT = 1024
    LATE = 2048
    FORMAT = 4096


class Status(enum.IntEnum):
    """Whether a signal can be trusted; the values of SignalQuality.STATUS_*."""

    UNKNOWN = 0
    VALID = 1
    SUSPECT = 2


@dataclass(frozen=True, slots=True)
class Quality:
    """Status of a signal, with the reason in words where it is not VALID."""

    status: Status = Status.VALID
    defects: Defect = Defect.NONE
    reason: str = ""
    nan_fraction: float = 0.0
    saturated_fraction: float = 0.0
    gap_ms: float = 0.0
    clock_offset_s: float = math.nan
    clock_drift_ppm: float = math.nan


def worst(qualities: list[Quality]) -> Quality:
    """One quality for several: the worst status, every defect, the reasons joined.

    An empty list is UNKNOWN.
    """
    if not qualities:
        return Quality(Status.UNKNOWN, reason="no signal")
    if len(qualities) == 1:
        return qualities[0]
    rank = (Status.VALID, Status.SUSPECT, Status.UNKNOWN)
    defects = Defect.NONE
    for quality in qualities:
        defects |= quality.defects
    reasons = dict.fromkeys(quality.reason for quality in qualities if quality.reason)
    return Quality(
        status=max((quality.status for quality in qualities), key=rank.index),
        defects=defects,
        reason="; ".join(reasons),
        nan_fraction=max(quality.nan_fraction for quality in qualities),
        saturated_fraction=max(quality.saturated_fraction for quality in qualities),
        gap_ms=max(quality.gap_ms for quality in qualities),
        clock_offset_s=next(
            (q.clock_offset_s for q in qualities if not math.isnan(q.clock_offset_s)), math.nan
        ),
        clock_drift_ppm=next(
            (q.clock_drift_ppm for q in qualities if not math.isnan(q.clock_drift_ppm)), math.nan
        ),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of one sensor as they arrived.

    stamp_ns: of the first sample; received_ns: arrival in the host, 0 where nobody knows.
    data: (channels, samples) float32. full_scale: NaN where it is not known.
    bias_v: one IEPE bias per channel, or empty.
    """

    machine_id: str
    sensor_id: str
    sequence: int
    stamp_ns: int
    received_ns: int
    sample_rate_hz: float
    channels: tuple[str, ...]
    unit: Unit
    data: Samples
    full_scale: float = math.nan
    bias_v: tuple[float, ...] = ()
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """Samples without a break, of the length that features are computed on.

    data: (channels, samples) float32; for a window that broke off it has no samples, and `clock`
    says why.
    """

    machine_id: str
    sensor_id: str
    frame_id: str
    stamp_ns: int
    first_sequence: int
    last_sequence: int
    sample_rate_hz: float
    channels: tuple[str, ...]
    unit: Unit
    data: Samples
    full_scale: float = math.nan
    bias_v: tuple[float, ...] = ()
    clock: Quality = field(default_factory=Quality)

    @property
    def duration_s(self) -> float:
        """Length, seconds."""
        return self.data.shape[1] / self.sample_rate_hz

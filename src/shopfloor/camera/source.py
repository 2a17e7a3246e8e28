"""What every kind of camera looks like to the capture loop: one small protocol and its errors.

A source belongs to one thread, the capture thread. It never waits longer than it is told to, so
that the thread can be stopped; pacing (for sources that could deliver at once) is its own job.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from shopfloor.camera.device_clock import Latch

AnyImage = npt.NDArray[np.generic]


class Cause(Enum):
    """Why a camera gives no frames; the names are those of CameraState.CAUSE_*."""

    NONE = "none"
    ABSENT = "absent"
    BUSY = "busy"
    DENIED = "denied"
    FORMAT = "format"
    NO_FRAMES = "no_frames"
    DISCONNECTED = "disconnected"
    WRONG_DEVICE = "wrong_device"
    BAD_FRAMES = "bad_frames"
    EMPTY = "empty"
    CONFIGURATION = "configuration"
    UNKNOWN = "unknown"


class SourceError(Exception):
    """The source can't be opened or used; the message names it and says what is allowed."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class SourceLost(SourceError):
    """The source was open and is gone: a cable, a power supply, a driver, a peer."""

    def __init__(self, message: str, cause: Cause = Cause.DISCONNECTED) -> None:
        super().__init__(cause, message)


class BadFrame(Exception):
    """One frame can't be used: skipped and counted, and the next `read` goes on behind it.

    sequence, trigger: the counts that the frame would have had; part_id: the part that it showed,
        if known.
    steady_ns, ros_stamp_ns: when it was exposed, as in Grab; None: no better than its arrival.
    """

    def __init__(
        self,
        message: str,
        sequence: int,
        part_id: str = "",
        trigger: int = 0,
        *,
        steady_ns: int | None = None,
        ros_stamp_ns: int | None = None,
    ) -> None:
        super().__init__(message)
        self.sequence = sequence
        self.part_id = part_id
        self.trigger = trigger
        self.steady_ns = steady_ns
        self.ros_stamp_ns = ros_stamp_ns


class EndOfStream(Exception):
    """The source has no more frames and never will have (a folder or file without loop)."""


@dataclass(frozen=True, slots=True)
class Grab:
    """One frame as it left the source.

    image: H x W, H x W x 2 or H x W x 3, uint8 or uint16; not written to by anybody afterwards.
    encoding: name from sensor_msgs/image_encodings.
    device_stamp_ns: exposure by the device's own clock, None where it gives none.
    steady_ns: time.monotonic_ns() of the exposure as far as the host knows it, at the latest of the
        arrival.
    sequence: the source's own counter; a gap means lost frames, a repeat a frame delivered twice.
    part_id: the part in view, empty when the source doesn't know.
    ros_stamp_ns: ROS time of the exposure where the source has it itself, as a bag does.
    stamp_error_ns: bound of the error of steady_ns, NaN: not known.
    latch: the device's clock, read since the frame before.
    trigger: the device's count of triggers, 0: it runs free, or doesn't tell.
    superseded: frames before this one that a newer one replaced before they were read.
    exposure_us, gain_db: with which it was taken, NaN: not known.
    """

    image: AnyImage
    encoding: str
    device_stamp_ns: int | None
    steady_ns: int
    sequence: int
    part_id: str = ""
    ros_stamp_ns: int | None = None
    stamp_error_ns: float = math.nan
    latch: Latch | None = None
    trigger: int = 0
    superseded: int = 0
    exposure_us: float = math.nan
    gain_db: float = math.nan


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Which device a source reads, and what it was set to.

    kind: folder, video, v4l2, simulated, ...
    device_id: serial number, path or URL, without a password; the only one accepted on reconnect.
    rate_hz: frames per second that it was set to, 0 when it isn't known or not limited.
    has_clock: its device stamps run with time, so they can be mapped to the host's clock.
    triggered: a frame comes when somebody asks for it: silence is no fault.
    has_noise: a sensor's own pixels: two equal frames mean that it is frozen.
    settings: name to value as read back from the device after it was opened.
    """

    kind: str
    device_id: str
    rate_hz: float = 0.0
    has_clock: bool = False
    has_noise: bool = False
    triggered: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


class Source(Protocol):
    """A camera, or something that stands in for one. All methods are called on one thread."""

    def open(self) -> None:
        """Open the device; raises SourceError. May be called again after `close`."""

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame, None when none came within `timeout_s`.

        Raises BadFrame, SourceLost or EndOfStream.
        """

    def close(self) -> None:
        """Free the device; harmless when it isn't open."""

    def describe(self) -> SourceInfo:
        """Which device this is; callable before `open`."""


@runtime_checkable
class Triggerable(Protocol):
    """A source that takes a picture when it is told to."""

    def trigger(self) -> bool:
        """Ask for one picture; from any thread, returns at once. False: it can't be asked now."""

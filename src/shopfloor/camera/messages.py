"""What the camera node says, as messages."""

from __future__ import annotations

import hashlib
import math

from sensor_msgs.msg import CameraInfo
from shopfloor_msgs.msg import CameraState, FrameInfo

from shopfloor.camera.calibration import Calibration
from shopfloor.camera.capture import CaptureHealth
from shopfloor.camera.source import Grab
from shopfloor.ros.frames import Frame

_PART_ID_BYTES = 64
_TEXT_BYTES = 254


def bounded_part_id(part_id: str) -> str:
    """The part's id in at most 64 bytes; a longer one is cut and told apart by its hash."""
    encoded = part_id.encode()
    if len(encoded) <= _PART_ID_BYTES:
        return part_id
    digest = hashlib.sha256(encoded).hexdigest()[:10]
    kept = encoded[: _PART_ID_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def bounded(text: str) -> str:
    """Text for a bounded field of a message, which counts bytes."""
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")


def frame_info(frame: Frame, grab: Grab | None, source: str, frames_lost: int) -> FrameInfo:
    """A frame's FrameInfo but for its stamps; `grab` is None where the frame is a bad one."""
    return FrameInfo(
        sequence=frame.sequence,
        part_id=frame.part_id,
        source=source,
        stamp_error_ms=grab.stamp_error_ns / 1e6 if grab is not None else math.nan,
        arrival_delay_ms=math.nan,
        width=frame.width,
        height=frame.height,
        encoding=frame.encoding,
        exposure_us=grab.exposure_us if grab is not None else math.nan,
        gain_db=grab.gain_db if grab is not None else math.nan,
        trigger_sequence=grab.trigger if grab is not None else 0,
        frames_lost=frames_lost,
    )


def camera_state(health: CaptureHealth) -> CameraState:
    """The state of a source, but for the header."""
    return CameraState(
        state=getattr(CameraState, f"STATE_{health.state.name}"),
        cause=getattr(CameraState, f"CAUSE_{health.cause.name}"),
        cause_text=bounded(health.cause_text),
        kind=health.source.kind,
        device_id=bounded(health.source.device_id),
        width=health.size[0],
        height=health.size[1],
        encoding=health.encoding,
        frames=health.frames,
        dropped_device=health.lost,
        dropped_superseded=health.superseded,
        dropped_stale=health.stale,
        duplicates=health.duplicates,
        bad_frames=health.bad,
        reconnects=health.reconnects,
        device_rate_hz=health.rate_hz + health.lost_rate_hz,
        published_rate_hz=health.rate_hz,
        skipped_rate_hz=health.lost_rate_hz,
        time_to_first_frame_ms=_or_nan(health.time_to_first_frame_ms),
        last_outage_s=_or_nan(health.last_outage_s),
        stamp_error_ms=health.stamp_error_ms,
        clock_drift_ppm=health.clock_drift_ppm,
    )


def camera_info(calibration: Calibration) -> CameraInfo:
    """The calibration, but for the header."""
    return CameraInfo(
        width=calibration.width,
        height=calibration.height,
        distortion_model=calibration.distortion_model,
        d=calibration.d,
        k=calibration.k,
        r=calibration.r,
        p=calibration.p,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value

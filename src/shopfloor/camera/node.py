"""camera: the frames of one source, with what is known of each, and the state of the source."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from shopfloor_msgs.msg import CameraState, FrameInfo

from shopfloor.camera.capture import CaptureHealth, CaptureLoop, CaptureState
from shopfloor.camera.parameters import CameraParameters
from shopfloor.camera.source import AnyImage, BadFrame, Cause, Grab, SourceError
from shopfloor.camera.sources import make_source
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.frame_endpoints import FramePublisher
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode

STATE_PERIOD_S = 1.0
_PART_ID_BYTES = 64
_NO_PIXELS = np.empty((0, 0), np.uint8)
_TEXT_BYTES = 254


class CameraNode(ShopfloorNode[CameraParameters]):
    """Runs a capture loop while it is active; its name is the camera's name and frame_id."""

    PARAMETERS = CameraParameters

    def __init__(self, name: str = "camera", **node_arguments: Any) -> None:
        self._loop: CaptureLoop | None = None
        self._frames: FramePublisher | None = None
        self._changes: deque[CaptureHealth] = deque(maxlen=64)
        self._logged: tuple[CaptureState, Cause] | None = None
        self._told_errors = 0
        # What OpenCV prints of a bad picture repeats our error without naming the picture.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Make the endpoints; a source that can never be opened is refused here."""
        try:
            source = make_source(self.params)
        except SourceError as error:
            raise NodeError(str(error)) from error
        self._source_id = _bounded(source.describe().device_id)
        self._frames = FramePublisher(self, self.get_name(), jpeg_quality=self.params.jpeg_quality)
        self._state = self.publisher("camera_state", camera=self.get_name())
        self._changed = self.guard(self._tell_changes, "camera state")
        self.steady_timer(STATE_PERIOD_S, self._publish_state)
        self.diagnostics.add("source", self._source_status)

    def start(self) -> None:
        """Start to capture; a source that isn't there is tried again for as long as it takes."""
        self._logged = None
        self._told_errors = 0
        self._loop = CaptureLoop(
            make_source(self.params), self._on_grab, self._on_change, self._on_bad
        )
        self._loop.start()

    def stop(self) -> None:
        """Stop to capture and give the device back."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.stop():
            self.get_logger().warning("the driver holds the capture thread; left behind")
        if self._frames is not None:
            self._tell_changes()

    def teardown(self) -> None:
        """Offer no more frames."""
        self.diagnostics.remove("source")
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    # On the capture thread ----------------------------------------------------------------------

    def _on_grab(self, grab: Grab) -> None:
        frames = self._frames
        if frames is None:
            return
        frame = self._frame(grab.image, grab.encoding, grab.sequence, grab.part_id, grab.steady_ns)
        info = self._info(frame)
        if grab.device_stamp_ns is not None:
            info.device_stamp = self.stamp(max(grab.device_stamp_ns, 0))
            info.arrival_delay_ms = (frame.received_ns - grab.steady_ns) / 1e6
        frames.publish(frame, info)

    def _on_bad(self, bad: BadFrame) -> None:
        """Say that there was a frame, and which part was on it: nobody must wait for its image."""
        frames = self._frames
        if frames is None:
            return
        now_ns = time.monotonic_ns()
        frame = self._frame(_NO_PIXELS, "", bad.sequence, bad.part_id, now_ns)
        frames.publish(replace(frame, cause=str(bad)), self._info(frame))

    def _on_change(self, health: CaptureHealth) -> None:
        self._changes.append(health)
        self._changed.trigger()

    def _frame(
        self, image: AnyImage, encoding: str, sequence: int, part_id: str, steady_ns: int
    ) -> Frame:
        arrived_ns = time.monotonic_ns()
        return Frame(
            image=image,
            encoding=encoding,
            stamp_ns=self.now_ns() - (arrived_ns - steady_ns),
            sequence=sequence,
            camera=self.get_name(),
            part_id=bounded_part_id(part_id),
            received_ns=arrived_ns,
        )

    def _info(self, frame: Frame) -> FrameInfo:
        loop = self._loop
        info = FrameInfo(
            sequence=frame.sequence,
            part_id=frame.part_id,
            source=self._source_id,
            stamp_error_ms=math.nan,
            arrival_delay_ms=math.nan,
            width=frame.width,
            height=frame.height,
            encoding=frame.encoding,
            exposure_us=math.nan,
            gain_db=math.nan,
            frames_lost=loop.lost if loop is not None else 0,
        )
        info.header.stamp = self.stamp(frame.stamp_ns)
        info.header.frame_id = frame.camera
        return info

    # On the executor thread ---------------------------------------------------------------------

    def _tell_changes(self) -> None:
        """Log and publish what the capture thread noted; its last word is what is published."""
        health: CaptureHealth | None = None
        while self._changes:
            health = self._changes.popleft()
            if health.cause is Cause.BAD_FRAMES:
                self.fault("bad_frame", health.last_bad)
            key = (health.state, health.cause)
            if key != self._logged and Cause.BAD_FRAMES not in (
                health.cause,
                *(self._logged or ()),
            ):
                self._log(health)
            self._logged = key
        if health is not None:
            self._state.publish(self._state_message(health))

    def _log(self, health: CaptureHealth) -> None:
        if health.state is CaptureState.STREAMING:
            width, height = health.size
            self.get_logger().info(
                f"{health.source.kind} {health.source.device_id}: {width} x {height} "
                f"{health.encoding} after {health.time_to_first_frame_ms or 0.0:.0f} ms"
            )
        elif health.cause is not Cause.NONE:
            self.get_logger().warning(f"{health.cause_text}; trying again")
        elif health.cause_text:
            self.get_logger().info(health.cause_text)

    def _publish_state(self) -> None:
        if self._loop is None:
            return
        health = self._loop.health()
        if health.consumer_errors > self._told_errors:
            self.fault("frame_not_handed_on", health.last_consumer_error)
        self._told_errors = health.consumer_errors
        self._state.publish(self._state_message(health))

    def _state_message(self, health: CaptureHealth) -> CameraState:
        message = CameraState(
            state=getattr(CameraState, f"STATE_{health.state.name}"),
            cause=getattr(CameraState, f"CAUSE_{health.cause.name}"),
            cause_text=_bounded(health.cause_text),
            kind=health.source.kind,
            device_id=_bounded(health.source.device_id),
            width=health.size[0],
            height=health.size[1],
            encoding=health.encoding,
            frames=health.frames,
            dropped_device=health.lost,
            duplicates=health.duplicates,
            bad_frames=health.bad,
            reconnects=health.reconnects,
            device_rate_hz=health.rate_hz + health.lost_rate_hz,
            published_rate_hz=health.rate_hz,
            skipped_rate_hz=health.lost_rate_hz,
            time_to_first_frame_ms=_or_nan(health.time_to_first_frame_ms),
            last_outage_s=_or_nan(health.last_outage_s),
            stamp_error_ms=math.nan,
            clock_drift_ppm=math.nan,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self.get_name()
        return message

    def _source_status(self) -> Status:
        loop = self._loop
        if loop is None:
            return Status(Level.STALE, "not capturing")
        health = loop.health()
        values: dict[str, object] = {
            "source": f"{health.source.kind} {health.source.device_id}",
            "state": health.state.name,
            "rate_hz": health.rate_hz,
            "frames": health.frames,
            "lost": health.lost,
            "duplicates": health.duplicates,
            "bad": health.bad,
            "reconnects": health.reconnects,
            "consumer errors": health.consumer_errors,
        }
        if health.consumer_errors:
            values["last consumer error"] = health.last_consumer_error
        return Status(*_level(health, self.params.silence_s), values)


def _level(health: CaptureHealth, silence_s: float) -> tuple[Level, str]:
    if health.cause is Cause.BAD_FRAMES:
        return Level.WARN, f"bad frame: {health.cause_text}"
    if health.cause is not Cause.NONE:
        return Level.ERROR, f"{health.cause.value}: {health.cause_text}"
    if health.state is CaptureState.ENDED:
        return Level.WARN, health.cause_text
    if health.state is not CaptureState.STREAMING or health.last_frame_steady_ns is None:
        return Level.WARN, health.state.value
    silent_s = (time.monotonic_ns() - health.last_frame_steady_ns) / 1e9
    if silent_s > silence_s:
        return Level.WARN, f"no frame for {silent_s:.1f} s"
    return Level.OK, f"{health.rate_hz:.1f} Hz"


def bounded_part_id(part_id: str) -> str:
    """The part's id in at most 64 bytes; a longer one is cut and told apart by its hash."""
    encoded = part_id.encode()
    if len(encoded) <= _PART_ID_BYTES:
        return part_id
    digest = hashlib.sha256(encoded).hexdigest()[:10]
    kept = encoded[: _PART_ID_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def _bounded(text: str) -> str:
    """Text for a bounded field of a message, which counts bytes."""
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def main() -> None:
    """`ros2 run shopfloor camera`."""
    raise SystemExit(run_node(CameraNode))


if __name__ == "__main__":
    main()

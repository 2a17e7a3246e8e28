"""camera: the frames of one source, with what is known of each, and the state of the source."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.timer import Timer
from shopfloor_msgs.msg import CameraState, FrameInfo

from shopfloor.camera.calibration import Calibration, read_calibration
from shopfloor.camera.capture import CaptureHealth, CaptureLoop, CaptureState
from shopfloor.camera.messages import (
    bounded,
    bounded_part_id,
    camera_info,
    camera_state,
    frame_info,
)
from shopfloor.camera.parameters import CameraParameters
from shopfloor.camera.part_numbers import PartNumbers
from shopfloor.camera.source import AnyImage, BadFrame, Cause, Grab, SourceError, Triggerable
from shopfloor.camera.sources import make_source
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.frame_endpoints import FramePublisher
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode

STATE_PERIOD_S = 1.0
LISTENER_CHECK_S = 0.02

LISTENERS_SETTLE_S = 0.1
"""Endpoints of one graph find each other within this time of the first."""

HELD_S = 10.0
"""An opening that takes longer has most likely hung in the driver, and so has a read behind the
silence that it may wait for."""

_NO_PIXELS = np.empty((0, 0), np.uint8)


class CameraNode(ShopfloorNode[CameraParameters]):
    """Runs a capture loop while it is active; its name is the camera's name and frame_id."""

    PARAMETERS = CameraParameters

    def __init__(self, name: str = "camera", **node_arguments: Any) -> None:
        self._loop: CaptureLoop | None = None
        self._listener_timer: Timer | None = None
        self._frames: FramePublisher | None = None
        self._changes: deque[CaptureHealth] = deque(maxlen=64)
        self._logged: tuple[CaptureState, Cause] | None = None
        self._told_errors = 0
        # What OpenCV prints of a bad picture repeats our error without naming the picture.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Make the endpoints; what can never work is refused here."""
        try:
            self._source = make_source(self.params)
        except SourceError as error:
            raise NodeError(str(error)) from error
        template, path = self.params.part_template, self.params.calibration
        self._numbers = PartNumbers(template) if template else None
        self._calibration = read_calibration(Path(path).expanduser()) if path else None
        self._frames = FramePublisher(self, self.get_name(), jpeg_quality=self.params.jpeg_quality)
        self._state = self.publisher("camera_state", camera=self.get_name())
        self._camera_info = self.publisher("camera_info", camera=self.get_name())
        self.service("trigger_camera", self._trigger, camera=self.get_name())
        self._changed = self.guard(self._tell_changes, "camera state")
        self.steady_timer(STATE_PERIOD_S, self._publish_state)
        self._configured_ns = self.steady_ns()
        self.diagnostics.add("source", self._source_status)
        self.diagnostics.add("settings", self._settings_status)

    def start(self) -> None:
        """Start to capture; a source that isn't there is tried again for as long as it takes."""
        self._logged = None
        self._told_errors = 0
        self._info_fits = True
        if self._numbers is not None:
            self._numbers.begin()
        delay_bound_ms = self.params.shortest_delay_ms
        self._source = make_source(self.params)
        self._loop = CaptureLoop(
            self._source,
            self._on_grab,
            self._on_change,
            self._on_bad,
            delay_bound_ns=delay_bound_ms * 1e6 if delay_bound_ms else math.nan,
        )
        self._listened_since_ns = 0
        self._listener_timer = self.steady_timer(LISTENER_CHECK_S, self._look_for_listeners)
        self._look_for_listeners()

    def stop(self) -> None:
        """Stop to capture and give the device back."""
        self._wait_no_more()
        loop, self._loop = self._loop, None
        if loop is not None and not loop.stop():
            self.get_logger().warning("the driver holds the capture thread; left behind")
        if self._frames is not None:
            self._tell_changes()

    def teardown(self) -> None:
        """Offer no more frames."""
        self.diagnostics.remove("source")
        self.diagnostics.remove("settings")
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    # On the capture thread ----------------------------------------------------------------------

    def _on_grab(self, grab: Grab) -> None:
        self._publish(self._frame(grab, grab.image, grab.encoding), grab)

    def _on_bad(self, bad: BadFrame) -> None:
        """Say that there was a frame, and which part was on it: nobody must wait for its image."""
        self._publish(replace(self._frame(bad, _NO_PIXELS, ""), cause=str(bad)), None)

    def _on_change(self, health: CaptureHealth) -> None:
        self._changes.append(health)
        self._changed.trigger()

    def _frame(self, of: Grab | BadFrame, image: AnyImage, encoding: str) -> Frame:
        arrived_ns = time.monotonic_ns()
        stamp_ns = of.ros_stamp_ns
        if stamp_ns is None:
            exposed_ns = arrived_ns if of.steady_ns is None else of.steady_ns
            stamp_ns = self.now_ns() - (arrived_ns - exposed_ns)
        return Frame(
            image=image,
            encoding=encoding,
            stamp_ns=stamp_ns,
            sequence=of.sequence,
            camera=self.get_name(),
            part_id=self._part_id(of),
            received_ns=arrived_ns,
        )

    def _part_id(self, of: Grab | BadFrame) -> str:
        if self._numbers is None or self._loop is None:
            return bounded_part_id(of.part_id)
        number = of.sequence if self._numbers.counts_frames else of.trigger
        return bounded_part_id(self._numbers.part_id(number, self._loop.openings))

    def _publish(self, frame: Frame, grab: Grab | None) -> None:
        frames, loop = self._frames, self._loop
        if frames is None or loop is None:
            return

        def make_info() -> FrameInfo:
            info = frame_info(frame, grab, bounded(loop.source.device_id), loop.lost)
            info.header.stamp = self.stamp(frame.stamp_ns)
            info.header.frame_id = frame.camera
            if grab is not None and grab.device_stamp_ns is not None:
                info.device_stamp = self.stamp(max(grab.device_stamp_ns, 0))
                info.arrival_delay_ms = (frame.received_ns - grab.steady_ns) / 1e6
            return info

        info = frames.publish(frame, make_info)
        if grab is not None and self._calibration is not None:
            self._publish_camera_info(self._calibration, info)

    def _publish_camera_info(self, calibration: Calibration, info: FrameInfo) -> None:
        """One with each frame, as image_pipeline expects; none where it would be a wrong one."""
        self._info_fits = (info.width, info.height) == (calibration.width, calibration.height)
        if self._info_fits and self._camera_info.get_subscription_count():
            message = camera_info(calibration)
            message.header = info.header
            self._camera_info.publish(message)

    # On the executor thread ---------------------------------------------------------------------

    def _look_for_listeners(self) -> None:
        """Begin once somebody listens: the infos of a belt's first parts must not be lost."""
        if self._frames is None or self._loop is None:
            return
        now_ns = self.steady_ns()
        heard = self._frames.listeners > 0
        self._listened_since_ns = (self._listened_since_ns or now_ns) if heard else 0
        settled = heard and now_ns - self._listened_since_ns >= LISTENERS_SETTLE_S * 1e9
        if settled or now_ns - self._configured_ns >= self.params.listener_wait_s * 1e9:
            self._wait_no_more()
            self._loop.start()

    def _wait_no_more(self) -> None:
        timer, self._listener_timer = self._listener_timer, None
        if timer is not None:
            self.release(timer)

    def _trigger(self, request: Any, response: Any) -> Any:
        if not self.is_active:
            response.message = "the camera is not active"
        elif not isinstance(self._source, Triggerable):
            response.message = f"source {self.params.source} takes no trigger"
        elif not self._source.trigger():
            response.message = "the camera is not set to software triggers, or not open"
        else:
            response.success = True
        return response

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
            # Open and waiting for a trigger does not tell whether the trouble is over.
            if key != (CaptureState.OPENING, Cause.NONE):
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
        message = camera_state(health)
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
            "device_rate_hz": health.rate_hz + health.lost_rate_hz,
            "published_rate_hz": health.rate_hz,
            "skipped_rate_hz": health.lost_rate_hz,
            "frames": health.frames,
            "lost": health.lost,
            "superseded": health.superseded,
            "stale": health.stale,
            "duplicates": health.duplicates,
            "bad": health.bad,
            "reconnects": health.reconnects,
            "time_to_first_frame_ms": health.time_to_first_frame_ms,
            "last_outage_s": health.last_outage_s,
            "stamp_error_ms": health.stamp_error_ms,
            "clock_drift_ppm": health.clock_drift_ppm,
            "clock_steps": health.clock_steps,
            "consumer errors": health.consumer_errors,
        }
        if health.consumer_errors:
            values["last consumer error"] = health.last_consumer_error
        return Status(*_level(health, self.params.silence_s), values)

    def _settings_status(self) -> Status:
        """What the device was set to, and what stands against its frames being used in full."""
        loop = self._loop
        if loop is None:
            return Status(Level.STALE, "not capturing")
        health = loop.health()
        values = dict(health.source.settings)
        if self._calibration is not None and not self._info_fits:
            made_with = f"{self._calibration.width} x {self._calibration.height}"
            text = f"the calibration is of {made_with} pixels, the frames are"
            return Status(Level.ERROR, f"{text} {health.size[0]} x {health.size[1]}", values)
        if self._numbers is not None and self._numbers.lost:
            text = "the trigger's count did not run on: no part ids until activated again"
            return Status(Level.ERROR, text, values)
        return Status(Level.OK, "as asked for", values)


def _level(health: CaptureHealth, silence_s: float) -> tuple[Level, str]:
    if health.opening_s > HELD_S:
        return Level.ERROR, f"the driver has been opening the device for {health.opening_s:.0f} s"
    if health.reading_s > HELD_S + silence_s:
        return Level.ERROR, f"the driver has held a read for {health.reading_s:.0f} s"
    if health.cause is Cause.BAD_FRAMES:
        return Level.WARN, f"bad frame: {health.cause_text}"
    if health.cause is not Cause.NONE:
        return Level.ERROR, f"{health.cause.value}: {health.cause_text}"
    if health.state is CaptureState.ENDED:
        return Level.WARN, health.cause_text
    last_ns, triggered = health.last_frame_steady_ns, health.source.triggered
    if health.state is not CaptureState.STREAMING or last_ns is None:
        if triggered and health.state is CaptureState.OPENING and not health.opening_s:
            return Level.OK, "open; waits for a first trigger"
        return Level.WARN, health.state.value
    silent_s = (time.monotonic_ns() - last_ns) / 1e9
    if silent_s > silence_s:
        if triggered:
            return Level.OK, f"no trigger for {silent_s:.1f} s"
        return Level.WARN, f"no frame for {silent_s:.1f} s"
    return Level.OK, f"{health.rate_hz:.1f} Hz"


def main() -> None:
    """`ros2 run shopfloor camera`."""
    raise SystemExit(run_node(CameraNode))


if __name__ == "__main__":
    main()

"""The capture loop: one thread that owns a source, hands its frames on and never gives up."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from shopfloor.camera.device_clock import DeviceClock
from shopfloor.camera.source import (
    BadFrame,
    Cause,
    EndOfStream,
    Grab,
    Source,
    SourceError,
    SourceInfo,
)
from shopfloor.ros.timing import RateMeter

READ_TIMEOUT_S = 0.1
"""A source is asked in slices of this length, so that `stop` never waits for a frame."""

BAD_FRAME_PAUSE_S = 0.02
"""Pause after a bad frame behind a bad frame: a source of nothing else must not take a core."""

SAMPLE = 32
"""Pixels a side, about, by which two frames are told apart."""


class CaptureState(Enum):
    """What the loop is doing; the names are those of CameraState.STATE_*."""

    CLOSED = "closed"
    OPENING = "opening"
    STREAMING = "streaming"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class CaptureHealth:
    """Where the loop stands. Counters run since `start`.

    cause, cause_text: why no frames come; NONE and empty while all is well.
    frames: handed on. lost: missing from the source's counter. superseded: replaced by a newer one
        before they were read. stale: exposed before the source was opened, not handed on.
        duplicates: same counter again, not handed on. bad: unusable, not handed on; last_bad names
        the latest of them.
    consumer_errors: exceptions that the callbacks raised; the loop goes on.
    reconnects: times that frames came back after a loss or a refused opening.
    rate_hz: frames handed on per second over the last seconds.
    time_to_first_frame_ms, last_outage_s: None before the first frame, outage. The outage of what
        waits for a trigger is over when it is open again.
    size: (width, height) and encoding of the latest frame, (0, 0) and empty before the first.
    stamp_error_ms, clock_drift_ppm: of the latest frame and of the device's clock, NaN: not known.
    clock_steps: times that the device's clock was set or began anew.
    opening_s: how long the driver has been opening the device by now, 0: it isn't.
    reading_s: how long the driver has been asked for the next frame by now, 0: it isn't.
    """

    source: SourceInfo
    state: CaptureState = CaptureState.CLOSED
    cause: Cause = Cause.NONE
    cause_text: str = ""
    frames: int = 0
    lost: int = 0
    superseded: int = 0
    stale: int = 0
    duplicates: int = 0
    bad: int = 0
    last_bad: str = ""
    consumer_errors: int = 0
    last_consumer_error: str = ""
    reconnects: int = 0
    rate_hz: float = 0.0
    lost_rate_hz: float = 0.0
    last_frame_steady_ns: int | None = None
    time_to_first_frame_ms: float | None = None
    last_outage_s: float | None = None
    size: tuple[int, int] = (0, 0)
    encoding: str = ""
    stamp_error_ms: float = math.nan
    clock_drift_ppm: float = math.nan
    clock_steps: int = 0
    opening_s: float = 0.0
    reading_s: float = 0.0


class CaptureLoop:
    """Reads a source on its own thread.

    source: opened, read and closed on that thread only.
    on_grab: called with each good frame on that thread; it must not block.
    on_change: called there with the new health when state or cause changes and at each bad frame.
    on_bad: called there with each bad frame.
    backoff_s: shortest and longest pause before the next try to open; it doubles from try to try.
    delay_bound_ns: see DeviceClock.
    """

    def __init__(
        self,
        source: Source,
        on_grab: Callable[[Grab], None],
        on_change: Callable[[CaptureHealth], None] | None = None,
        on_bad: Callable[[BadFrame], None] | None = None,
        backoff_s: tuple[float, float] = (0.1, 0.5),
        delay_bound_ns: float = math.nan,
    ) -> None:
        self._source = source
        self._on_grab = on_grab
        self._on_change = on_change
        self._on_bad = on_bad
        self._backoff_s = backoff_s
        self._delay_bound_ns = delay_bound_ns
        self._clock = DeviceClock(delay_bound_ns)
        self._has_clock = False
        self._has_noise = False
        self._last_sample = b""
        self._clock_steps = 0
        self._lock = threading.Lock()
        self._health = CaptureHealth(source.describe())
        self._rate = RateMeter()
        self._lost_rate = RateMeter()
        self._last_sequence: int | None = None
        self._bad_in_a_row = 0
        self._opened_ns = 0
        self._openings = 0
        self._is_opening = False
        self._asked_ns = 0
        self._is_left_behind = False
        self._outage_since_ns: int | None = None
        self._back_ns: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Start the thread; once in the life of a loop."""
        self._thread.start()

    def stop(self, timeout_s: float = 0.5) -> bool:
        """End the thread and close the source; False when the source still holds the thread.

        Returns within `timeout_s`. A thread that a driver holds ends by itself when it is let go.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        # Its own last word may come when another loop has long been running.
        self._set(state=CaptureState.CLOSED, cause=Cause.NONE, cause_text="")
        self._is_left_behind = True
        return False

    def health(self) -> CaptureHealth:
        """A snapshot; from any thread."""
        asked_ns, now_ns = self._asked_ns, time.monotonic_ns()
        opening_s = (now_ns - self._opened_ns) / 1e9 if self._is_opening else 0.0
        reading_s = (now_ns - asked_ns) / 1e9 if asked_ns else 0.0
        with self._lock:
            return replace(
                self._health,
                rate_hz=self._rate.hz(),
                lost_rate_hz=self._lost_rate.hz(),
                opening_s=opening_s,
                reading_s=reading_s,
            )

    @property
    def source(self) -> SourceInfo:
        """The source, as it was last opened."""
        return self._health.source

    @property
    def openings(self) -> int:
        """How often the source has been opened."""
        return self._openings

    @property
    def lost(self) -> int:
        """Frames missing from the source's counter so far; cheap, for each frame."""
        return self._health.lost

    def _run(self) -> None:
        pause_s = self._backoff_s[0]
        self._set(state=CaptureState.OPENING)
        while not self._stopping.is_set():
            frames_before = self._health.frames
            try:
                self._opened_ns = time.monotonic_ns()
                self._last_sequence = None
                self._is_opening = True
                self._source.open()
                self._opened()
                self._read_until_stopped()
            except EndOfStream as end:
                self._set(state=CaptureState.ENDED, cause=Cause.NONE, cause_text=str(end))
                self._close()
                self._stopping.wait()
            except SourceError as error:
                self._lose(error.cause, str(error))
            except Exception as error:  # a driver may raise anything; the loop must outlive it
                self._lose(Cause.UNKNOWN, f"{type(error).__name__}: {error}")
            self._is_opening = False
            if self._health.frames > frames_before:
                pause_s = self._backoff_s[0]
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, self._backoff_s[1])
        self._close()
        self._set(state=CaptureState.CLOSED, cause=Cause.NONE, cause_text="")

    def _opened(self) -> None:
        """Take in what is known of the device now that it is open; its clock may be a new one."""
        self._openings += 1
        self._is_opening = False
        info = self._source.describe()
        self._clock_steps += self._clock.steps
        self._clock = DeviceClock(self._delay_bound_ns)
        self._has_clock = info.has_clock
        self._has_noise = info.has_noise
        self._last_sample = b""
        with self._lock:
            self._health = replace(self._health, source=info)
        self._back_ns = None
        # What waits for a trigger may wait for long: until then nothing is wrong any more, unless
        # it was a trigger that gave nothing.
        if info.triggered and self._health.cause is not Cause.NO_FRAMES:
            self._back_ns = time.monotonic_ns()
            self._set(state=CaptureState.OPENING, cause=Cause.NONE, cause_text="")

    def _read_until_stopped(self) -> None:
        while not self._stopping.is_set():
            # A driver may hold `read` past `stop`: what it gives then is of the past.
            try:
                grab = self._ask()
            except BadFrame as bad:
                if not self._stopping.is_set():
                    self._take_bad(bad)
            else:
                if grab is not None and not self._stopping.is_set():
                    self._take(grab)

    def _ask(self) -> Grab | None:
        self._asked_ns = time.monotonic_ns()
        try:
            return self._source.read(READ_TIMEOUT_S)
        finally:
            self._asked_ns = 0

    def _take(self, grab: Grab) -> None:
        if not self._is_new(grab.sequence, grab.superseded):
            return
        grab = self._on_host_clock(grab)
        if self._is_stale(grab):
            return
        if self._is_frozen(grab):
            text = "pixel for pixel the frame before: the sensor is frozen or sees nothing"
            text = f"frame {grab.sequence} is {text}"
            self._note_bad(
                BadFrame(
                    text,
                    grab.sequence,
                    grab.part_id,
                    grab.trigger,
                    steady_ns=grab.steady_ns,
                    ros_stamp_ns=grab.ros_stamp_ns,
                )
            )
            return
        self._bad_in_a_row = 0
        now_ns = time.monotonic_ns()
        first = self._health.state is not CaptureState.STREAMING
        height, width = grab.image.shape[:2]
        with self._lock:
            self._rate.tick(now_ns)
            health = replace(
                self._health,
                frames=self._health.frames + 1,
                last_frame_steady_ns=grab.steady_ns,
                size=(width, height),
                encoding=grab.encoding,
                stamp_error_ms=grab.stamp_error_ns / 1e6,
                clock_drift_ppm=self._clock.drift_ppm,
                clock_steps=self._clock_steps + self._clock.steps,
            )
            if first:
                health = self._came_back(health, now_ns)
            self._health = health
        if first or self._health.cause is not Cause.NONE:
            self._set(state=CaptureState.STREAMING, cause=Cause.NONE, cause_text="")
        try:
            self._on_grab(grab)
        except Exception as error:  # a consumer's fault must not cost the camera
            self._consumer_failed(error)

    def _came_back(self, health: CaptureHealth, now_ns: int) -> CaptureHealth:
        """`health` with the times that the first frame after an opening settles."""
        health = replace(health, time_to_first_frame_ms=(now_ns - self._opened_ns) / 1e6)
        if self._outage_since_ns is not None:
            back_ns = now_ns if self._back_ns is None else self._back_ns
            outage_s = (back_ns - self._outage_since_ns) / 1e9
            health = replace(health, reconnects=health.reconnects + 1, last_outage_s=outage_s)
            self._outage_since_ns = None
        return health

    def _on_host_clock(self, grab: Grab) -> Grab:
        """The frame with its exposure on the host's clock as well as the device's clock tells."""
        knows_better = not self._has_clock or not math.isnan(grab.stamp_error_ns)
        if grab.device_stamp_ns is None or knows_better:
            return grab
        if grab.latch is not None:
            self._clock.latch(grab.latch)
        mapped = self._clock.observe(grab.device_stamp_ns, grab.steady_ns)
        return replace(grab, steady_ns=mapped.steady_ns, stamp_error_ns=mapped.error_ns)

    def _is_stale(self, grab: Grab) -> bool:
        """Count a frame of before the opening, from some buffer: it shows a part that is gone."""
        error_ns = 0.0 if math.isnan(grab.stamp_error_ns) else grab.stamp_error_ns
        if grab.steady_ns + error_ns >= self._opened_ns:
            return False
        with self._lock:
            self._health = replace(self._health, stale=self._health.stale + 1)
        return True

    def _is_frozen(self, grab: Grab) -> bool:
        """Whether a sensor, which always has noise, gave the same picture again."""
        if not self._has_noise:
            return False
        height, width = grab.image.shape[:2]
        sample = grab.image[:: max(height // SAMPLE, 1), :: max(width // SAMPLE, 1)].tobytes()
        last, self._last_sample = self._last_sample, sample
        return sample == last

    def _is_new(self, sequence: int, superseded: int = 0) -> bool:
        """Count what the source's counter says was lost or delivered twice; False for a repeat."""
        last, self._last_sequence = self._last_sequence, sequence
        if last is None:
            return True
        if sequence == last:
            with self._lock:
                self._health = replace(self._health, duplicates=self._health.duplicates + 1)
            return False
        missing = sequence - last - 1
        if missing > 0:
            now_ns = time.monotonic_ns()
            superseded = min(superseded, missing)
            with self._lock:
                for _ in range(min(missing, 1000)):
                    self._lost_rate.tick(now_ns)
                self._health = replace(
                    self._health,
                    lost=self._health.lost + missing - superseded,
                    superseded=self._health.superseded + superseded,
                )
        return True

    def _take_bad(self, bad: BadFrame) -> None:
        self._is_new(bad.sequence)
        self._note_bad(bad)

    def _note_bad(self, bad: BadFrame) -> None:
        self._bad_in_a_row += 1
        self._set(
            bad=self._health.bad + 1, last_bad=str(bad), cause=Cause.BAD_FRAMES, cause_text=str(bad)
        )
        if self._on_bad is not None:
            try:
                self._on_bad(bad)
            except Exception as error:  # as in _take
                self._consumer_failed(error)
        if self._bad_in_a_row > 1:
            self._stopping.wait(BAD_FRAME_PAUSE_S)

    def _lose(self, cause: Cause, text: str) -> None:
        self._close()
        if self._outage_since_ns is None:
            self._outage_since_ns = time.monotonic_ns()
        had_frames = self._health.frames > 0
        state = CaptureState.LOST if had_frames else CaptureState.OPENING
        self._set(state=state, cause=cause, cause_text=text)

    def _close(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # a driver may raise when its device is gone
            self._set(cause_text=f"closing failed: {type(error).__name__}: {error}")

    def _set(self, **changes: Any) -> None:
        """Replace fields of the health and say so, unless they already had these values."""
        with self._lock:
            health = replace(self._health, **changes)
            changed, self._health = health != self._health, health
        if changed and self._on_change is not None and not self._is_left_behind:
            try:
                self._on_change(self.health())
            except Exception as error:  # as in _take
                self._consumer_failed(error)

    def _consumer_failed(self, error: Exception) -> None:
        with self._lock:
            self._health = replace(
                self._health,
                consumer_errors=self._health.consumer_errors + 1,
                last_consumer_error=f"{type(error).__name__}: {error}",
            )

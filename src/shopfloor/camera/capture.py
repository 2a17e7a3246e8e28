"""The capture loop: one thread that owns a source, hands its frames on and never gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

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
    frames: handed on. lost: missing from the source's counter. duplicates: same counter again, not
        handed on. bad: unusable, not handed on; last_bad names the latest of them.
    consumer_errors: exceptions that the callbacks raised; the loop goes on.
    reconnects: times that frames came back after a loss or a refused opening.
    rate_hz: frames handed on per second over the last seconds.
    time_to_first_frame_ms, last_outage_s: None before the first frame, outage.
    size: (width, height) and encoding of the latest frame, (0, 0) and empty before the first.
    """

    source: SourceInfo
    state: CaptureState = CaptureState.CLOSED
    cause: Cause = Cause.NONE
    cause_text: str = ""
    frames: int = 0
    lost: int = 0
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


class CaptureLoop:
    """Reads a source on its own thread.

    source: opened, read and closed on that thread only.
    on_grab: called with each good frame on that thread; it must not block.
    on_change: called there with the new health when state or cause changes and at each bad frame.
    on_bad: called there with each bad frame.
    backoff_s: shortest and longest pause before the next try to open; it doubles from try to try.
    """

    def __init__(
        self,
        source: Source,
        on_grab: Callable[[Grab], None],
        on_change: Callable[[CaptureHealth], None] | None = None,
        on_bad: Callable[[BadFrame], None] | None = None,
        backoff_s: tuple[float, float] = (0.1, 1.0),
    ) -> None:
        self._source = source
        self._on_grab = on_grab
        self._on_change = on_change
        self._on_bad = on_bad
        self._backoff_s = backoff_s
        self._lock = threading.Lock()
        self._health = CaptureHealth(source.describe())
        self._rate = RateMeter()
        self._lost_rate = RateMeter()
        self._last_sequence: int | None = None
        self._bad_in_a_row = 0
        self._opened_ns = 0
        self._outage_since_ns: int | None = None
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
        return not self._thread.is_alive()

    def health(self) -> CaptureHealth:
        """A snapshot; from any thread."""
        with self._lock:
            return replace(self._health, rate_hz=self._rate.hz(), lost_rate_hz=self._lost_rate.hz())

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
                self._source.open()
                self._read_until_stopped()
            except EndOfStream as end:
                self._set(state=CaptureState.ENDED, cause=Cause.NONE, cause_text=str(end))
                self._close()
                self._stopping.wait()
            except SourceError as error:
                self._lose(error.cause, str(error))
            except Exception as error:  # a driver may raise anything; the loop must outlive it
                self._lose(Cause.UNKNOWN, f"{type(error).__name__}: {error}")
            if self._health.frames > frames_before:
                pause_s = self._backoff_s[0]
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, self._backoff_s[1])
        self._close()
        self._set(state=CaptureState.CLOSED, cause=Cause.NONE, cause_text="")

    def _read_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                grab = self._source.read(READ_TIMEOUT_S)
            except BadFrame as bad:
                self._take_bad(bad)
            else:
                # A driver may hold `read` past `stop`: what it gives then is of the past.
                if grab is not None and not self._stopping.is_set():
                    self._take(grab)

    def _take(self, grab: Grab) -> None:
        if not self._is_new(grab.sequence):
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
            outage_s = (now_ns - self._outage_since_ns) / 1e9
            health = replace(health, reconnects=health.reconnects + 1, last_outage_s=outage_s)
            self._outage_since_ns = None
        return health

    def _is_new(self, sequence: int) -> bool:
        """Count what the source's counter says was lost or delivered twice; False for a repeat."""
        last, self._last_sequence = self._last_sequence, sequence
        if last is None:
            return True
        if sequence == last:
            with self._lock:
                self._health = replace(self._health, duplicates=self._health.duplicates + 1)
            return False
        if sequence > last + 1:
            now_ns = time.monotonic_ns()
            with self._lock:
                for _ in range(min(sequence - last - 1, 1000)):
                    self._lost_rate.tick(now_ns)
                lost = self._health.lost + sequence - last - 1
                self._health = replace(self._health, lost=lost)
        return True

    def _take_bad(self, bad: BadFrame) -> None:
        self._is_new(bad.sequence)
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
        if changed and self._on_change is not None:
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

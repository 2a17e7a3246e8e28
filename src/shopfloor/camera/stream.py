"""A live stream that OpenCV decodes: what RTSP and GStreamer have in common."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from shopfloor.camera.source import AnyImage, Cause, Grab, SourceError, SourceInfo, SourceLost

_IN_URL = re.compile(r"((?://|^)[^/:\s]*):(?!//)(?:[^/?#\s]*@|(?!\d+\b)\S*@)")
"""USER:PASSWORD up to the last @ before the path; what is no port may even have a / in it."""

_NAME = r"(?:pw|pwd|pass(?:word|wd|phrase)?)"
_NAMED = re.compile(
    # In the query of a URL, and as property of a GStreamer element, whose value may be quoted.
    rf"(?i)([?&][\w-]*{_NAME}=)[^\s&]+"
    rf"|((?<![a-z0-9]){_NAME}\s*=\s*)"
    r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?:\\.|\S)+)"
)


def without_password(text: str) -> str:
    """A URL or a GStreamer pipeline, or text with such in it, as it may be published and logged."""
    return _NAMED.sub(r"\1\2***", _IN_URL.sub(r"\1:***@", text))


def encoding_of(image: AnyImage) -> str:
    """The encoding of what OpenCV decoded: bgr8, mono8 or mono16."""
    return "bgr8" if image.ndim == 3 else "mono8" if image.itemsize == 1 else "mono16"


class StreamSource:
    """Frames of a live stream as bgr8 or mono8.

    kind, address: as described, and in errors, without a password.
    open_capture: opens OpenCV's capture with time limits of its own: opening, reading, in ms.
    check: raises SourceError where opening would be in vain; called with the time limit in seconds.
    has_clock: each frame brings the stream's own time; otherwise there is no stamp but the arrival.
    open_timeout_s: longest wait for an answer; silence_s: longest wait for a frame.

    A `read` may take `silence_s`: OpenCV waits for a stream's next frame without a slice.
    """

    def __init__(
        self,
        kind: str,
        address: str,
        open_capture: Callable[[int, int], Any],
        check: Callable[[float], None] = lambda timeout_s: None,
        *,
        has_clock: bool = True,
        open_timeout_s: float = 2.0,
        silence_s: float = 2.0,
    ) -> None:
        self._kind = kind
        self._has_clock = has_clock
        self._name = without_password(address)
        self._open_capture = open_capture
        self._check = check
        self._open_timeout_s = open_timeout_s
        self._silence_s = silence_s
        self._capture: Any = None
        self._sequence = 0
        self._rate_hz = 0.0

    def describe(self) -> SourceInfo:
        """The address, without a password."""
        return SourceInfo(self._kind, self._name, self._rate_hz, self._has_clock)

    def open(self) -> None:
        """Open the stream and skip what waits in it; raises SourceError."""
        self._check(self._open_timeout_s)
        limits_ms = round(self._open_timeout_s * 1e3), round(self._silence_s * 1e3)
        capture = self._open_capture(*limits_ms)
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                Cause.FORMAT,
                f"{self._name} gave no video that this OpenCV reads within "
                f"{self._open_timeout_s:g} s",
            )
        self._capture = capture
        rate_hz = float(capture.get(cv2.CAP_PROP_FPS))
        self._rate_hz = rate_hz if 0.0 < rate_hz <= 1000.0 else 0.0
        try:
            self._skip_backlog()
        except SourceError:
            self.close()
            raise

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame; SourceLost when none came within `silence_s` or the peer hung up."""
        image, stamp_ns = self._next()
        self._sequence += 1
        stamp = stamp_ns if stamp_ns > 0 and self._has_clock else None
        return Grab(image, encoding_of(image), stamp, time.monotonic_ns(), self._sequence)

    def close(self) -> None:
        """Hang up."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _next(self) -> tuple[AnyImage, int]:
        if self._capture is None:
            raise SourceLost(f"{self._name} is not open")
        start = time.monotonic()
        done, image = self._capture.read()
        if not done:
            waited_s = time.monotonic() - start
            if waited_s >= 0.9 * self._silence_s:
                raise SourceLost(
                    f"{self._name} gave no frame for {waited_s:.1f} s", Cause.NO_FRAMES
                )
            raise SourceLost(f"{self._name} ended or was cut off")
        return np.asarray(image), round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)

    def _skip_backlog(self) -> None:
        """Read up to the present: while it looked at the stream, OpenCV kept what came (0.4 s).

        Frames of the past come as fast as they are decoded, those of now at the pace of their
        stamps.
        """
        end = time.monotonic() + self._open_timeout_s
        _, last_ns = self._next()
        while time.monotonic() < end:
            start_ns = time.monotonic_ns()
            _, stamp_ns = self._next()
            period_ns = stamp_ns - last_ns if self._has_clock else 0
            if time.monotonic_ns() - start_ns >= max(0.5 * period_ns, 2e6):
                return
            last_ns = stamp_ns

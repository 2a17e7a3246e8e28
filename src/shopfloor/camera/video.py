"""A video file as a camera, read by OpenCV."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from shopfloor.camera.recorded import RecordedSource
from shopfloor.camera.source import (
    Cause,
    Grab,
    SourceError,
    SourceInfo,
    SourceLost,
)


class VideoSource(RecordedSource):
    """Frames of a video file as bgr8.

    path: the file, in any format that this OpenCV reads.
    rate_hz: frames per second; 0: the file's own rate, or as fast as they are read if it has none.
    loop: start again at the end; otherwise EndOfStream.

    `device_stamp_ns` is the frame's time in the video.
    """

    def __init__(self, path: str | Path, rate_hz: float = 0.0, loop: bool = False) -> None:
        super().__init__(rate_hz, loop)
        self._path = Path(path).expanduser()
        self._file_rate_hz = 0.0
        self._capture: cv2.VideoCapture | None = None
        self._in_this_pass = 0

    def describe(self) -> SourceInfo:
        """The file."""
        return SourceInfo("video", str(self._path), self._rate_hz or self._file_rate_hz)

    def open(self) -> None:
        """Open the file; raises SourceError when it is absent, denied, no video or has no frame."""
        if not self._path.exists():
            raise SourceError(Cause.ABSENT, f"there is no video {self._path}")
        if not self._path.is_file():
            raise SourceError(Cause.FORMAT, f"{self._path} is no file; a video file is needed")
        if not os.access(self._path, os.R_OK):
            raise SourceError(Cause.DENIED, f"no permission to read {self._path}")
        if not self._begin():
            self.close()
            raise SourceError(Cause.EMPTY, f"{self._path} holds no frame that OpenCV can read")

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _rewind(self) -> None:
        """Open the file anew: seeking to frame 0 is not exact in every container."""
        self.close()
        self._in_this_pass = 0
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            capture.release()
            raise SourceError(Cause.FORMAT, f"{self._path} is no video that OpenCV can read")
        self._capture = capture
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        self._file_rate_hz = rate_hz if 0.0 < rate_hz <= 1000.0 else 0.0

    def _load(self) -> Grab | None:
        if self._capture is None:
            raise SourceLost(f"{self._path} is not open")
        done, image = self._capture.read()
        if not done:
            if not self._path.exists():
                raise SourceLost(f"the video {self._path} is gone")
            return None
        self._in_this_pass += 1
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return Grab(np.asarray(image, dtype=np.uint8), "bgr8", stamp_ns, 0, 0)

    def _end(self) -> str:
        return f"all {self._in_this_pass} frames of {self._path} were read"

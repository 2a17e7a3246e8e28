"""A folder of pictures as a camera: one picture a frame, in the order of their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np

from shopfloor.camera.recorded import RecordedSource
from shopfloor.camera.source import (
    AnyImage,
    BadFrame,
    Cause,
    Grab,
    SourceError,
    SourceInfo,
    SourceLost,
)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def read_picture(path: Path) -> tuple[AnyImage, str]:
    """The pixels and encoding (mono8, mono16 or bgr8) of a picture file.

    16-bit colour is reduced to 8 bits, transparency is left out. Raises ValueError with the reason
    when the file holds no whole picture, OSError when it can't be read.
    """
    data = path.read_bytes()
    if not data:
        raise ValueError("the file is empty")
    # OpenCV before version 5 fills the missing part of a cut JPEG with grey and says nothing.
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:].rstrip(b"\0"):
        raise ValueError("the JPEG ends before its end marker: the file was cut short")
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # a header that promises more pixels than OpenCV allows
        raise ValueError(f"OpenCV refuses it: {error.err}") from error
    if image is None:
        raise ValueError(f"{len(data)} bytes hold no whole picture that OpenCV can read")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels of type {image.dtype}; allowed: uint8 and uint16")
    if image.ndim == 2:
        return image, "mono8" if image.dtype == np.uint8 else "mono16"
    if image.dtype == np.uint16:
        image = np.right_shift(image, 8, dtype=np.uint16).astype(np.uint8)
    return image, "bgr8"


def _natural(path: Path) -> list[str | int]:
    """Sort key under which part_9 comes before part_10."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name)]


def _printable(name: str | Path) -> str:
    """A file's name as text that a message can carry: bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


class FolderSource(RecordedSource):
    """Pictures of a folder (jpg, png, bmp, tif), sorted by name with numbers in their order.

    folder: where they are; read again at each `open`, its subfolders aren't.
    rate_hz: frames per second; 0: as fast as they are read.
    loop: start again behind the last one; otherwise EndOfStream.

    `part_id` is the file's name without suffix; from the second pass on with `#2` and so on behind
    it, so that no part comes twice.
    """

    def __init__(self, folder: str | Path, rate_hz: float = 0.0, loop: bool = False) -> None:
        super().__init__(rate_hz, loop)
        self._folder = Path(folder).expanduser()
        self._files: list[Path] = []
        self._position = 0

    def describe(self) -> SourceInfo:
        """The folder."""
        return SourceInfo("folder", str(self._folder), self._rate_hz)

    def open(self) -> None:
        """List the folder; raises SourceError when it is absent, no folder, denied or empty."""
        if not self._folder.exists():
            raise SourceError(Cause.ABSENT, f"there is no folder {self._folder}")
        if not self._folder.is_dir():
            raise SourceError(Cause.FORMAT, f"{self._folder} is a file; a folder is needed")
        if not os.access(self._folder, os.R_OK | os.X_OK):
            raise SourceError(Cause.DENIED, f"no permission to read the folder {self._folder}")
        files = [entry for entry in self._folder.iterdir() if entry.is_file()]
        self._files = sorted((f for f in files if f.suffix.lower() in SUFFIXES), key=_natural)
        if not self._files:
            holds = f"holds {len(files)} files but no picture" if files else "is empty"
            allowed = ", ".join(SUFFIXES)
            raise SourceError(Cause.EMPTY, f"the folder {self._folder} {holds}; read are {allowed}")
        self._begin()

    def _rewind(self) -> None:
        self._position = 0

    def _load(self) -> Grab | BadFrame | None:
        if self._position >= len(self._files):
            return None
        path = self._files[self._position]
        self._position += 1
        part_id = self._part_id(_printable(path.stem))
        try:
            image, encoding = read_picture(path)
        except (ValueError, OSError) as error:
            if not self._folder.is_dir():
                raise SourceLost(f"the folder {self._folder} is gone") from error
            return BadFrame(f"{_printable(path)}: {error}", 0, part_id)
        return Grab(image, encoding, None, 0, 0, part_id)

    def _end(self) -> str:
        return f"all {len(self._files)} pictures of {self._folder} were read"

"""What the tests of several camera sources use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shopfloor.camera.source import BadFrame, EndOfStream, Grab


def picture(path: Path, value: int = 90, size: tuple[int, int] = (24, 32)) -> Path:
    assert cv2.imwrite(str(path), np.full((*size, 3), (value, 100, 110), np.uint8))
    return path


def read_all(source: Any) -> tuple[list[Grab], list[BadFrame]]:
    grabs: list[Grab] = []
    bad: list[BadFrame] = []
    while True:
        try:
            grab = source.read(0.1)
            if grab is not None:
                grabs.append(grab)
        except BadFrame as error:
            bad.append(error)
        except EndOfStream:
            return grabs, bad

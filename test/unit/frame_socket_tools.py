"""Frames, headers and waiting for the tests of the simulated camera's socket."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import numpy as np

from shopfloor.ros.frame_socket import FrameHeader, FrameReader, WireFrame

LIMIT_S = 20.0

HEADER = FrameHeader(
    width=4,
    height=2,
    encoding="bgr8",
    sequence=7,
    trigger=9,
    device_stamp_ns=-5,
    host_stamp_ns=1_700_000_000_123_456_789,
    steady_ns=42,
    part_id="t-000007 ✓",
    payload_bytes=24,
)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for another thread; ends at once when it is so."""
    deadline = time.monotonic() + LIMIT_S
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        tick.wait(0.002)


def header_for(image: np.ndarray, **changes: object) -> FrameHeader:
    return dataclasses.replace(
        HEADER,
        width=image.shape[1],
        height=image.shape[0],
        payload_bytes=image.nbytes,
        **changes,  # type: ignore[arg-type]
    )


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read_frame(reader: FrameReader) -> WireFrame:
    frame = reader.read(LIMIT_S)
    assert frame is not None
    return frame

"""Handles of frames whose sizes change where /dev/shm has little room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shopfloor_msgs.msg import FrameHandle, FrameInfo

from shopfloor.ros import frame_handles
from shopfloor.ros.frame_handles import HandlePublisher
from shopfloor.ros.frame_ring import RingError, RingWriter
from shopfloor.ros.frames import Frame


class Node:
    """What a publisher of handles needs of a node: a topic with one listener, and its faults."""

    def __init__(self) -> None:
        self.sent: list[FrameHandle] = []
        self.faults: list[str] = []

    def publisher(self, key: str, **names: str) -> Any:
        return self

    def get_subscription_count(self) -> int:
        return 1

    def publish(self, handle: FrameHandle) -> None:
        self.sent.append(handle)

    def fault(self, kind: str, text: str) -> None:
        self.faults.append(text)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A host with room for rings of frames up to 1000 bytes."""

    def ring(frame_bytes: int) -> RingWriter:
        if frame_bytes > 1000:
            raise RingError(f"no room for {frame_bytes} bytes")
        return RingWriter(frame_bytes, folder=tmp_path)

    monkeypatch.setattr(frame_handles, "RingWriter", ring)
    return Node()


def sizes_with_a_ring(node: Node, sizes: list[int]) -> list[bool]:
    """Whether each of these frames had a ring."""
    handles: Any = HandlePublisher(node, "eye")  # type: ignore[arg-type]
    for size in sizes:
        image = np.zeros((1, size), np.uint8)
        handles.publish(Frame(image, "mono8", 0, 1, "eye", "", 0), FrameInfo())
    handles.close()
    return [bool(handle.ring) for handle in node.sent]


def test_a_large_frame_without_room_is_told_of_among_small_ones(node: Node) -> None:
    sizes = [4000, 100, 4000, 100, 8000, 900, 4000, 100]
    assert sizes_with_a_ring(node, sizes) == [size <= 1000 for size in sizes]
    assert node.faults == ["no room for 4000 bytes; readers take the Image instead"]
    assert len({handle.ring for handle in node.sent[1:4:2]}) == 1, "the small ones keep their ring"


def test_a_ring_grows_with_its_frames_and_stays_where_they_shrink(
    node: Node, tmp_path: Path
) -> None:
    assert all(sizes_with_a_ring(node, [100, 900, 100]))
    names = [handle.ring for handle in node.sent]
    assert names[0] != names[1] == names[2]
    assert not list(tmp_path.glob("shopfloor-ring-*")), "closed rings are removed"

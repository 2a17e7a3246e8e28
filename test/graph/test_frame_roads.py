"""Which road frames take, and how it changes when a camera is killed, elsewhere or foreign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness import Graph
from sensor_msgs.msg import Image
from shopfloor_msgs.msg import FrameHandle, FrameInfo

from shopfloor.ros import frame_handles, images
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.frame_endpoints import FramePublisher, FrameSubscription
from shopfloor.ros.frame_ring import MAX_SLOTS, SHM_FOLDER, RingError
from shopfloor.ros.frames import Frame, FrameHub
from shopfloor.ros.interfaces import interface
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import BaseParameters
from shopfloor.ros.qos import publisher_qos

CAMERA = "eye"


class Consumer:
    """A node with a subscription of its own, and the frames that came."""

    def __init__(self, graph: Graph, node: ShopfloorNode[BaseParameters]) -> None:
        self.graph = graph
        self.node = node
        self.frames: list[Frame] = []
        # A hub of its own: a camera in the test's process counts as one in another.
        self.road = FrameSubscription(node, CAMERA, self.frames.append, hub=FrameHub())

    def until_frames(self, road: str, count: int = 3) -> list[Frame]:
        """The next frames that come by `road`."""
        self.graph.until(lambda: self.road.road == road, f"road {road}")
        start = len(self.frames)
        self.graph.until(lambda: len(self.frames) >= start + count, f"frames by {road}")
        return self.frames[start:]


@pytest.fixture
def node(graph: Graph) -> Iterator[ShopfloorNode[BaseParameters]]:
    """A node in the test's process."""
    made = ShopfloorNode("consumer", context=graph._context)
    graph._executor.add_node(made)
    yield made
    made.close()
    made.destroy_node()


@pytest.fixture
def consumer(graph: Graph, node: ShopfloorNode[BaseParameters]) -> Consumer:
    """A consumer on the automatic road."""
    return Consumer(graph, node)


def rings() -> set[str]:
    return {path.name for path in SHM_FOLDER.glob("shopfloor-ring-*")}


def offer(node: ShopfloorNode[BaseParameters], key: str) -> Any:
    """A bare publisher, as a camera that is not ours has it."""
    row = interface(key)
    return node.create_publisher(
        message_type(row.type), row.resolve(camera=CAMERA), publisher_qos(row.qos)
    )


def test_a_killed_camera_leaves_nothing_and_comes_back_by_ring_with_every_geometry(
    graph: Graph, consumer: Consumer, tmp_path: Path
) -> None:
    folder = tmp_path / "belt"
    folder.mkdir()
    pictures = {
        "small": np.full((8, 8), 7, np.uint8),
        "large": np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3),
        "odd": np.full((33, 21, 3), 9, np.uint8),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    (folder / "torn.png").write_bytes(b"\x89PNG and no more")
    before = rings()
    parameters = {"source": "folder", "address": folder, "loop": True, "rate_hz": 20.0}
    camera = graph.start(f"camera:{CAMERA}", parameters=parameters)
    frames = consumer.until_frames("ring", 8)
    seen: set[str] = set()
    compared = 0
    for frame in frames:
        name = frame.part_id.split("#")[0]
        seen.add(name)
        assert frame.readable == (name != "torn") and frame.camera == CAMERA
        if name == "torn":
            assert "could not read" in frame.cause
        else:
            found = images.to_bgr8(frame.image, frame.encoding).copy()
            wanted = images.to_bgr8(pictures[name], "mono8" if name == "small" else "bgr8")
            if frame.intact():
                compared += 1
                np.testing.assert_array_equal(found, wanted)
    assert compared
    assert seen == {*pictures, "torn"}
    assert len(rings() - before) == 1
    for_tools = graph.collect("image", camera=CAMERA)
    graph.until(lambda: len(for_tools) > 2, "Image beside the ring")
    assert consumer.road.road == "ring"

    camera.process.kill()
    camera.process.wait()
    graph.until(lambda: rings() <= before, "the dead camera's ring is removed")
    graph.start(f"camera:{CAMERA}", parameters=parameters)
    consumer.until_frames("ring")
    assert len(rings() - before) == 1


def test_a_reader_that_ends_leaves_the_camera_and_other_readers_alone(
    graph: Graph, node: ShopfloorNode[BaseParameters], tmp_path: Path
) -> None:
    folder = tmp_path / "belt"
    folder.mkdir()
    cv2.imwrite(str(folder / "part.png"), np.full((40, 60, 3), 5, np.uint8))
    before = rings()
    camera = graph.start(
        f"camera:{CAMERA}",
        parameters={"source": "folder", "address": folder, "loop": True, "rate_hz": 20.0},
    )
    first, second = Consumer(graph, node), Consumer(graph, node)
    first.until_frames("ring")
    second.until_frames("ring")
    kept = first.frames[-1]
    first.road.close()
    second.until_frames("ring", 2 * MAX_SLOTS)
    assert not kept.intact(), "an old frame is known to be overwritten"
    camera.process.terminate()
    camera.process.wait(30)
    assert rings() <= before, "a camera that ends in order takes its ring along"


class Feeder:
    """A camera in the test's process that sends one frame at a time."""

    def __init__(self, graph: Graph, node: ShopfloorNode[BaseParameters]) -> None:
        self.publisher = FramePublisher(node, CAMERA)
        self.node = node
        self.sequence = 0
        node.steady_timer(0.02, self.feed)

    def feed(self) -> None:
        """One more frame."""
        self.sequence += 1
        image = np.full((6, 10, 3), self.sequence % 256, np.uint8)
        stamp_ns = self.node.now_ns()
        info = FrameInfo(sequence=self.sequence, width=10, height=6, encoding="bgr8")
        info.part_id = f"part {self.sequence}"
        info.header.stamp = self.node.stamp(stamp_ns)
        info.header.frame_id = CAMERA
        self.publisher.publish(
            Frame(image, "bgr8", stamp_ns, self.sequence, CAMERA, info.part_id, 0), lambda: info
        )


def test_without_room_for_a_ring_frames_come_as_image(
    graph: Graph, node: ShopfloorNode[BaseParameters], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(frame_bytes: int) -> None:
        raise RingError(f"no {frame_bytes} bytes")

    monkeypatch.setattr(frame_handles, "RingWriter", no_room)
    feeder = Feeder(graph, node)
    consumer = Consumer(graph, node)
    frames = consumer.until_frames("image")
    assert all(frame.readable for frame in frames)
    feeder.publisher.close()


def test_a_ring_of_another_host_is_left_for_the_image(
    graph: Graph, node: ShopfloorNode[BaseParameters]
) -> None:
    handles, pictures = offer(node, "frame_handle"), offer(node, "image")
    consumer = Consumer(graph, node)

    def feed() -> None:
        name = f"shopfloor-ring-{'0' * 36}-{'0' * 16}"
        info = FrameInfo(width=10, height=6, encoding="mono8")
        handles.publish(FrameHandle(info=info, ring=name, generation=2, size_bytes=60))
        image = np.zeros((6, 10), np.uint8)
        pictures.publish(images.to_message(image, "mono8", node.stamp(1), CAMERA))

    node.steady_timer(0.02, feed)
    assert all(frame.readable for frame in consumer.until_frames("image"))


def test_a_handle_that_cannot_be_right_is_a_frame_without_pixels(
    graph: Graph, node: ShopfloorNode[BaseParameters]
) -> None:
    handles = offer(node, "frame_handle")
    consumer = Consumer(graph, node)
    info = FrameInfo(width=10, height=6, encoding="mono8", part_id="A7")
    node.steady_timer(0.02, lambda: handles.publish(FrameHandle(info=info, ring="../passwd")))
    frame = consumer.until_frames("ring", 1)[0]
    assert not frame.readable and "is no name of a ring" in frame.cause and frame.part_id == "A7"


def test_a_camera_that_is_not_ours_is_read_by_its_image(
    graph: Graph, node: ShopfloorNode[BaseParameters]
) -> None:
    pictures = offer(node, "image")
    consumer = Consumer(graph, node)
    message = Image(width=10, height=6, encoding="mono8", step=10)
    message.data.frombytes(bytes(60))
    node.steady_timer(0.02, lambda: pictures.publish(message))
    assert all(frame.readable for frame in consumer.until_frames("image"))

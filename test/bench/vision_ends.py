"""The processes of the vision benchmark besides the inspector's own: cameras, and yolo_ros' nodes.

    camera | local ENGINE PRECISION | stock-camera | stock-detector ENGINE PRECISION | stock-debug

A camera sends what it is told on stdin, `FRAMES RATE_HZ` a line, and answers `done` on stdout.

The stock nodes are a reconstruction of how yolo_ros is built (github.com/mgonzs13/yolo_ros, read in
November 2026; no line of it is here and nothing of ultralytics): one Image subscription of depth 1,
conversion, letterbox, inference and messages one after another in the callback; a second process
that takes images and detections, pairs them by stamp and publishes a drawn image for each, whether
somebody looks or not. Its tracker is left out, in its favour.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import threading
import time
from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from shopfloor_msgs.msg import Detection, FrameInfo, InspectionResult, StageTime

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.node import InspectorNode
from shopfloor.ros.frame_endpoints import FramePublisher
from shopfloor.ros.frames import Frame
from shopfloor.ros.interfaces import interface
from shopfloor.ros.main import run_nodes
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import BaseParameters
from shopfloor.ros.paths import model_folder
from shopfloor.ros.qos import publisher_qos
from shopfloor.sim.parts import render

CAMERA = "bench_camera"
MODEL = "surface_nano/1"
WIDTH, HEIGHT = 1920, 1080
Bgr = npt.NDArray[np.uint8]


def pictures(count: int = 8) -> list[Bgr]:
    """Boards and steel as 1080p frames, the same in every process and run."""
    kinds = ("board", "steel")
    return [
        np.ascontiguousarray(
            cv2.resize(render(kinds[i % 2], 10_000 + i).image, (WIDTH, HEIGHT)), dtype=np.uint8
        )
        for i in range(count)
    ]


def obey(send: Any) -> None:
    """Send frames as stdin says, `send(image, sequence)` each; on a thread of its own."""
    images = pictures()
    sequence = 0
    print("ready", flush=True)
    for line in sys.stdin:
        frames, rate_hz = line.split()
        due = time.monotonic()
        for _ in range(int(frames)):
            due += 1.0 / float(rate_hz)
            time.sleep(max(0.0, due - time.monotonic()))
            sequence += 1
            send(images[sequence % len(images)], sequence)
        print("done", flush=True)


class Camera(ShopfloorNode[BaseParameters]):
    """A camera whose frames are in memory already."""

    def __init__(self) -> None:
        super().__init__(CAMERA)

    def setup(self) -> None:
        """Make the endpoints; frames flow from here on, as they are asked for."""
        self._frames = FramePublisher(self, CAMERA)
        threading.Thread(target=obey, args=(self._send,), daemon=True).start()

    def teardown(self) -> None:
        """Remove the ring."""
        self._frames.close()

    def _send(self, image: Bgr, sequence: int) -> None:
        stamp_ns, part = self.now_ns(), str(sequence)

        def make_info() -> FrameInfo:
            info = FrameInfo(
                sequence=sequence, part_id=part, width=WIDTH, height=HEIGHT, encoding="bgr8"
            )
            info.header.stamp = self.stamp(stamp_ns)
            info.header.frame_id = CAMERA
            return info

        frame = Frame(image, "bgr8", stamp_ns, sequence, CAMERA, part, self.steady_ns())
        self._frames.publish(frame, make_info)


def inspector(engine: str, precision: str) -> InspectorNode:
    """The product's node."""
    settings = {"camera": CAMERA, "model": MODEL, "engine": engine, "precision": precision}
    return InspectorNode(
        "bench_inspector", parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()]
    )


class StockCamera(Node):
    """A driver as ROS users have it: bridge conversion, one Image a frame."""

    def __init__(self) -> None:
        super().__init__("stock_camera")
        self._images = self.create_publisher(Image, "image_raw", 10)
        threading.Thread(target=obey, args=(self._send,), daemon=True).start()

    def _send(self, image: Bgr, sequence: int) -> None:
        message = to_message(image)
        message.header.stamp = Time(nanoseconds=self.get_clock().now().nanoseconds).to_msg()
        message.header.frame_id = str(sequence)
        self._images.publish(message)


def to_message(image: Bgr) -> Image:
    """As a bridge fills it: bytes, then the message's array."""
    message = Image(height=image.shape[0], width=image.shape[1], encoding="bgr8")
    message.step = image.shape[1] * 3
    message.data.frombytes(image.tobytes())
    return message


def from_message(message: Image) -> Bgr:
    """As a bridge gives it: a copy, also where no colour changes."""
    shape = (message.height, message.width, 3)
    return np.ndarray(shape, np.uint8, message.data).copy()


_FRAMES_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class StockDetector(Node):
    """Everything in the image callback."""

    def __init__(self, engine: str, precision: str) -> None:
        super().__init__("stock_detector")
        self._package = load_model_package(model_folder(MODEL))
        self._engine = load_engine(engine, self._package, EngineOptions(1, precision))
        row = interface("inspection_result")
        self._results = self.create_publisher(
            InspectionResult, row.resolve(), publisher_qos(row.qos)
        )
        self._received = 0
        self.create_subscription(Image, "image_raw", self._on_image, _FRAMES_QOS)

    def _on_image(self, message: Image) -> None:
        self._received += 1
        start = time.perf_counter()
        image = from_message(message)
        batch, scale = self._preprocess(image)
        inferring = time.perf_counter()
        output = self._engine.infer(batch)[0][0]
        inferred = time.perf_counter()
        result = InspectionResult(header=message.header)
        result.frame_sequence = int(message.header.frame_id)
        result.detections = self._parse(output, scale)
        end = time.perf_counter()
        for name, seconds in (
            ("preprocess", inferring - start),
            ("infer", inferred - inferring),
            ("postprocess", end - inferred),
        ):
            result.provenance.stages.append(StageTime(name=name, duration_ms=seconds * 1e3))
        result.frames_received = self._received
        result.frames_processed = self._received
        age_ns = self.get_clock().now().nanoseconds
        age_ns -= Time.from_msg(message.header.stamp).nanoseconds
        result.frame_age_ms = age_ns / 1e6
        self._results.publish(result)

    def _preprocess(self, image: Bgr) -> tuple[npt.NDArray[np.float32], float]:
        """Scaled, padded, transposed and converted into new arrays each time."""
        form = self._package.input
        scale = min(form.width / image.shape[1], form.height / image.shape[0])
        size = int(image.shape[1] * scale), int(image.shape[0] * scale)
        resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        border = form.height - size[1], form.width - size[0]
        padded = cv2.copyMakeBorder(
            resized, 0, border[0], 0, border[1], cv2.BORDER_CONSTANT, value=(form.pad,) * 3
        )
        planes = np.ascontiguousarray(np.stack([padded]).transpose(0, 3, 1, 2))
        return planes.astype(np.float32), scale

    def _parse(self, rows: npt.NDArray[np.float32], scale: float) -> list[Detection]:
        """Threshold, suppression by class, and a message for each box."""
        scores = rows[:, 5:] * rows[:, 4:5]
        class_ids, best = scores.argmax(axis=1), scores.max(axis=1)
        keep = best >= self._package.thresholds.suspect
        boxes, best, class_ids = rows[keep, :4] / scale, best[keep], class_ids[keep]
        corners = boxes.copy()
        corners[:, :2] -= corners[:, 2:] / 2
        picked = cv2.dnn.NMSBoxesBatched(
            corners.tolist(), best.tolist(), class_ids.tolist(), 0.0, 0.5
        )
        found = []
        for i in list(picked)[:300]:
            detection = Detection(class_id=int(class_ids[i]), score=float(best[i]))
            detection.class_name = self._package.classes[int(class_ids[i])]
            detection.x_px, detection.y_px = float(corners[i, 0]), float(corners[i, 1])
            detection.width_px, detection.height_px = float(boxes[i, 2]), float(boxes[i, 3])
            found.append(detection)
        return found


class StockDebug(Node):
    """Draws every image whose detections came, within ten of each."""

    def __init__(self) -> None:
        super().__init__("stock_debug")
        self._drawn = self.create_publisher(Image, "dbg_image", 10)
        self._images: OrderedDict[str, Image] = OrderedDict()
        self.create_subscription(Image, "image_raw", self._on_image, _FRAMES_QOS)
        row = interface("inspection_result")
        self.create_subscription(InspectionResult, row.resolve(), self._on_result, 10)

    def _on_image(self, message: Image) -> None:
        self._images[message.header.frame_id] = message
        while len(self._images) > 10:
            self._images.popitem(last=False)

    def _on_result(self, result: InspectionResult) -> None:
        message = self._images.pop(str(result.frame_sequence), None)
        if message is None:
            return
        image = from_message(message)
        for found in result.detections:
            left, top = math.floor(found.x_px), math.floor(found.y_px)
            right, bottom = left + round(found.width_px), top + round(found.height_px)
            cv2.rectangle(image, (left, top), (right, bottom), (0, 200, 0), 2)
            label = f"{found.class_name} ({found.score:.3f})"
            place = (left + 5, top + 25)
            cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 200, 0), 1)
        drawn = to_message(image)
        drawn.header = message.header
        self._drawn.publish(drawn)


def spin(make: Any) -> int:
    """As the examples of ROS run a node."""
    rclpy.init(args=[])
    node = make()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    return 0


def main() -> int:
    """Run one of the processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role")
    parser.add_argument("engine", nargs="*", help="engine and precision, where one is run")
    args = parser.parse_args()
    if args.role == "camera":
        return run_nodes([Camera], args=[])
    if args.role == "local":
        return run_nodes([lambda: inspector(*args.engine), Camera], args=[])
    if args.role == "stock-camera":
        return spin(StockCamera)
    if args.role == "stock-detector":
        return spin(lambda: StockDetector(*args.engine))
    if args.role == "stock-debug":
        return spin(StockDebug)
    parser.error(f"no role '{args.role}'")

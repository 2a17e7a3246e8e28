"""What is wrong with a frame or a model is named and counted; the inspector goes on."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from harness import ACTIVE, Graph, statuses
from sensor_msgs.msg import CompressedImage, Image
from shopfloor_msgs.msg import FrameInfo, InspectionResult
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from shopfloor.ros import images
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import build_onnx, picture, write_package

INSPECTOR = "/inspector"
UNKNOWN = InspectionResult.VERDICT_UNKNOWN
GOOD = picture((1, 1, 2, 100))


class Camera:
    """A camera of the test's own: sends what no camera should."""

    def __init__(self, graph: Graph, model: Path, road: str, **more: object) -> None:
        self.graph = graph
        self.results: list[Any] = graph.collect("inspection_result")
        self.diagnostics: list[Any] = graph.collect("diagnostics")
        key = {"image": "image", "compressed": "image_compressed"}[road]
        self._images = self._publisher(key)
        self._infos = self._publisher("frame_info")
        parameters = {"model": model, "road": road, **more}
        self.child = graph.start("inspector:inspector", parameters=parameters)
        graph.until_state(INSPECTOR, ACTIVE)
        for publisher in (self._images, self._infos):
            graph.until(publisher.get_subscription_count, "the inspector to listen")
        self._sent = 0

    def _publisher(self, key: str) -> Any:
        row = interface(key)
        return self.graph.node.create_publisher(
            message_type(row.type), row.resolve(camera="camera"), publisher_qos(row.qos)
        )

    def send(self, message: Any) -> Any:
        """Publish until its result comes: the transport of frames may lose one."""
        self._sent += 1
        now = self.graph.node.get_clock().now().to_msg()
        message.header.stamp, message.header.frame_id = now, "camera"
        info = FrameInfo(header=message.header, sequence=self._sent, width=128, height=96)
        info.part_id = f"p{self._sent}"

        def answered() -> Any:
            self._images.publish(message)
            self._infos.publish(info)
            found = [r for r in self.results if r.header.stamp == now]
            return found[-1] if found else None

        return self.graph.until(answered, f"a result of frame {self._sent}")

    def events(self) -> dict[str, str]:
        return {v.key: v.value for v in statuses(self.diagnostics, INSPECTOR)["events"].values}

    def goes_on(self, message: Any) -> None:
        """The next good frame is judged, in the same process."""
        result = self.send(message)
        assert result.verdict == InspectionResult.VERDICT_PASS, result.reason
        self.graph.until_state(INSPECTOR, ACTIVE)
        assert "Traceback" not in self.child.output


def good_image() -> Image:
    return images.to_message(GOOD, "bgr8", Image().header.stamp, "camera")


def changed(change: Callable[[Image], None]) -> Image:
    message = good_image()
    change(message)
    return message


def test_images_that_are_none_are_unknown_and_counted(graph: Graph, tmp_path: Path) -> None:
    line = Camera(graph, write_package(tmp_path / "model"), "image")

    def no_size(m: Image) -> None:
        m.width = m.height = 0

    def short(m: Image) -> None:
        del m.data[-1000:]

    cases = {
        "encoding 'no_such'": changed(lambda m: setattr(m, "encoding", "no_such")),
        "0 x 0": changed(no_size),
        "step is 3": changed(lambda m: setattr(m, "step", 3)),
        "data has": changed(short),
        "mono16": changed(lambda m: setattr(m, "encoding", "mono16")),
    }
    bad = 0
    for needle, message in cases.items():
        result = line.send(message)
        if needle == "mono16":  # two bytes a pixel fit in these rows: it can be read
            continue
        bad += 1
        assert (result.verdict, result.reason_code) == (
            UNKNOWN, InspectionResult.REASON_FRAME_INVALID,
        ), needle  # fmt: skip
        assert needle in result.reason, result.reason
        assert result.dropped_invalid >= bad
    line.goes_on(good_image())
    graph.until(lambda: int(line.events().get("frame_invalid", 0)) >= bad, "the faults, counted")


def test_a_jpeg_that_is_cut_short_or_none_is_unknown(graph: Graph, tmp_path: Path) -> None:
    line = Camera(graph, write_package(tmp_path / "model"), "compressed")
    whole = images.encode_jpeg(GOOD, 95)

    def jpeg(data: bytes) -> CompressedImage:
        message = CompressedImage(format="jpeg")
        message.data.frombytes(data)
        return message

    for data, needle in ((whole[:-300], "cut off"), (b"", "0 bytes"), (b"none" * 99, "no image")):
        result = line.send(jpeg(data))
        assert result.reason_code == InspectionResult.REASON_FRAME_INVALID
        assert result.verdict == UNKNOWN and needle in result.reason, result.reason
    line.goes_on(jpeg(whole))


def test_a_model_that_gives_nan_is_an_error_and_never_a_pass(graph: Graph, tmp_path: Path) -> None:
    model = write_package(tmp_path / "model", build_onnx(nan_above=200.0))
    line = Camera(graph, model, "image")
    message = images.to_message(picture((0, 0, 1, 255)), "bgr8", Image().header.stamp, "camera")
    result = line.send(message)
    assert (result.verdict, result.reason_code) == (
        UNKNOWN, InspectionResult.REASON_OUTPUT_INVALID,
    )  # fmt: skip
    assert "NaN" in result.reason and not result.detections
    graph.until(
        lambda: statuses(line.diagnostics, INSPECTOR)["inspection"].level == b"\x02",
        "ERROR in /diagnostics",
    )
    assert int(line.events()["output_invalid"]) >= 1
    line.goes_on(good_image())


def test_a_rung_whose_model_was_swapped_is_found_at_configure(graph: Graph, tmp_path: Path) -> None:
    big = write_package(tmp_path / "big")
    small = write_package(tmp_path / "small", build_onnx(64, 64), name="small",
                          input={"name": "images", "width": 64, "height": 64})  # fmt: skip
    (small / "model.onnx").write_bytes(build_onnx(64, 64)[:-1] + b"?")
    child = graph.start(
        "inspector:inspector",
        parameters={"model": big, "rung_names": "[full,small]", "rung_modes": "[inspect,inspect]",
                    "rung_strides": "[1,1]", "rung_models": f"['',{small}]"},
    )  # fmt: skip
    assert str(small) in child.wait_line("damaged or was swapped")
    write_package(small, build_onnx(64, 64), name="small", classes=["a", "b", "c"],
                  input={"name": "images", "width": 64, "height": 64})  # fmt: skip
    assert "rung 1 'small' has the classes a, b, c" in child.wait_line("configure failed")
    write_package(small, build_onnx(64, 64), name="small",
                  input={"name": "images", "width": 64, "height": 64})  # fmt: skip
    graph.until_state(INSPECTOR, ACTIVE)


def test_what_a_person_sees(graph: Graph, tmp_path: Path) -> None:
    """Score maps of failed parts alone, and markers on the part's plane; nobody looks, no work."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "fail.png"), picture((1, 1, 2, 255)))
    cv2.imwrite(str(folder / "good.png"), GOOD)
    results = graph.collect("inspection_result")
    maps: list[CompressedImage] = graph.collect("score_map_compressed", inspector="inspector")
    markers: list[MarkerArray] = graph.collect("markers", inspector="inspector")
    drawn: list[ImageMarker] = graph.collect("image_markers", inspector="inspector")
    graph.start(
        "camera:camera", "inspector:inspector",
        parameters={
            "camera:source": "folder", "camera:address": folder, "camera:loop": True,
            "camera:rate_hz": 10.0, "inspector:model": write_package(tmp_path / "model"),
            "inspector:pixel_size_mm": 0.5,
        },
    )  # fmt: skip

    def boxes() -> list[Marker]:
        return [m for array in markers for m in array.markers if m.type == Marker.LINE_LIST]

    def over_frames() -> set[int]:
        """What was done to boxes in the pixels of frames that have a result."""
        known = [r.header for r in results]
        return {m.action for m in drawn if m.header in known}

    graph.until(lambda: len(maps) > 3 and len(boxes()) > 3 and len(results) > 12, "views")
    graph.until(lambda: over_frames() == {ImageMarker.ADD, ImageMarker.REMOVE}, "image markers")
    failed = {(r.header.stamp.sec, r.header.stamp.nanosec) for r in results
              if r.verdict == InspectionResult.VERDICT_FAIL}  # fmt: skip
    assert {(m.header.stamp.sec, m.header.stamp.nanosec) for m in maps[:3]} <= failed
    assert images.decode(maps[0].data).shape[0] >= 480
    line = boxes()[0]
    xs, ys = [p.x for p in line.points], [p.y for p in line.points]
    # The cell from 32 to 64 pixels at 0.5 mm a pixel, in metres.
    assert (min(xs), max(xs)) == pytest.approx((0.016, 0.032))
    assert (min(ys), max(ys)) == pytest.approx((0.016, 0.032))
    labels = {m.text for a in markers for m in a.markers if m.type == Marker.TEXT_VIEW_FACING}
    assert labels == {"red 1.00"}
    for marker in drawn:
        corners = {(round(p.x), round(p.y)) for p in marker.points}
        cell = {(32, 32), (64, 32), (64, 64), (32, 64)}
        assert corners == (cell if marker.action == ImageMarker.ADD else set())


@pytest.mark.skipif(
    importlib.util.find_spec("vision_msgs") is None, reason="vision_msgs is not installed"
)
def test_detections_as_vision_msgs(graph: Graph, tmp_path: Path) -> None:
    line = Camera(graph, write_package(tmp_path / "model"), "image")
    arrays = graph.collect("detections_2d", inspector="inspector")
    message = images.to_message(picture((1, 1, 2, 255)), "bgr8", Image().header.stamp, "camera")
    graph.until(lambda: line.send(message) and arrays, "a Detection2DArray")
    (detection,) = arrays[0].detections
    assert detection.results[0].hypothesis.class_id == "red"
    centre = detection.bbox.center.position
    assert (centre.x, centre.y, detection.bbox.size_x) == pytest.approx((48, 48, 32))

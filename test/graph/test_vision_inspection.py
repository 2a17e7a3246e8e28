"""Camera and inspector as real processes: pictures in, verdicts with provenance out."""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness import ACTIVATE, ACTIVE, CLEANUP, CONFIGURE, DEACTIVATE, Graph, statuses
from sensor_msgs.msg import CompressedImage, Image
from shopfloor_msgs.msg import InspectionResult

from shopfloor.ros import images

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import build_onnx, picture, write_package

INSPECTOR, CAMERA = "/inspector", "/camera"
SQUARES = {"fail": 255, "suspect": 180, "good": 100}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_package(tmp_path / "model")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Nine parts, three of each kind, and one that is cut short."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(9):
        kind = list(SQUARES)[number % 3]
        image = picture((number % 4, number % 3, 2, SQUARES[kind]))
        cv2.imwrite(str(folder / f"part_{number}_{kind}.png"), image)
    (folder / "part_5a_cut.png").write_bytes((folder / "part_5_good.png").read_bytes()[:70])
    return folder


def camera(folder: Path, **more: object) -> dict[str, object]:
    values = {"source": "folder", "address": folder, "rate_hz": 20.0, **more}
    return {f"camera:{key}": value for key, value in values.items()}


def inspector(model: Path, **more: object) -> dict[str, object]:
    return {f"inspector:{key}": value for key, value in {"model": model, **more}.items()}


def check_results(results: list[Any], model: Path) -> None:
    """Ten results, one a part, each with the verdict that its picture calls for."""
    by_part = {r.part_id: r for r in results}
    assert len(results) == len(by_part) == 10
    sha256 = hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()
    for part, r in by_part.items():
        kind = part.rsplit("_", 1)[1]
        assert (r.header.frame_id, r.station) == ("camera", "inspector"), part
        if kind == "cut":
            assert r.verdict == InspectionResult.VERDICT_UNKNOWN
            assert r.reason_code == InspectionResult.REASON_FRAME_INVALID
            continue
        wanted = {"fail": "FAIL", "suspect": "SUSPECT", "good": "PASS"}[kind]
        assert r.verdict == getattr(InspectionResult, f"VERDICT_{wanted}"), part
        assert r.reason and (r.image_width, r.image_height) == (128, 96)
        if kind != "good":
            number = int(part.split("_")[1])
            box = r.detections[0]
            assert (box.class_id, box.class_name) == (2, "red")
            assert box.score == pytest.approx((SQUARES[kind] - 128) / 127, abs=1e-5)
            place = (box.x_px, box.y_px, box.width_px, box.height_px)
            assert place == pytest.approx((number % 4 * 32, number % 3 * 32, 32, 32), abs=1e-3)
        p = r.provenance
        assert (p.model, p.model_version, p.model_sha256) == ("tiny", "1", sha256)
        assert p.engine.startswith("onnxruntime ") and p.precision == "float32"
        assert len(p.configuration_sha256) == 64 and p.node == INSPECTOR and p.host
        assert p.rung == 0 and math.isnan(p.board_temperature_celsius)
        stages = [stage.name for stage in p.stages]
        work = ["convert", "preprocess", "infer", "gauges", "meanwhile", "postprocess", "decide"]
        assert stages == ["queue", *work]
        assert 0 < r.frame_age_ms < 5000
        q = r.quality
        assert q.mean_grey > 0 and q.contrast > 0 and q.sharpness > 0
        assert 0 <= q.saturated_fraction <= 1
    assert [r.frame_sequence for r in sorted(results, key=lambda r: r.frame_sequence)] == list(
        range(1, 11)
    )
    assert results[-1].frames_processed == 10 and results[-1].dropped_invalid == 1


def test_one_process_judges_each_part_and_says_where_from(
    graph: Graph, model: Path, pictures: Path
) -> None:
    results = graph.collect("inspection_result")
    infos = graph.collect("frame_info", camera="camera")
    parameters = {"autostart": False, **camera(pictures), **inspector(model)}
    child = graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    for node in (CAMERA, INSPECTOR):
        assert graph.change(node, CONFIGURE)
    assert graph.change(INSPECTOR, ACTIVATE)
    graph.until_known(CAMERA, INSPECTOR)
    assert graph.change(CAMERA, ACTIVATE)
    graph.until(lambda: len(results) == 10 and len(infos) == 10, "ten results")
    check_results(results, model)
    assert {i.part_id for i in infos if i.width == 0} == {"part_5a_cut"}
    assert "Traceback" not in child.output


def test_by_reference_in_one_process_even_when_the_camera_comes_second(
    graph: Graph, model: Path, pictures: Path
) -> None:
    diagnostics = graph.collect("diagnostics")
    results = graph.collect("inspection_result")
    parameters = {**camera(pictures, loop=True), **inspector(model)}
    graph.start("inspector:inspector", "camera:camera", parameters=parameters)
    graph.until(
        lambda: (
            (s := statuses(diagnostics, INSPECTOR).get("inspection"))
            and any(v.key == "road" and v.value == "local" for v in s.values)
        ),
        "frames by reference",
    )
    seen = len(results)
    graph.until(lambda: len(results) > seen + 20, "results by reference")
    assert graph.node.count_publishers("/camera/image_raw") == 1
    late = results[seen + 5 :]
    assert {r.verdict for r in late} == {0, 1, 2, 3}


@pytest.mark.parametrize("road", ["image", "compressed"])
def test_the_same_part_over_any_road(graph: Graph, model: Path, pictures: Path, road: str) -> None:
    results = graph.collect("inspection_result")
    graph.start("inspector:inspector", parameters=inspector(model, road=road))
    graph.until_state(INSPECTOR, ACTIVE)
    graph.start("camera:camera", parameters=camera(pictures, loop=True))
    graph.until(lambda: len({r.part_id for r in results if r.verdict}) >= 9, "nine parts judged")
    for r in results:
        if "fail" in r.part_id:
            assert r.verdict == InspectionResult.VERDICT_FAIL, r.part_id
            assert r.frame_sequence > 0


def test_images_are_published_only_while_someone_wants_them_and_are_exact(
    graph: Graph, pictures: Path
) -> None:
    infos = graph.collect("frame_info", camera="camera")
    graph.start("camera:camera", parameters=camera(pictures, loop=True))
    graph.until(lambda: len(infos) > 3, "frames")
    got: list[Image] = graph.collect("image", camera="camera")
    jpegs: list[CompressedImage] = graph.collect("image_compressed", camera="camera")
    graph.until(lambda: len(got) > 12 and len(jpegs) > 3, "images")
    told = len(infos)
    graph.until(lambda: len(infos) > told, "the infos of these images, which follow them")
    stamps = {(i.header.stamp.sec, i.header.stamp.nanosec): i for i in infos}
    for message in got[:12]:
        info = stamps[(message.header.stamp.sec, message.header.stamp.nanosec)]
        file = pictures / f"{info.part_id.split('#')[0]}.png"
        np.testing.assert_array_equal(images.from_message(message), cv2.imread(str(file)))
    decoded = images.decode(jpegs[-1].data)
    assert decoded.shape == (96, 128, 3) and jpegs[-1].header.frame_id == "camera"


def test_annotated_image_shows_the_verdict(graph: Graph, model: Path, pictures: Path) -> None:
    shown: list[Image] = graph.collect("annotated", inspector="inspector")
    jpegs: list[CompressedImage] = graph.collect("annotated_compressed", inspector="inspector")
    results = graph.collect("inspection_result")
    parameters = {**camera(pictures, loop=True), **inspector(model)}
    graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(shown) > 9 and len(jpegs) > 3 and len(results) > 9, "annotated images")
    verdicts = {(r.header.stamp.sec, r.header.stamp.nanosec): r.verdict for r in results}
    colours: dict[int, set[tuple[int, ...]]] = {}
    for message in shown:
        verdict = verdicts.get((message.header.stamp.sec, message.header.stamp.nanosec))
        pixels = images.from_message(message)
        assert min(pixels.shape[:2]) >= 480
        if verdict is not None:
            colours.setdefault(verdict, set()).add(tuple(int(v) for v in pixels[0, -1]))
    assert len(colours) >= 2 and all(len(seen) == 1 for seen in colours.values())
    assert len(set.union(*colours.values())) == len(colours), "each verdict has its own colour"


def test_a_missing_model_is_named_and_can_be_put_right(
    graph: Graph, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "late_model"
    diagnostics = graph.collect("diagnostics")
    child = graph.start("inspector:inspector", parameters=inspector(folder))
    line = child.wait_line("configure failed")
    assert str(folder) in line
    graph.until(
        lambda: (
            (s := statuses(diagnostics, INSPECTOR).get("state"))
            and str(folder) in s.message
            and s.level == b"\x02"
        ),
        "the cause in /diagnostics",
    )
    write_package(folder)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + b"?")
    line = child.wait_line("sha256 is")
    assert "model.onnx" in line and "damaged or was swapped" in line
    write_package(folder)
    graph.until_state(INSPECTOR, ACTIVE)
    assert "Traceback" not in child.output


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"classes": ["a", "b"]}, "output tensor 'output' has shape"),
        ({"thresholds": {"fail": 2, "suspect": 0.1}}, "thresholds.fail"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name(
    graph: Graph, tmp_path: Path, changes: dict[str, Any], needle: str
) -> None:
    folder = write_package(tmp_path / "wrong", **changes)
    child = graph.start("inspector:inspector", parameters=inspector(folder))
    assert needle in child.wait_line("configure failed")
    assert child.process.poll() is None and "Traceback" not in child.output


def test_an_engine_that_is_not_ready_is_named_and_another_can_be_chosen(
    graph: Graph, model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = graph.collect("inspection_result")
    monkeypatch.setenv("SHOPFLOOR_CACHE_DIR", str(model.parent / "cache"))
    chosen = inspector(model, engine="openvino", precision="int8")
    parameters = {**camera(pictures, loop=True), **chosen}
    child = graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    line = child.wait_line("configure failed")
    assert "not built yet" in line and "build tiny/1 --precision int8" in line
    assert graph.set(INSPECTOR, "precision", "float32") == (True, "")
    graph.until(lambda: len(results) > 5, "results")
    assert results[-1].provenance.engine.startswith("openvino ")
    assert results[-1].provenance.precision == "float32"
    assert "Traceback" not in child.output


def test_outputs_that_are_no_numbers_are_unknown_and_the_next_part_is_judged(
    graph: Graph, tmp_path: Path, pictures: Path
) -> None:
    folder = write_package(tmp_path / "model", build_onnx(nan_above=SQUARES["fail"] - 1))
    results = graph.collect("inspection_result")
    parameters = {**camera(pictures, loop=True), **inspector(folder)}
    child = graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(results) > 20, "results of each kind")
    for r in results:
        broken = "_fail" in r.part_id
        assert (r.reason_code == InspectionResult.REASON_OUTPUT_INVALID) == broken
        assert (r.verdict == InspectionResult.VERDICT_UNKNOWN) == (broken or "cut" in r.part_id)
        assert not broken or "NaN" in r.reason
    assert child.process.poll() is None and "Traceback" not in child.output


def test_thresholds_change_while_it_runs_and_the_provenance_says_so(
    graph: Graph, model: Path, pictures: Path
) -> None:
    results = graph.collect("inspection_result")
    parameters = {**camera(pictures, loop=True), **inspector(model)}
    child = graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(results) > 10, "results")
    before = results[-1].provenance.configuration_sha256
    assert graph.set(INSPECTOR, "fail_threshold", 0.35) == (True, "")
    graph.until(
        lambda: results[-1].fail_threshold == pytest.approx(0.35), "the new threshold in results"
    )
    assert results[-1].provenance.configuration_sha256 != before
    graph.until(
        lambda: (
            [r for r in results if "suspect" in r.part_id][-1].verdict
            == InspectionResult.VERDICT_FAIL
        ),
        "what was suspect fails",
    )
    assert graph.set(INSPECTOR, "fail_threshold", 0.1)[0]
    child.wait_line("suspect threshold 0.3 and fail threshold 0.1 don't fit")
    assert results[-1].fail_threshold == pytest.approx(0.35)
    ok, reason = graph.set(INSPECTOR, "model", "other/1")
    assert not ok and "clean up the node first" in reason


def test_it_can_be_taken_down_and_up_again(graph: Graph, model: Path, pictures: Path) -> None:
    results = graph.collect("inspection_result")
    parameters = {**camera(pictures, loop=True), **inspector(model)}
    child = graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(results) > 5, "results")
    for node in (CAMERA, INSPECTOR, CAMERA):
        assert graph.change(node, DEACTIVATE)
        assert graph.change(node, CLEANUP)
        assert graph.change(node, CONFIGURE)
        assert graph.change(node, ACTIVATE)
        seen = len(results)
        graph.until(lambda seen=seen: len(results) > seen + 5, f"results after {node} came back")
    assert results[-1].frames_processed < len(results), "counters start anew at activation"
    assert "Traceback" not in child.output


def test_overload_keeps_the_latest_frame_and_counts_the_others(
    graph: Graph, model: Path, pictures: Path
) -> None:
    results = graph.collect("inspection_result")
    (pictures / "part_5a_cut.png").unlink()
    # As fast as the folder is read; the model is quick, so big pictures keep it busy.
    for file in pictures.iterdir():
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (1920, 1440)))
    parameters = {**camera(pictures, loop=True, rate_hz=0.0), **inspector(model)}
    graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(results) > 100, "results")
    last = results[-1]
    in_flight = 2
    assert 0 <= last.frames_received - last.frames_processed - last.dropped_superseded <= in_flight
    sequences = [r.frame_sequence for r in results]
    assert sequences == sorted(set(sequences)), "never an older frame after a newer one"
    ages = sorted(r.frame_age_ms for r in results[20:])
    assert ages[len(ages) // 2] < 200


def test_a_frame_that_is_too_old_is_unknown(graph: Graph, model: Path, pictures: Path) -> None:
    results = graph.collect("inspection_result")
    limits = {"max_frame_age_ms": 0.001}
    parameters = {**camera(pictures, loop=True), **inspector(model, **limits)}
    graph.start("camera:camera", "inspector:inspector", parameters=parameters)
    graph.until(lambda: len(results) > 12, "results")
    reasons = {r.reason_code for r in results}
    assert reasons <= {InspectionResult.REASON_STALE, InspectionResult.REASON_FRAME_INVALID}
    assert {r.verdict for r in results} == {InspectionResult.VERDICT_UNKNOWN}
    assert results[-1].dropped_stale > 0

"""The inspector core, end to end on a model whose answers are known."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_model import build_onnx, picture, write_package

from shopfloor.inspection.engines import (
    EngineError,
    EngineInfo,
    EngineOptions,
    Synchronous,
    load_engine,
)
from shopfloor.inspection.model import ModelPackage, load_model_package
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria, Reason, Verdict
from shopfloor.inspection.yolo import OutputError

CRITERIA = Criteria(fail=0.6, suspect=0.3)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return load_model_package(write_package(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def inspector(package: ModelPackage) -> Inspector:
    engine = load_engine("onnxruntime", package, EngineOptions())
    return Inspector(package, engine, CRITERIA)


def test_finds_what_is_there_and_says_how_long_it_took(inspector: Inspector) -> None:
    outcome = inspector.inspect(picture((1, 2, 2, 255), (3, 0, 0, 180)), "bgr8")
    np.testing.assert_array_equal(outcome.detections.class_ids, [2, 0])
    np.testing.assert_allclose(outcome.detections.scores, [1.0, 52 / 127], atol=1e-6)
    np.testing.assert_allclose(
        outcome.detections.xyxy, [[32, 64, 64, 96], [96, 0, 128, 32]], atol=1e-4
    )
    assert outcome.decision.verdict is Verdict.FAIL and "red 1.00" in outcome.decision.text
    work = ["convert", "preprocess", "infer", "gauges", "meanwhile", "postprocess", "decide"]
    assert list(outcome.stages_ms) == work
    assert all(ms >= 0 for ms in outcome.stages_ms.values())
    assert outcome.quality.mean_grey > 0


def test_verdict_follows_the_score(inspector: Inspector) -> None:
    # A dim red square: the class is scored, and the picture has contrast.
    for value, verdict, reason in (
        (255, Verdict.FAIL, Reason.DEFECT),
        (180, Verdict.SUSPECT, Reason.BELOW_FAIL_THRESHOLD),
        (120, Verdict.PASS, Reason.NO_DEFECT),
    ):
        decision = inspector.inspect(picture((0, 0, 2, value)), "bgr8").decision
        assert (decision.verdict, decision.reason) == (verdict, reason)


def test_boxes_are_in_pixels_of_a_larger_picture_and_padding_has_none(inspector: Inspector) -> None:
    tall = np.zeros((1920, 640, 3), np.uint8)  # 20 x larger, covers 32 of 128 columns
    tall[:640, :640, 1] = 255
    outcome = inspector.inspect(tall, "bgr8")
    np.testing.assert_allclose(outcome.detections.xyxy, [[0, 0, 640, 640]], atol=0.1)


def test_a_picture_that_shows_nothing_is_never_pass(inspector: Inspector) -> None:
    for value in (0, 114, 128):
        decision = inspector.inspect(np.full((96, 128), value, np.uint8), "mono8").decision
        assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.FRAME_QUALITY)
        assert "contrast 0.0" in decision.text


ENCODINGS: dict[str, Any] = {
    "bgr8": lambda bgr: bgr,
    "rgb8": lambda bgr: bgr[:, :, ::-1],
    "bgra8": lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA),
    "rgba8": lambda bgr: cv2.cvtColor(bgr, cv2.COLOR_BGR2RGBA),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_colour_encodings_see_the_same(inspector: Inspector, encoding: str) -> None:
    image = ENCODINGS[encoding](picture((1, 1, 0, 255)))
    outcome = inspector.inspect(image, encoding)
    assert outcome.detections.class_ids.tolist() == [0]


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("mono8", np.uint8), ("mono16", np.uint16), ("bayer_rggb8", np.uint8)]
)
def test_one_channel_encodings_are_inspected(
    inspector: Inspector, encoding: str, dtype: type[Any]
) -> None:
    image = np.zeros((96, 128), dtype)
    image[32:64, 64:96] = np.iinfo(dtype).max
    outcome = inspector.inspect(image, encoding)
    assert outcome.decision.verdict is Verdict.FAIL
    np.testing.assert_allclose(outcome.detections.xyxy[0], [64, 32, 96, 64], atol=1e-4)


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (np.zeros((0, 0), np.uint8), ""),
        (np.zeros((0, 5, 3), np.uint8), "bgr8"),
        (np.zeros((5, 5), np.uint8), "bgr8"),
        (np.zeros((5, 5, 3), np.uint8), "mono8"),
        (np.zeros((5, 5, 3), np.float32), "bgr8"),
        (np.zeros((5, 5, 3), np.uint8), "hsv"),
        (np.zeros((4, 5, 2), np.uint8), "yuv422_yuy2"),
    ],
)
def test_a_bad_frame_is_unknown_with_the_reason(
    inspector: Inspector, image: Any, encoding: str
) -> None:
    outcome = inspector.inspect(image, encoding)
    assert (outcome.decision.verdict, outcome.decision.reason) == (
        Verdict.UNKNOWN,
        Reason.FRAME_INVALID,
    )
    assert outcome.decision.text and len(outcome.detections) == 0 and outcome.image is None
    assert inspector.inspect(picture((0, 0, 0, 255)), "bgr8").decision.verdict is Verdict.FAIL


class FakeEngine(Synchronous):
    """Returns or raises what it is given, in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def infer(self, batch: Any) -> list[Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    def close(self) -> None:
        self.answers.clear()

    def describe(self) -> EngineInfo:
        return EngineInfo("fake", "float32")


class SlowEngine(FakeEngine):
    """Works on a thread of its own until it is let go."""

    works_beside = True

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.may_end = threading.Event()
        self._thread = ThreadPoolExecutor(1)

    def begin(self, batch: Any) -> Callable[[], list[Any]]:
        def work() -> list[Any]:
            assert self.may_end.wait(10)
            self.may_end.clear()
            return self.infer(batch)

        return self._thread.submit(work).result


def test_what_else_there_is_to_do_is_done_while_the_engine_works(package: ModelPackage) -> None:
    output = np.zeros(package.output.shape, np.float32)
    engine = SlowEngine(*[output] * 2)
    inspector = Inspector(package, engine, CRITERIA)
    image = picture((0, 0, 0, 100))
    outcome = inspector.inspect(image, "bgr8", engine.may_end.set)  # else it never ends
    assert outcome.decision.verdict is Verdict.PASS
    stages = outcome.stages_ms
    spent = stages["infer"] + stages["gauges"] + stages["meanwhile"]
    assert inspector.infer_ms.percentile(100) == pytest.approx(spent)


@pytest.mark.parametrize("answer", [None, EngineError("out of memory")])
def test_a_begun_inference_is_waited_for_whatever_fails(package: ModelPackage, answer: Any) -> None:
    output = np.zeros(package.output.shape, np.float32)
    engine = SlowEngine(output, output if answer is None else answer, output)
    inspector = Inspector(package, engine, CRITERIA)
    image = picture((0, 0, 0, 100))
    wait_s = 0.05

    def fail_later() -> None:
        threading.Timer(wait_s, engine.may_end.set).start()
        if answer is None:
            raise RuntimeError("elsewhere")

    if answer is None:
        with pytest.raises(RuntimeError, match="elsewhere"):
            inspector.inspect(image, "bgr8", fail_later)
    else:
        outcome = inspector.inspect(image, "bgr8", fail_later)
        assert outcome.decision.reason is Reason.ENGINE_FAULT
        stages = outcome.stages_ms  # a failing board must not look fast
        assert stages["infer"] + stages["meanwhile"] >= 0.9e3 * wait_s
    assert len(engine.answers) == 1  # the next frame finds it free
    assert inspector.inspect(image, "bgr8", engine.may_end.set).decision.verdict is Verdict.PASS


def test_a_failing_engine_and_nan_are_unknown_and_the_next_frame_is_judged(
    package: ModelPackage,
) -> None:
    good = np.zeros(package.output.shape, np.float32)
    nan = good.copy()
    nan[0, 0, 0] = np.nan
    engine = FakeEngine(good, EngineError("out of memory"), nan, good[:, :9], good)
    inspector = Inspector(package, engine, CRITERIA)
    image = picture((0, 0, 0, 100))
    seen = [inspector.inspect(image, "bgr8").decision for _ in range(4)]
    assert [d.reason for d in seen] == [
        Reason.ENGINE_FAULT,
        Reason.OUTPUT_INVALID,
        Reason.OUTPUT_INVALID,
        Reason.NO_DEFECT,
    ]
    assert [d.verdict for d in seen[:3]] == [Verdict.UNKNOWN] * 3
    assert "out of memory" in seen[0].text and "NaN" in seen[1].text


def test_a_model_that_gives_nan_is_refused_at_load(tmp_path: Path) -> None:
    folder = write_package(tmp_path, build_onnx(output_bias=float("nan")))
    package = load_model_package(folder)
    engine = load_engine("onnxruntime", package, EngineOptions())
    with pytest.raises(OutputError, match="NaN"):
        Inspector(package, engine, CRITERIA)


def test_yolov8_layout_end_to_end(tmp_path: Path) -> None:
    folder = write_package(tmp_path, build_onnx(layout="yolov8"), layout="yolov8")
    package = load_model_package(folder)
    inspector = Inspector(package, load_engine("onnxruntime", package, EngineOptions()), CRITERIA)
    outcome = inspector.inspect(picture((2, 1, 1, 255)), "bgr8")
    np.testing.assert_allclose(outcome.detections.xyxy, [[64, 32, 96, 64]], atol=1e-4)


def test_the_frame_is_never_written_to(inspector: Inspector) -> None:
    image = picture((2, 1, 1, 255))
    image.flags.writeable = False
    before = image.copy()
    inspector.inspect(image, "bgr8")
    np.testing.assert_array_equal(image, before)

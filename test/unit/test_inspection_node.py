"""The inspector's worker: what it publishes itself, and what it leaves to the executor."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_model import picture, write_package

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.messages import Origin
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.node import InspectorNode, _Job, _Serving, _Session
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.rungs import Mode, Rung, Variant
from shopfloor.inspection.verdict import Criteria
from shopfloor.ros.frames import Frame
from shopfloor.ros.worker import Done


class Line(InspectorNode):
    """The node without ROS: what it publishes and counts is kept."""

    params = InspectorParameters(autostart=False)

    def __init__(self, inspector: Inspector, mode: Mode = Mode.INSPECT) -> None:
        origin = Origin(inspector.package, inspector.describe(), "0" * 64, "host", "/inspector")
        rung = Rung(0, "full", mode, 1, Variant("tiny/1", 0))
        self._serving = _Serving(rung, inspector, origin)
        self._rungs = None
        self._session = _Session()
        self._results = SimpleNamespace(publish=lambda result: self.published.append(result))
        nobody = SimpleNamespace(
            wants=lambda *_: False, offer=lambda *_: None, show=lambda *_: None
        )
        self._crops = self._views = nobody  # type: ignore[assignment]
        self.published: list[Any] = []
        self.faults: list[str] = []

    def steady_ns(self) -> int:
        return 2_000_000

    now_ns = steady_ns

    def get_name(self) -> str:
        return "inspector"

    def fault(self, event: str, cause: str) -> None:
        self.faults.append(f"{event}: {cause}")

    def work(self, frame: Frame) -> Done[Any, Any]:
        """As its worker does."""
        job = _Job(frame, self._session)
        try:
            return Done(job, self._inspect(job), None, 0, 0)
        except Exception as error:
            return Done(job, None, error, 0, 0)


def frame(part: str = "p1", image: Any = None) -> Frame:
    pixels = picture((0, 0, 0, 100)) if image is None else image
    return Frame(pixels, "bgr8", 1_000_000, 1, "camera", part, 1_000_000)


class Road:
    """A road whose FrameInfo comes when the test says so."""

    road = "image"

    def __init__(self) -> None:
        self.part = ""

    def knows(self, _: Frame) -> bool:
        return bool(self.part)

    def complete(self, frame: Frame) -> Frame:
        return Frame(**{**vars(frame), "part_id": self.part or frame.part_id})

    def close(self) -> None:
        self.part = ""


@pytest.fixture
def line(tmp_path: Any) -> Callable[..., Line]:
    package = load_model_package(write_package(tmp_path))
    engine = load_engine("onnxruntime", package, EngineOptions())
    inspector = Inspector(package, engine, Criteria(0.9, 0.5))
    return lambda **more: Line(inspector, **more)


def test_a_frame_that_nobody_asks_more_of_is_no_matter_for_the_executor(
    line: Callable[..., Line],
) -> None:
    node = line()
    assert node.work(frame()).result is None
    (result,) = node.published
    assert (result.part_id, result.frame_age_ms) == ("p1", 1.0)
    stages = [stage.name for stage in result.provenance.stages]
    assert stages[0] == "queue" and "meanwhile" in stages
    assert not node.faults


def test_what_breaks_the_code_is_unknown_once_and_counted(line: Callable[..., Line]) -> None:
    node = line()
    broken = SimpleNamespace(**{
        name: getattr(node._serving.inspector, name) for name in ("package", "criteria")  # type: ignore[union-attr]
    })  # fmt: skip
    node._serving = SimpleNamespace(**{**vars(node._serving), "inspector": broken})  # type: ignore[assignment]
    done = node.work(frame())
    assert isinstance(done.error, AttributeError)
    node._inspected(done)
    (result,) = node.published
    assert result.verdict == result.VERDICT_UNKNOWN and "AttributeError" in result.reason
    assert len(node.faults) == 1 and node.faults[0].startswith("unknown: AttributeError")


def test_a_frame_that_cannot_be_read_is_counted_by_the_executor(line: Callable[..., Line]) -> None:
    node = line()
    done = node.work(frame(image=np.empty((0, 0), np.uint8)))
    assert len(node.published) == 1 and not node.faults
    node._inspected(done)
    assert len(node.published) == 1 and node.faults[0].startswith("frame_invalid")


@pytest.mark.parametrize("mode", [Mode.INSPECT, Mode.HOLD])
def test_a_part_that_is_not_known_yet_is_waited_for(line: Callable[..., Line], mode: Mode) -> None:
    node = line(mode=mode)
    road = node._session.frames = Road()  # type: ignore[assignment]
    done = node.work(frame(part=""))
    assert not node.published and done.result is not None
    road.part = "late"  # type: ignore[attr-defined]
    node._inspected(done)
    assert [result.part_id for result in node.published] == ["late"]
    assert node.work(frame(part="")).result is None and len(node.published) == 2


def test_what_began_before_the_end_of_a_session_is_not_said_after_it(
    line: Callable[..., Line],
) -> None:
    node = line()
    node._session.frames = Road()  # type: ignore[assignment]
    waiting = node.work(frame(part=""))
    before = node._session
    before.end()
    node._session = _Session()  # it is active again
    node._inspected(waiting)
    node._inspected(Done(waiting.item, node._inspect(waiting.item), None, 0, 0))
    assert not node.published and before.counters.processed == 0
    assert node.work(frame()).result is None and len(node.published) == 1
    assert node._session.counters.processed == 1

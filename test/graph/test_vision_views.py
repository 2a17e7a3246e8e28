"""Pictures for people: what may be left out, and what not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.time import Time

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.node_views import KEPT_FAILS, Shown, Views
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.rungs import Mode, Rung, Variant
from shopfloor.inspection.verdict import Criteria, Verdict
from shopfloor.ros.frames import Frame

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import picture, write_package


class BusyWorker:
    """A queue of one that is worked on only when the test says so."""

    def __init__(self, name: str, work: Any, deliver: Any) -> None:
        self.put = lambda item: setattr(self, "_item", item)
        self.run = lambda: work(self._item)


class Watched:
    """A node whose compressed score map alone has a subscriber."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.faults: list[str] = []

    def publisher(self, key: str, **_: str) -> Any:
        watched = key == "score_map_compressed"
        return SimpleNamespace(
            get_subscription_count=lambda: int(watched), publish=self.published.append
        )

    def worker(self, *arguments: Any, quiet: bool) -> BusyWorker:
        self.queue = BusyWorker(*arguments)
        return self.queue

    def get_name(self) -> str:
        return "inspector"

    def stamp(self, ns: int) -> Any:
        return Time(nanoseconds=ns).to_msg()

    def fault(self, event: str, cause: str) -> None:
        self.faults.append(event)


@pytest.mark.parametrize("fails", [1, KEPT_FAILS, KEPT_FAILS + 2])
def test_a_fail_that_waits_for_its_score_map_does_not_give_way_to_a_pass(
    tmp_path: Path, fails: int
) -> None:
    package = load_model_package(write_package(tmp_path))
    engine = load_engine("onnxruntime", package, EngineOptions())
    inspector = Inspector(package, engine, Criteria(fail=0.6, suspect=0.3))
    node = Watched()
    views = Views(node, 80, 0.0)  # type: ignore[arg-type]
    for number in range(1, fails + 2):
        image = picture((1, 1, 2, 255 if number <= fails else 100))
        outcome = inspector.inspect(image, "bgr8")
        assert (outcome.decision.verdict is Verdict.FAIL) == (number <= fails)
        frame = Frame(image, "bgr8", number, number, "camera", f"p{number}", 0)
        rung = Rung(0, "full", Mode.INSPECT, 1, Variant("tiny/1"))
        views.show(Shown(frame, outcome, package, rung, 0.3))
    node.queue.run()
    left_out = max(fails - KEPT_FAILS, 0)
    shown = [message.header.stamp.nanosec for message in node.published]
    assert shown == list(range(1 + left_out, fails + 1))
    assert node.faults == ["score map left out"] * left_out

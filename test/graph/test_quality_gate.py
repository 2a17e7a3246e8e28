"""quality_gate over real topics: one verdict per part, whatever comes late, twice or broken."""

from __future__ import annotations

from typing import Any

import pytest
from harness import ACTIVE, Graph, statuses
from shopfloor_msgs.msg import FrameInfo, InspectionResult, PartVerdict

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

GATE = "/quality_gate"


class Stations:
    """Plays cameras and inspectors, and hears the verdicts."""

    def __init__(self, graph: Graph, **parameters: object) -> None:
        self.graph = graph
        self.verdicts = graph.collect("part_verdict")
        self.diagnostics = graph.collect("diagnostics")
        self._infos = {camera: self._publisher("frame_info", camera=camera) for camera in "ab"}
        self._results = self._publisher("inspection_result")
        graph.start("quality_gate:quality_gate", parameters={"cameras": "['a','b']", **parameters})
        graph.until_state(GATE, ACTIVE)
        for publisher in (*self._infos.values(), self._results):
            graph.until(publisher.get_subscription_count, "the gate to listen")
        graph.until(
            lambda: graph.node.count_publishers(interface("part_verdict").name), "the gate to talk"
        )

    def _publisher(self, key: str, **names: str) -> Any:
        row = interface(key)
        return self.graph.node.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )

    def seen(self, camera: str, part: str) -> None:
        info = FrameInfo(sequence=1, part_id=part, width=1, height=1)
        info.header.frame_id = camera
        self._infos[camera].publish(info)

    def result(self, camera: str, part: str, verdict: int, sequence: int = 1) -> None:
        message = InspectionResult(
            part_id=part, station=f"station_{camera}", frame_sequence=sequence, verdict=verdict
        )
        message.header.frame_id = camera
        self._results.publish(message)

    def wait(self, count: int) -> list[Any]:
        self.graph.until(lambda: len(self.verdicts) >= count, f"{count} verdicts")
        return self.verdicts


def test_verdicts_of_parts_seen_by_one_camera_each(graph: Graph) -> None:
    line = Stations(graph)
    cases = [
        (InspectionResult.VERDICT_PASS, PartVerdict.VERDICT_PASS),
        (InspectionResult.VERDICT_FAIL, PartVerdict.VERDICT_FAIL),
        (InspectionResult.VERDICT_SUSPECT, PartVerdict.VERDICT_REVIEW),
        (InspectionResult.VERDICT_UNKNOWN, PartVerdict.VERDICT_REVIEW),
        (77, PartVerdict.VERDICT_REVIEW),
    ]
    for i, (said, _) in enumerate(cases):
        line.seen("a", f"part{i}")
        line.result("a", f"part{i}", said)
    verdicts = {v.part_id: v for v in line.wait(len(cases))}
    assert [verdicts[f"part{i}"].verdict for i in range(len(cases))] == [v for _, v in cases]
    first = verdicts["part0"]
    assert first.timing == PartVerdict.TIMING_ON_TIME
    assert first.evidence[0].station == "station_a"
    assert not first.reject and verdicts["part1"].reject
    graph.until(
        lambda: "unknown_verdict" in statuses(line.diagnostics, GATE)["events"].message,
        "the verdict 77 in /diagnostics",
    )


def test_repeated_and_reordered_results_give_one_verdict(graph: Graph) -> None:
    line = Stations(graph, every_camera=True)
    for i in range(20):
        for camera in ("b", "a") if i % 2 else ("a", "b"):
            line.result(camera, f"part{i}", InspectionResult.VERDICT_PASS)
            line.result(camera, f"part{i}", InspectionResult.VERDICT_PASS)
    line.result("a", "last", InspectionResult.VERDICT_FAIL)
    line.result("b", "last", InspectionResult.VERDICT_PASS)
    graph.until(lambda: any(v.part_id == "last" for v in line.verdicts), "the last part")
    assert [v.part_id for v in line.verdicts] == [*(f"part{i}" for i in range(20)), "last"]
    assert {v.revision for v in line.verdicts} == {1}


@pytest.mark.parametrize("every_camera", [True, False])
def test_missing_evidence_is_said_by_the_deadline(graph: Graph, every_camera: bool) -> None:
    line = Stations(graph, every_camera=every_camera, deadline_ms=200.0)
    line.seen("a", "x")
    line.seen("b", "x")
    line.result("a", "x", InspectionResult.VERDICT_PASS)
    (verdict,) = line.wait(1)
    assert verdict.verdict == PartVerdict.VERDICT_REVIEW
    assert verdict.timing == PartVerdict.TIMING_MISSING
    assert "b: MISSING" in verdict.reasons[0]
    line.result("b", "x", InspectionResult.VERDICT_PASS)
    verdict = line.wait(2)[1]
    assert (verdict.revision, verdict.timing) == (2, PartVerdict.TIMING_LATE)
    assert verdict.verdict == PartVerdict.VERDICT_REVIEW


def test_a_result_without_a_part_is_counted_and_harms_nothing(graph: Graph) -> None:
    line = Stations(graph)
    line.result("a", "", InspectionResult.VERDICT_FAIL)
    line.seen("a", "")
    line.result("a", "good", InspectionResult.VERDICT_PASS)
    assert line.wait(1)[0].part_id == "good"
    graph.until(
        lambda: (
            {"result_without_part", "frame_without_part"}
            <= {v.key for v in statuses(line.diagnostics, GATE)["events"].values}
        ),
        "both in /diagnostics",
    )

"""The inspector's ladder in a running graph: by service, by ThermalState, and what results say."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from harness import ACTIVE, Graph, statuses
from rclpy.time import Time
from shopfloor_msgs.msg import CommandResult, InspectionResult, ThermalState
from shopfloor_msgs.srv import SetInspectorRung

from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import build_onnx, picture, write_package

RATE_HZ = 20.0
NODES = ("camera:camera", "inspector:inspector")
_ids = itertools.count(1)


def start(graph: Graph, tmp_path: Path, **more: object) -> list[Any]:
    """Camera and inspector on a ladder of four rungs; the list of results."""
    big = write_package(tmp_path / "big")
    small = write_package(
        tmp_path / "small", build_onnx(64, 64), name="small",
        input={"name": "images", "width": 64, "height": 64},
    )  # fmt: skip
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), picture((1, 1, 1, 100)))
    results = graph.collect("inspection_result")
    parameters = {
        "camera:source": "folder", "camera:address": folder, "camera:loop": True,
        "camera:rate_hz": RATE_HZ,
        "inspector:model": big, "inspector:host_name": "board",
        "inspector:rung_names": "[full,half rate,small,hold]",
        "inspector:rung_modes": "[inspect,inspect,inspect,hold]",
        "inspector:rung_strides": "[1,2,1,1]",
        "inspector:rung_models": f"['','',{small},'']",
        **{f"inspector:{key}": value for key, value in more.items()},
    }  # fmt: skip
    graph.start(*NODES, parameters=parameters)
    graph.until(lambda: len(results) > 3, "results at rung 0")
    return results


def set_rung(graph: Graph, rung: int, **more: Any) -> SetInspectorRung.Response:
    request = SetInspectorRung.Request(rung=rung, preload_rung=rung, **more)
    request.command.command_id = str(next(_ids))
    request.command.caller = "tester"
    request.command.reason = "test"
    return graph.call(SetInspectorRung, "/inspector/set_rung", request)


def rungs_of(results: list[Any]) -> list[int]:
    return [r.provenance.rung for r in results]


def test_a_rung_is_set_by_service_and_each_result_says_so(graph: Graph, tmp_path: Path) -> None:
    results = start(graph, tmp_path)
    answer = set_rung(graph, 2, rung_name="small")
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED
    assert (answer.rung, answer.rung_name, answer.model) == (2, "small", "small/1")
    assert (answer.input_width_px, answer.frame_stride) == (64, 1)
    assert answer.expected_p99_ms > 0
    graph.until(lambda: 2 in rungs_of(results), "a result at rung 2")
    first = rungs_of(results).index(2)
    assert set(rungs_of(results)[first:]) == {2}
    assert results[-1].provenance.model == "small"
    assert results[-1].suspect_threshold == pytest.approx(0.3 * 0.7)
    # No frame was lost for the change: the sequences have no gap that is not counted.
    gaps = results[-1].frame_sequence - results[0].frame_sequence - (len(results) - 1)
    assert gaps <= results[-1].dropped_superseded

    set_rung(graph, 1)
    graph.until(lambda: rungs_of(results)[-5:] == [1] * 5, "results at half rate")
    half = [r.frame_sequence for r in results if r.provenance.rung == 1]
    # A picture that waited too long is superseded, which only makes a gap wider.
    assert all(b - a >= 2 for a, b in itertools.pairwise(half))
    assert results[-1].dropped_stride > 0

    set_rung(graph, 3)
    graph.until(lambda: rungs_of(results)[-1] == 3, "hold")
    assert results[-1].verdict == InspectionResult.VERDICT_UNKNOWN
    assert results[-1].reason_code == InspectionResult.REASON_DEGRADED
    set_rung(graph, 0)
    graph.until(lambda: rungs_of(results)[-1] == 0, "full again")
    assert results[-1].verdict == InspectionResult.VERDICT_PASS
    assert math.isnan(results[-1].provenance.board_temperature_celsius)


def test_what_cannot_be_done_is_refused_with_its_reason(graph: Graph, tmp_path: Path) -> None:
    results = start(graph, tmp_path)
    for arguments, reason, needle in (
        ({"rung": 9}, CommandResult.REASON_INVALID_ARGUMENT, "rung 9; allowed: 0 to 3"),
        ({"rung": 1, "rung_name": "small"}, CommandResult.REASON_VERSION_MISMATCH, "'half rate'"),
    ):
        answer = set_rung(graph, **arguments)
        assert answer.result.outcome == CommandResult.OUTCOME_REJECTED
        assert answer.result.reason == reason and needle in answer.result.text
        assert (answer.rung, answer.rung_name) == (0, "full")
    answer = set_rung(graph, 2, preload_only=True)
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED and answer.rung == 0
    seen = len(results)
    graph.until(lambda: len(results) > seen + 3, "results")
    assert set(rungs_of(results)) == {0}


def test_the_inspector_obeys_the_hosts_thermal_state(graph: Graph, tmp_path: Path) -> None:
    diagnostics = graph.collect("diagnostics")
    row = interface("thermal_state")
    publisher = graph.node.create_publisher(
        ThermalState, row.resolve(host="board"), publisher_qos(row.qos)
    )

    def say(rung: int, celsius: float = 71.5) -> None:
        publisher.publish(
            ThermalState(
                host="board", rung=rung, rung_count=4, board_temperature_celsius=celsius,
                cause_text="forecast",
            )
        )  # fmt: skip

    say(1)  # before the inspector is there: the topic is latched
    results = start(graph, tmp_path)
    graph.until(lambda: rungs_of(results)[-1] == 1, "the latched rung")
    graph.until(
        lambda: results[-1].provenance.board_temperature_celsius == pytest.approx(71.5),
        "the board's temperature",
    )
    # Service and watchdog: the larger rung counts, whichever comes last.
    set_rung(graph, 2)
    say(1)
    graph.until(lambda: rungs_of(results)[-1] == 2, "the larger rung")
    set_rung(graph, 0)
    graph.until(lambda: rungs_of(results)[-1] == 1, "the watchdog's rung again")
    say(77)
    graph.until(lambda: rungs_of(results)[-1] == 3, "the last rung for one that is not known")
    graph.until(
        lambda: (
            "rung unknown" in {v.key for v in statuses(diagnostics, "/inspector")["events"].values}
        ),
        "the unknown rung in /diagnostics",
    )
    say(0, math.nan)
    graph.until(lambda: rungs_of(results)[-1] == 0, "full performance")
    graph.until_state("/inspector", ACTIVE)


def test_the_first_result_of_a_new_rung_comes_within_a_frame_and_an_inference(
    graph: Graph, tmp_path: Path
) -> None:
    results = start(graph, tmp_path, follow_thermal=False)
    for rung in (1, 2, 0, 2, 1, 0):
        answer = set_rung(graph, rung)
        graph.until(lambda rung=rung: rungs_of(results)[-1] == rung, f"rung {rung}")
        switched_ns = Time.from_msg(answer.result.acted_stamp).nanoseconds
        # By the data's stamps, not by how busy this machine is: every frame exposed after the
        # change is judged at the new rung, and the first of them is not left out by the stride.
        later = [r for r in results if Time.from_msg(r.header.stamp).nanoseconds > switched_ns]
        assert {r.provenance.rung for r in later} <= {rung}
        first = next(r for r in results[::-1] if r.provenance.rung != rung)
        new = results[results.index(first) + 1]
        missed = new.frame_sequence - first.frame_sequence - 1
        dropped = new.dropped_superseded - first.dropped_superseded
        assert missed <= dropped + (new.dropped_stride - first.dropped_stride)

"""A person's word about a part, and a gate that is killed: nothing acts twice, nothing passes."""

from __future__ import annotations

import itertools
import json
import signal
from typing import Any

from harness import Graph, statuses
from shopfloor_msgs.msg import (
    CommandResult,
    InspectionResult,
    LineState,
    PartVerdict,
    RejectCommand,
    StationEvidence,
)
from shopfloor_msgs.srv import OverrideVerdict

from shopfloor.quality.evidence import Refinement, Stage, Timing, Verdict
from shopfloor.quality.reject import Action
from shopfloor.ros.audit import verify
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

GATE = "/quality_gate"
REVIEW, PASS, FAIL = (
    PartVerdict.VERDICT_REVIEW, PartVerdict.VERDICT_PASS, PartVerdict.VERDICT_FAIL,
)  # fmt: skip


class Gate:
    """A gate, what it says, and a station that talks to it."""

    def __init__(self, graph: Graph, **parameters: object) -> None:
        self.graph = graph
        self.parameters = {"cameras": "['a','b']", **parameters}
        self.verdicts = graph.collect("part_verdict")
        row = interface("inspection_result")
        self._results = graph.node.create_publisher(
            InspectionResult, row.name, publisher_qos(row.qos)
        )
        self.child = self.start()

    def start(self) -> Any:
        """Start one and wait until it was heard judging: a killed one may still seem to listen.

        Each try is another part: a verdict is said once, and may be before anybody hears it.
        """
        child = self.graph.start("quality_gate:quality_gate", parameters=self.parameters)
        probe, tries = f"probe{child.process.pid}_", itertools.count()

        def judged() -> bool:
            self.says("a", f"{probe}{next(tries)}", InspectionResult.VERDICT_FAIL, 0)
            return any(v.part_id.startswith(probe) for v in self.verdicts)

        self.graph.until(judged, "a verdict on the probe")
        return child

    def kill(self) -> None:
        self.child.signal(signal.SIGKILL)
        self.child.wait()

    def now_ns(self) -> int:
        return int(self.graph.node.get_clock().now().nanoseconds)

    def says(self, camera: str, part: str, verdict: int, exposed_ns: int, rung: int = 0) -> None:
        message = InspectionResult(part_id=part, station=camera, frame_sequence=1, verdict=verdict)
        message.header.frame_id = camera
        message.provenance.rung = rung
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(exposed_ns, 10**9)
        self._results.publish(message)

    def wait(self, part: str, revision: int = 1) -> PartVerdict:
        found: PartVerdict = self.graph.until(
            lambda: next(
                (v for v in self.verdicts if (v.part_id, v.revision) == (part, revision)), None
            ),
            f"revision {revision} of {part}",
        )
        return found

    def override(self, command_id: str, part: str, verdict: int, **fields: Any) -> Any:
        request = OverrideVerdict.Request(part_id=part, verdict=verdict)
        request.command.caller, request.command.command_id = "hmi", command_id
        request.command.person = fields.pop("person", "A. Person")
        request.command.reason = fields.pop("reason", "a scratch on the label only")
        request.command.expected_state = fields.pop("expected_state", 0)
        for name, value in fields.items():
            setattr(request, name, value)
        return self.graph.call(OverrideVerdict, interface("override_verdict").name, request)


def test_an_override_acts_once_and_the_line_counts_it(graph: Graph) -> None:
    states = graph.collect("line_state")
    graph.start("line_state:line_state", parameters={"run_on_activate": True})
    gate = Gate(graph)
    probes = itertools.count()

    def counted_one() -> bool:
        gate.says("a", f"probe_{next(probes)}", InspectionResult.VERDICT_FAIL, 0)
        return bool(states and states[-1].parts_fail)

    graph.until(counted_one, "line_state to hear the gate")
    gate.says("a", "p", InspectionResult.VERDICT_SUSPECT, 0)
    assert gate.wait("p").verdict == REVIEW
    graph.until(lambda: states and states[-1].parts_review == 1, "the part in review")
    total = states[-1].parts_total

    answer = gate.override("1", "p", PASS, expected_state=REVIEW, expected_revision=1)
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED
    said = gate.wait("p", 2)
    assert (said.verdict, said.stage) == (PASS, PartVerdict.STAGE_OVERRIDDEN)
    assert (said.overridden_by, said.override_reason) == (
        "A. Person", "a scratch on the label only",
    )  # fmt: skip
    assert said.evidence[0].tier == StationEvidence.TIER_HUMAN and not said.reject
    assert answer.part_verdict.revision == 2
    counted: LineState = graph.until(
        lambda: next((s for s in states if s.parts_pass == 1), None), "the part among the good"
    )
    assert (counted.parts_total, counted.parts_review) == (total, 0)

    again = gate.override("1", "p", PASS, expected_state=REVIEW, expected_revision=1)
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    gate.says("b", "p", InspectionResult.VERDICT_FAIL, 0)
    gate.says("a", "next", InspectionResult.VERDICT_PASS, 0)
    gate.wait("next")
    assert max(v.revision for v in gate.verdicts if v.part_id == "p") == 2

    for wrong, reason, text in (
        ({"part": "q", "verdict": PASS}, CommandResult.REASON_UNKNOWN_TARGET, "'q' has no"),
        ({"part": "p", "verdict": 9}, CommandResult.REASON_INVALID_ARGUMENT, "verdict 9; allowed"),
        (
            {"part": "p", "verdict": PASS, "refinement": 3},
            CommandResult.REASON_INVALID_ARGUMENT, "refinement 3 with PASS",
        ),
        (
            {"part": "p", "verdict": FAIL, "person": " "},
            CommandResult.REASON_INVALID_ARGUMENT, "person is empty",
        ),
        (
            {"part": "p", "verdict": FAIL, "expected_revision": 1},
            CommandResult.REASON_VERSION_MISMATCH, "revision 2 is in force",
        ),
        (
            {"part": "p", "verdict": FAIL, "expected_state": REVIEW},
            CommandResult.REASON_STATE_MISMATCH, "the state is 1, not 3",
        ),
    ):  # fmt: skip
        refused = gate.override(f"wrong {text}", **wrong).result
        assert refused.outcome == CommandResult.OUTCOME_REJECTED
        assert refused.reason == reason and text in refused.text, refused.text
    (log,) = (graph.folder / "state").rglob("*quality_gate*/audit.jsonl")
    verify(log)
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [e["outcome"] for e in entries if e["person"] == "A. Person"].count("ACCEPTED") == 1


def test_a_killed_gate_says_what_it_may_have_lost_and_repeats_no_override(graph: Graph) -> None:
    gate = Gate(graph, deadline_ms=5000.0)
    seen_before_ns = gate.now_ns()
    gate.says("a", "judged", InspectionResult.VERDICT_SUSPECT, seen_before_ns)
    gate.wait("judged")
    first = gate.override("1", "judged", FAIL)
    assert first.result.outcome == CommandResult.OUTCOME_ACCEPTED
    gate.kill()
    gate.verdicts.clear()
    gate.child = gate.start()
    # Camera a failed it, and that went down with the gate; b passes it.
    gate.says("b", "torn", InspectionResult.VERDICT_PASS, seen_before_ns)
    torn = gate.wait("torn")
    assert (torn.verdict, torn.timing, torn.reject) == (REVIEW, PartVerdict.TIMING_MISSING, True)
    assert any("before this gate listened" in reason for reason in torn.reasons)
    gate.says("b", "fresh", InspectionResult.VERDICT_PASS, gate.now_ns())
    assert gate.wait("fresh").verdict == PASS
    again = gate.override("1", "judged", FAIL)
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert again.part_verdict.revision == first.part_verdict.revision
    assert not any(v.part_id == "judged" for v in gate.verdicts)


def test_a_pass_at_a_reduced_rung_goes_to_review(graph: Graph) -> None:
    diagnostics = graph.collect("diagnostics")
    gate = Gate(graph, review_from_rung=2)
    for rung in (1, 2):
        gate.says("a", f"rung{rung}", InspectionResult.VERDICT_PASS, 0, rung)
    assert gate.wait("rung1").verdict == PASS
    hot = gate.wait("rung2")
    assert hot.verdict == REVIEW and "rung 2" in hot.reasons[0]
    graph.until(
        lambda: statuses(diagnostics, GATE)["parts"].message == "every part judged in time",
        "a gate that is well",
    )


def test_numbers_are_those_of_the_messages() -> None:
    for ours, prefix, message in (
        (Verdict, "VERDICT_", PartVerdict),
        (Refinement, "REFINEMENT_", PartVerdict),
        (Stage, "STAGE_", PartVerdict),
        (Timing, "TIMING_", PartVerdict),
        (Action, "ACTION_", RejectCommand),
    ):
        for member in ours:
            assert member.value == getattr(message, prefix + member.name), member

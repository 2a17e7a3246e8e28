"""The demo's arithmetic: what counts as found, missed, escaped and falsely rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.demo import report, screen
from shopfloor.demo.tally import Box, Tally, Usage

SPUR: Box = (3, 1.0, 10.0, 10.0, 30.0, 30.0)
PATCH: Box = (8, 1.0, 100.0, 100.0, 140.0, 140.0)


def result(tally: Tally, part_id: str, boxes: list[Box], age_ms: float = 40.0) -> None:
    tally.result(
        part_id, "station", boxes, frame_age_ms=age_ms, at_s=1.0, stages_ms={"infer": 30.0},
        drops={"superseded": 2, "stale": 0}, received=10, processed=8,
    )  # fmt: skip


@pytest.fixture
def tally() -> Tally:
    """Four parts: caught, escaped, falsely rejected, passed."""
    tally = Tally()
    tally.truth("caught", "board", [SPUR, PATCH])
    tally.truth("escaped", "board", [SPUR])
    tally.truth("rejected", "steel", [])
    tally.truth("passed", "steel", [])
    tally.truth("on the belt", "steel", [SPUR])
    result(tally, "caught", [(3, 0.9, 11.0, 10.0, 31.0, 30.0), (3, 0.8, 12.0, 10.0, 31.0, 30.0)])
    result(tally, "escaped", [(4, 0.3, 10.0, 10.0, 30.0, 30.0)], 60.0)
    result(tally, "rejected", [PATCH])
    result(tally, "passed", [])
    for part, verdict in (
        ("caught", "FAIL"), ("escaped", "PASS"), ("rejected", "FAIL"), ("passed", "PASS"),
    ):  # fmt: skip
        assert tally.verdict(part, 1, verdict, "ON_TIME", ("why",))
    tally.usage = [Usage("vision", ("camera", "inspector"), 21.0, 270.0, 0)]
    return tally


def test_parts_and_defects_are_counted_against_the_truth(tally: Tally) -> None:
    summary = tally.summary(10.0)
    assert (summary["parts"], summary["pass"], summary["fail"]) == (4, 2, 2)
    truth = summary["truth"]
    assert (truth["defective"], truth["caught"], truth["escaped"]) == (2, 1, 1)
    assert truth["escaped_parts"] == ["escaped"]
    assert (truth["good"], truth["passed"], truth["false_rejects"]) == (2, 1, 1)
    # A second box on the same defect and a box of the wrong class are boxes where nothing is.
    assert (truth["defects"], truth["defects_found"], truth["defects_missed"]) == (3, 1, 2)
    assert truth["false_boxes"] == 3
    assert summary["drops"] == {"superseded": 2, "stale": 0}
    assert summary["frame_age_ms"]["max"] == 60.0


def test_an_older_revision_changes_nothing(tally: Tally) -> None:
    assert tally.verdict("passed", 2, "REVIEW", "LATE", ())
    assert not tally.verdict("passed", 1, "PASS", "ON_TIME", ())
    assert tally.summary(1.0)["review"] == 1
    assert tally.summary(1.0)["late_or_missing"] == 1


def test_the_second_look_is_counted(tally: Tally) -> None:
    assert tally.summary(1.0)["detail"] is None
    tally.detail("NO_DEFECT", 800.0, "m/1")
    tally.detail("DEFECT", 1200.0, "m/1")
    tally.verdict("rejected", 2, "FAIL", "ON_TIME", (), "SCRAP")
    detail = tally.summary(1.0)["detail"]
    assert detail["answers"] == {"NO_DEFECT": 1, "DEFECT": 1}
    assert detail["refined"] == {"SCRAP": 1} and detail["age_ms"]["p50"] == 1000.0


def test_what_left_the_belt_is_held_against_the_verdict_in_force(tally: Tally) -> None:
    assert tally.summary(1.0)["reject_output"] is None
    for part, left in (("caught", True), ("rejected", False), ("passed", True), ("escaped", False)):
        tally.exit(part, left)
    tally.late_reject("rejected")
    assert tally.summary(1.0)["reject_output"] == {
        "rejected": 2, "rejected_rightly": 1, "went_on": 2, "went_on_rightly": 1, "late_rejects": 1,
    }  # fmt: skip


def test_without_a_simulator_nothing_is_said_of_the_truth() -> None:
    tally = Tally()
    result(tally, "x", [])
    tally.verdict("x", 1, "PASS", "ON_TIME", ())
    assert tally.summary(1.0)["truth"] is None


def test_report_and_screens_hold_up_with_little_and_with_hostile_data(
    tally: Tally, tmp_path: Path
) -> None:
    from rich.console import Console

    empty = Tally()
    tally.part("caught").picture = b"\xff\xd8"
    tally.part("caught").score_map = b"\xff\xd8"
    tally.detail("DEFECT", 1200.0, "m/1")
    tally.part("caught").reasons = ("<script>alert(1)</script>",)
    for one in (empty, tally):
        summary = one.summary(0.0)
        page = tmp_path / "report.html"
        report.write(page, one, summary, "a <title>")
        text = page.read_text("utf-8")
        assert "<script>" not in text and "a &lt;title&gt;" in text
        console = Console(width=120, record=True)
        console.print(screen.live(one, one.usage, [("here", "RUNNING", "")], 1.0, 60.0))
        console.print(screen.final(summary, one, {"report": str(page)}))
    assert "1 of 2 caught" in console.export_text()

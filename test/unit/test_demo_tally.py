"""The demo's arithmetic: what counts as found, missed, escaped and falsely rejected."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from shopfloor.demo import report, screen
from shopfloor.demo.floor import HealthPoint, MachineHealthSeen, PlanSeen
from shopfloor.demo.tally import Box, Tally, Usage
from shopfloor.scheduling.problem import Assignment, Job, Machine, Operation, Problem

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
        console.print(screen.final(summary, one))
    assert "1 of 2 caught" in console.export_text()


def page_of(tally: Tally, tmp_path: Path, interrupted: bool = False) -> str:
    page = tmp_path / "report.html"
    report.write(page, tally, tally.summary(10.0, interrupted), "demo")
    return page.read_text("utf-8")


def test_an_escaped_part_is_shown_with_its_true_defects(tally: Tally, tmp_path: Path) -> None:
    assert "<rect" not in page_of(tally, tmp_path)
    assert "Escaped: defective parts that passed (1)" in page_of(tally, tmp_path)
    part = tally.part("escaped")
    # A frame of 100 x 80, enlarged twice, under a banner of 40.
    part.picture = cv2.imencode(".jpg", np.zeros((200, 200), np.uint8))[1].tobytes()
    part.image_size = (100, 80)
    page = page_of(tally, tmp_path)
    assert '<rect x="14.0" y="54.0" width="52.0" height="52.0"/>' in page
    assert "Failures and reviews (0 pictures)" in page


def test_the_pump_the_plan_and_the_alarms_are_in_the_report(tally: Tally, tmp_path: Path) -> None:
    page = page_of(tally, tmp_path)
    assert "No alarms." in page and "<h2>Machine" not in page and "<h2>Plan" not in page
    tally.alarms["belt: <b>stopped</b>"] += 2
    tally.floor.machines["pump_1"] = MachineHealthSeen(
        "INSPECT", "above 8 dB", "OUTER_RACE", "BPFO stands out", "FROZEN", 30, 8.0, 3.0,
        [HealthPoint(5.0, "NORMAL", float("nan"), 1.0), HealthPoint(50.0, "INSPECT", 12.0, 9.0)],
    )  # fmt: skip
    problem = Problem(
        now=0,
        machines=(Machine("press"),),
        jobs=(Job("job_a", (Operation("op", ("press",), (60_000,)),)),),
    )
    tally.floor.plan = PlanSeen(
        3, "local search", 900.0, 0.31, "least load", 0.25, 0.8, 1, problem,
        [Assignment("job_a", "op", "press", 0, 60_000)],
    )  # fmt: skip
    tally.floor.plan_events["PLAN_MADE"] += 1
    page = page_of(tally, tmp_path)
    assert "Alarms (2)" in page and "belt: &lt;b&gt;stopped&lt;/b&gt; (x2)" in page
    assert "Machine pump_1" in page and "OUTER_RACE: BPFO stands out" in page
    assert "NORMAL 5 s, INSPECT 50 s" in page
    assert "version 3: 1 operation, 1 late job, objective 0.310" in page and "job_a op on" in page
    summary = tally.summary(10.0)
    assert summary["machines"]["pump_1"]["tier_first_seen_s"] == {"NORMAL": 5.0, "INSPECT": 50.0}
    assert summary["plan"]["version"] == 3 and summary["plan_events"] == {"PLAN_MADE": 1}
    json.dumps(summary)


def test_an_interrupted_run_says_so_everywhere(tally: Tally, tmp_path: Path) -> None:
    from rich.console import Console

    console = Console(width=80, record=True)
    console.print(screen.final(tally.summary(10.0, True), tally))
    console.print(screen.final(tally.summary(10.0), tally))
    assert console.export_text().count("interrupted after 10 s") == 1
    assert "interrupted after 10 s" in page_of(tally, tmp_path, True)
    assert "interrupted" not in page_of(tally, tmp_path)

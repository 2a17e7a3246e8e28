"""The part ledger: one verdict per part, whatever comes late, twice, or never."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from shopfloor.quality import ledger as ledger_module
from shopfloor.quality.evidence import (
    SEVERITY,
    DetailEvidence,
    Evidence,
    Examined,
    Finding,
    Override,
    Refinement,
    Stage,
    Timing,
    Verdict,
)
from shopfloor.quality.ledger import PartLedger
from shopfloor.quality.rules import believed

MS = 1_000_000


def make(cameras: tuple[str, ...] = ("top", "side"), every_camera: bool = True) -> PartLedger[str]:
    return PartLedger(cameras, every_camera=every_camera, deadline_ms=100.0, remember_s=1.0)


def says(camera: str, finding: Finding, sequence: int = 1) -> Evidence[str]:
    return Evidence(camera, sequence, finding, "because", "message")


def test_a_part_passes_only_when_every_station_passed_it() -> None:
    parts = make()
    assert parts.add("p", says("top", Finding.PASS), 5, 0) == []
    (decision,) = parts.add("p", says("side", Finding.PASS), 6, MS)
    assert (decision.verdict, decision.timing) == (Verdict.PASS, Timing.ON_TIME)
    assert (decision.revision, decision.exposure_ns) == (1, 5)


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (Finding.FAIL, Verdict.FAIL),
        (Finding.SUSPECT, Verdict.REVIEW),
        (Finding.UNKNOWN, Verdict.REVIEW),
    ],
)
def test_the_worst_finding_wins_in_any_order(other: Finding, verdict: Verdict) -> None:
    for findings in itertools.permutations([("top", Finding.PASS), ("side", other)]):
        parts = make()
        decisions = [d for c, f in findings for d in parts.add("p", says(c, f), 0, 0)]
        assert [d.verdict for d in decisions] == [verdict]


def test_missing_evidence_is_named_and_never_a_pass() -> None:
    parts = make()
    parts.add("p", says("top", Finding.PASS), 0, 0)
    assert parts.expire(100 * MS) == []
    (decision,) = parts.expire(101 * MS)
    assert (decision.verdict, decision.timing) == (Verdict.REVIEW, Timing.MISSING)
    assert decision.missing == ("side",)
    assert decision.reasons[0].startswith("side: MISSING")
    assert parts.expire(102 * MS) == []


def test_a_part_that_was_only_seen_goes_to_review() -> None:
    parts = make(every_camera=False)
    parts.seen("p", "top", 0, 0)
    (decision,) = parts.expire(101 * MS)
    assert (decision.verdict, decision.missing) == (Verdict.REVIEW, ("top",))


def test_late_evidence_can_make_a_verdict_worse_but_never_better() -> None:
    parts = make()
    parts.add("p", says("top", Finding.PASS), 0, 0)
    parts.expire(101 * MS)
    (late_pass,) = parts.add("p", says("side", Finding.PASS), 0, 150 * MS)
    assert (late_pass.verdict, late_pass.timing) == (Verdict.REVIEW, Timing.LATE)
    assert late_pass.revision == 2
    assert "stays REVIEW" in late_pass.reasons[0]
    (late_fail,) = parts.add("p", says("side", Finding.FAIL, 2), 0, 160 * MS)
    assert (late_fail.verdict, late_fail.revision) == (Verdict.FAIL, 3)


def test_repeated_evidence_changes_nothing_and_is_counted() -> None:
    parts = make(every_camera=False)
    assert len(parts.add("p", says("top", Finding.FAIL), 0, 0)) == 1
    assert parts.add("p", says("top", Finding.FAIL), 0, 1) == []
    assert parts.add("p", says("top", Finding.PASS), 0, 2) == []
    assert parts.counts["repeated evidence"] == 2


def test_several_frames_of_a_part_count_by_the_worst() -> None:
    parts = make()
    parts.add("p", says("top", Finding.FAIL, 1), 0, 0)
    parts.add("p", says("top", Finding.PASS, 2), 0, 1)
    (decision,) = parts.add("p", says("side", Finding.PASS), 0, 2)
    assert decision.verdict is Verdict.FAIL


def test_decided_parts_are_forgotten_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_PARTS", 5)
    parts = make(every_camera=False)
    decisions = [d for i in range(20) for d in parts.seen(f"p{i}", "top", 0, i)]
    assert [d.part_id for d in decisions] == [f"p{i}" for i in range(15)]
    assert {d.verdict for d in decisions} == {Verdict.REVIEW}
    assert parts.counts["closed by the memory bound"] == 15
    assert len(parts.expire(200 * MS)) == 5
    parts.expire(1300 * MS)
    assert len(parts._parts) == 0


def test_any_order_repetition_and_delay_ends_in_one_consistent_verdict() -> None:
    rng = random.Random(7)
    for _ in range(300):
        parts = make(("a", "b", "c"))
        findings = {camera: rng.choice(list(Finding)) for camera in "abc"}
        events = [(camera, findings[camera]) for camera in "abc"] * rng.randint(1, 3)
        rng.shuffle(events)
        decisions = []
        now = 0
        for camera, finding in events:
            now += rng.choice([1, 1, 60]) * MS
            decisions += parts.expire(now)
            decisions += parts.add("p", says(camera, finding), 0, now)
        decisions += parts.expire(now + 101 * MS)
        assert [d.revision for d in decisions] == list(range(1, len(decisions) + 1))
        severity = [SEVERITY[d.verdict] for d in decisions]
        assert severity == sorted(severity)
        last = decisions[-1]
        if Finding.FAIL in findings.values():
            assert last.verdict is Verdict.FAIL
        elif set(findings.values()) != {Finding.PASS} or last.timing is not Timing.ON_TIME:
            assert last.verdict is Verdict.REVIEW
        else:
            assert last.verdict is Verdict.PASS


# Two tiers ------------------------------------------------------------------------------------


def two_tiers(**more: float) -> PartLedger[str]:
    return PartLedger(
        ("top",), every_camera=False, deadline_ms=100.0, remember_s=60.0, detail_deadline_ms=3000.0,
        **more,
    )  # fmt: skip


def answer(
    outcome: Examined, index: int = 0, count: int = 1, sequence: int = 1, mm: float = float("nan")
) -> DetailEvidence[str]:
    return DetailEvidence("top", sequence, index, count, outcome, "looked", "message", mm)


def test_a_suspect_part_is_reviewed_now_and_cleared_by_the_last_crop() -> None:
    parts = two_tiers()
    (now,) = parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    assert (now.verdict, now.stage, now.awaited) == (
        Verdict.REVIEW, Stage.INITIAL, (("top", 1),),
    )  # fmt: skip
    assert parts.add_detail("p", answer(Examined.NO_DEFECT, 0, 2), 0, MS) == []
    (last,) = parts.add_detail("p", answer(Examined.NO_DEFECT, 1, 2), 0, 2 * MS)
    assert (last.verdict, last.stage, last.revision) == (Verdict.PASS, Stage.FINAL, 2)
    assert last.refinement is Refinement.CONTINUE and last.timing is Timing.ON_TIME
    assert parts.expire(5000 * MS) == []


def test_a_suspect_place_that_nobody_looked_at_keeps_the_part_from_passing() -> None:
    parts = two_tiers()
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    for index in range(4):
        assert parts.add_detail("p", answer(Examined.NO_DEFECT, index, 5), 0, MS) == []
    (last,) = parts.expire(3001 * MS)
    assert (last.verdict, last.stage, last.timing) == (
        Verdict.REVIEW, Stage.FINAL, Timing.MISSING,
    )  # fmt: skip
    assert last.awaited == (("top", 1),)
    assert last.reasons[0].endswith("detail MISSING by the deadline: answered 4 of 5 crops")


@pytest.mark.parametrize(
    ("mm", "scrap_from_mm", "refinement"),
    [
        (0.4, 0.5, Refinement.CORRECT),
        (0.5, 0.5, Refinement.SCRAP),
        (float("nan"), 0.5, Refinement.SCRAP),
        (0.4, 0.0, Refinement.SCRAP),
    ],
)
def test_a_confirmed_defect_fails_the_part_at_once(
    mm: float, scrap_from_mm: float, refinement: Refinement
) -> None:
    parts = two_tiers(scrap_from_mm=scrap_from_mm)
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    (decision,) = parts.add_detail("p", answer(Examined.DEFECT, 0, 2, mm=mm), 0, MS)
    assert (decision.verdict, decision.refinement) == (Verdict.FAIL, refinement)
    assert "DEFECT" in decision.reasons[0] and decision.stage is Stage.REFINED
    (last,) = parts.add_detail("p", answer(Examined.NO_DEFECT, 1, 2), 0, MS)
    assert (last.verdict, last.stage) == (Verdict.FAIL, Stage.FINAL)


@pytest.mark.parametrize("outcome", [Examined.UNDECIDED, Examined.NOT_EXAMINED, Examined.UNKNOWN])
def test_an_answer_that_decides_nothing_leaves_it_to_a_person(outcome: Examined) -> None:
    parts = two_tiers()
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    (last,) = parts.add_detail("p", answer(outcome), 0, MS)
    assert (last.verdict, last.stage) == (Verdict.REVIEW, Stage.FINAL)
    assert last.refinement is Refinement.NONE


def test_a_detail_that_does_not_come_is_missing_and_one_that_comes_late_clears_nothing() -> None:
    parts = two_tiers()
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    assert parts.expire(3000 * MS) == []
    (gone,) = parts.expire(3001 * MS)
    assert (gone.verdict, gone.stage, gone.timing) == (
        Verdict.REVIEW, Stage.FINAL, Timing.MISSING,
    )  # fmt: skip
    assert "detail MISSING" in gone.reasons[0]
    (late,) = parts.add_detail("p", answer(Examined.NO_DEFECT), 0, 3100 * MS)
    assert (late.verdict, late.timing, late.revision) == (Verdict.REVIEW, Timing.LATE, 3)
    assert parts.counts["missing detail"] == parts.counts["late detail"] == 1


def test_a_late_detail_can_still_fail_the_part() -> None:
    parts = two_tiers()
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    parts.expire(3001 * MS)
    (late,) = parts.add_detail("p", answer(Examined.DEFECT), 0, 3100 * MS)
    assert (late.verdict, late.refinement) == (Verdict.FAIL, Refinement.SCRAP)


def test_a_detail_before_its_station_decides_nothing_alone() -> None:
    parts = two_tiers()
    assert parts.add_detail("p", answer(Examined.NO_DEFECT), 0, 0) == []
    assert parts.add_detail("p", answer(Examined.NO_DEFECT), 0, 1) == []
    (decision,) = parts.add("p", says("top", Finding.SUSPECT), 0, MS)
    assert (decision.verdict, decision.revision) == (Verdict.PASS, 1)
    assert (decision.stage, decision.refinement) == (Stage.FINAL, Refinement.CONTINUE)
    assert parts.counts["repeated detail"] == 1
    parts.add_detail("q", answer(Examined.NO_DEFECT), 0, 0)
    (missing,) = parts.expire(101 * MS)
    assert (missing.part_id, missing.verdict, missing.missing) == ("q", Verdict.REVIEW, ("top",))


def test_a_failed_part_is_not_cleared_by_the_detail_tier() -> None:
    parts = two_tiers()
    (edge,) = parts.add("p", says("top", Finding.FAIL), 0, 0)
    assert edge.stage is Stage.FINAL
    assert parts.add_detail("p", answer(Examined.NO_DEFECT), 0, MS) == []
    (sized,) = parts.add_detail("p", answer(Examined.DEFECT, 1, 2), 0, MS)
    assert (sized.verdict, sized.refinement) == (Verdict.FAIL, Refinement.SCRAP)


def test_without_a_detail_tier_a_suspect_is_final_at_once() -> None:
    parts = make(("top",))
    (decision,) = parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    assert (decision.verdict, decision.stage) == (Verdict.REVIEW, Stage.FINAL)


def test_the_answers_kept_of_one_part_are_bounded() -> None:
    parts = two_tiers()
    for i in range(2 * ledger_module.MAX_DETAILS):
        parts.add_detail("p", answer(Examined.NO_DEFECT, sequence=i), 0, 0)
    assert parts.counts["detail beyond the bound"] == ledger_module.MAX_DETAILS


def test_any_order_delay_and_loss_of_two_tiers_never_passes_what_was_not_cleared() -> None:
    rng = random.Random(11)
    for _ in range(500):
        parts = two_tiers()
        finding = rng.choice(list(Finding))
        outcomes = [rng.choice(list(Examined)) for _ in range(rng.randint(1, 3))]
        crops = [answer(o, i, len(outcomes)) for i, o in enumerate(outcomes)]
        events: list[Evidence[str] | DetailEvidence[str]] = [says("top", finding), *crops]
        events = [e for e in events if rng.random() < 0.9] * rng.randint(1, 2)
        rng.shuffle(events)
        decisions, now, heard = [], 0, set()
        for event in events:
            now += rng.choice([1, 1, 60, 1600]) * MS
            decisions += parts.expire(now)
            if isinstance(event, DetailEvidence):
                decisions += parts.add_detail("p", event, 0, now)
                heard.add(event.index)
            else:
                decisions += parts.add("p", event, 0, now)
        decisions += parts.expire(now + 101 * MS)
        decisions += parts.expire(now + 3001 * MS)
        assert [d.revision for d in decisions] == list(range(1, len(decisions) + 1))
        if not decisions:
            assert not events
            continue
        last = decisions[-1]
        assert last.stage is Stage.FINAL
        finals = [d.verdict for d in decisions if d.stage is Stage.FINAL]
        assert [SEVERITY[v] for v in finals] == sorted(SEVERITY[v] for v in finals)
        if last.verdict is Verdict.PASS:
            edge_said = any(isinstance(e, Evidence) for e in events)
            assert edge_said and finding in (Finding.PASS, Finding.SUSPECT)
            if finding is Finding.SUSPECT:
                assert heard == set(range(len(outcomes)))
                assert set(outcomes) == {Examined.NO_DEFECT}
        if Examined.DEFECT in {outcomes[i] for i in heard}:
            assert last.verdict is Verdict.FAIL


# A person, a restart, and what is over ----------------------------------------------------------

REWORK = Override(Verdict.FAIL, Refinement.CORRECT, "A. Person", "solder bridge")


def test_an_override_is_the_next_revision_and_stands() -> None:
    parts = two_tiers()
    parts.add("p", says("top", Finding.SUSPECT), 0, 0)
    decision = parts.override("p", REWORK, MS)
    assert (decision.verdict, decision.refinement) == (Verdict.FAIL, Refinement.CORRECT)
    assert (decision.stage, decision.revision) == (Stage.OVERRIDDEN, 2)
    assert decision.reasons[0] == "A. Person: solder bridge"
    assert parts.add_detail("p", answer(Examined.NO_DEFECT), 0, 2 * MS) == []
    assert parts.expire(5000 * MS) == [] and parts.open_parts == 0
    assert parts.counts["evidence after an override"] == 1
    again = parts.override("p", replace(REWORK, verdict=Verdict.PASS), 3 * MS)
    assert (again.revision, again.verdict) == (3, Verdict.PASS)


def test_only_a_part_with_a_verdict_can_be_overridden() -> None:
    parts = make()
    parts.seen("open", "top", 0, 0)
    for part in ("open", "never seen"):
        with pytest.raises(KeyError):
            parts.override(part, REWORK, 0)


def test_a_part_that_was_seen_before_the_gate_listened_does_not_pass_by_itself() -> None:
    parts = make(every_camera=False)
    parts.begin(now_ns=50 * MS, ros_now_ns=1000)
    (torn,) = parts.add("torn", says("top", Finding.PASS), 999, 60 * MS)
    assert (torn.verdict, torn.timing) == (Verdict.REVIEW, Timing.MISSING)
    assert "before this gate listened" in torn.reasons[0]
    (failed,) = parts.add("bad", says("top", Finding.FAIL), 999, 60 * MS)
    assert failed.verdict is Verdict.FAIL
    (fresh,) = parts.add("fresh", says("top", Finding.PASS), 1000, 60 * MS)
    assert fresh.verdict is Verdict.PASS
    (replayed,) = parts.add("old bag", says("top", Finding.PASS), 999, 151 * MS)
    assert replayed.verdict is Verdict.PASS


def test_what_comes_of_a_forgotten_part_opens_no_second_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_FORGOTTEN", 3)
    parts = make(every_camera=False)
    for n in range(5):
        parts.add(f"p{n}", says("top", Finding.FAIL), 0, 0)
    parts.expire(1001 * MS)
    assert parts.known("p4") is None and parts.is_forgotten("p4")
    assert parts.add("p4", says("top", Finding.PASS), 0, 1002 * MS) == []
    assert parts.seen("p4", "top", 0, 1002 * MS) == []
    assert parts.counts["evidence of a forgotten part"] == 1
    assert len(parts._forgotten) == 3 and not parts.is_forgotten("p0")


def test_the_memory_bound_gives_up_decided_parts_first_and_closes_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_PARTS", 2)
    parts = two_tiers()
    parts.add("waits", says("top", Finding.SUSPECT), 0, 0)
    parts.add("done", says("top", Finding.PASS), 0, 1)
    assert parts.seen("third", "top", 0, 2) == []
    assert parts.is_forgotten("done") and parts.known("waits") is not None
    (last,) = parts.seen("fourth", "top", 0, 3)
    assert (last.part_id, last.verdict, last.stage) == ("waits", Verdict.REVIEW, Stage.FINAL)
    assert last.timing is Timing.MISSING


@pytest.mark.parametrize(
    ("finding", "rung", "limit", "expected"),
    [
        (Finding.PASS, 2, 2, Finding.UNKNOWN),
        (Finding.PASS, 1, 2, Finding.PASS),
        (Finding.PASS, 9, 0, Finding.PASS),
        (Finding.FAIL, 9, 1, Finding.FAIL),
        (Finding.SUSPECT, 9, 1, Finding.SUSPECT),
    ],
)
def test_a_pass_at_a_reduced_rung_is_believed_as_far_as_the_line_says(
    finding: Finding, rung: int, limit: int, expected: Finding
) -> None:
    said, reason = believed(finding, "why", rung, limit)
    assert said is expected and reason.endswith("why")

"""The part ledger: one verdict per part, whatever comes late, twice, or never."""

from __future__ import annotations

import itertools
import random

import pytest

from shopfloor.quality import ledger as ledger_module
from shopfloor.quality.ledger import Evidence, Finding, PartLedger, Timing, Verdict

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
        severity = [ledger_module._SEVERITY[d.verdict] for d in decisions]
        assert severity == sorted(severity)
        last = decisions[-1]
        if Finding.FAIL in findings.values():
            assert last.verdict is Verdict.FAIL
        elif set(findings.values()) != {Finding.PASS} or last.timing is not Timing.ON_TIME:
            assert last.verdict is Verdict.REVIEW
        else:
            assert last.verdict is Verdict.PASS

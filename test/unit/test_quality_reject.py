"""The right part leaves the belt, in whatever order, how late and how often its results come.

A belt with an encoder is played here: the tracker hears what the gate hears, and an output that
knows windows only acts on whatever is before it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.quality import reject as reject_module
from shopfloor.quality.evidence import (
    DetailEvidence,
    Evidence,
    Examined,
    Finding,
    Stage,
    Timing,
    Verdict,
)
from shopfloor.quality.ledger import PartLedger
from shopfloor.quality.reject import Action, RejectOrder, RejectSettings, RejectTracker

MS = 1_000_000
GEOMETRY = RejectSettings({"top": 1.0}, window_m=0.06, lead_m=0.02, margin_m=0.04)
SPEED = 0.2


def tracker(**more: object) -> RejectTracker:
    return RejectTracker(RejectSettings(**{**GEOMETRY.__dict__, **more}))  # type: ignore[arg-type]


def actions(orders: list[RejectOrder]) -> list[tuple[str, Action]]:
    return [(order.part_id, order.action) for order in orders]


def test_a_part_is_decided_shortly_before_its_window_by_the_verdict_in_force() -> None:
    belt = tracker()
    belt.seen("good", "top", 1, 0.0)
    belt.seen("bad", "top", 2, 0.1)
    belt.judged("good", 1, True, "REVIEW", 1)
    belt.judged("good", 2, False, "PASS", 1)
    belt.judged("bad", 1, True, "FAIL", 2)
    assert belt.advance(0.9) == []
    (order,) = belt.advance(0.91)
    assert (order.part_id, order.action, order.revision) == ("good", Action.PASS, 2)
    assert (order.open_m, order.close_m) == (pytest.approx(0.97), pytest.approx(1.03))
    (order,) = belt.advance(1.01)
    assert (order.part_id, order.action) == ("bad", Action.REJECT)
    assert belt.advance(2.0) == [] and belt.on_the_way == 0


def test_no_verdict_by_then_rejects() -> None:
    belt = tracker()
    belt.seen("slow", "top", 1, 0.0)
    (order,) = belt.advance(0.92)
    assert order.action is Action.REJECT and "no verdict" in order.reason


def test_a_verdict_that_turns_after_the_part_was_let_on_is_a_late_reject_once() -> None:
    belt = tracker()
    belt.seen("p", "top", 1, 0.0)
    belt.judged("p", 1, False, "PASS", 1)
    assert actions(belt.advance(0.92)) == [("p", Action.PASS)]
    (late,) = belt.judged("p", 2, True, "FAIL", 1)
    assert late.action is Action.LATE_REJECT and math.isnan(late.open_m)
    assert belt.judged("p", 3, True, "FAIL", 1) == []


def test_a_gate_that_stood_still_says_late_reject_and_touches_no_other_part() -> None:
    belt = tracker()
    for n in range(3):
        belt.seen(f"p{n}", "top", n, 0.1 * n)
        belt.judged(f"p{n}", 1, True, "FAIL", n)
    assert actions(belt.advance(1.02)) == [("p0", Action.LATE_REJECT), ("p1", Action.REJECT)]


def test_windows_of_neighbours_meet_half_way() -> None:
    belt = tracker()
    for part, at in (("a", 0.0), ("c", 0.05), ("b", 0.02)):
        belt.seen(part, "top", 1, at)
    orders = {o.part_id: o for n in range(100) for o in belt.advance(0.8 + 0.005 * n)}
    assert orders["a"].close_m == orders["b"].open_m == pytest.approx(1.01)
    assert orders["b"].close_m == orders["c"].open_m == pytest.approx(1.035)
    assert orders["c"].close_m == pytest.approx(1.08)


@pytest.mark.parametrize("pass_without_id", [False, True])
def test_a_part_without_id_meets_the_safe_choice(pass_without_id: bool) -> None:
    belt = tracker(pass_without_id=pass_without_id)
    belt.seen("", "top", 1, 0.0)
    belt.seen("", "top", 2, 0.2)
    expected = Action.PASS if pass_without_id else Action.REJECT
    orders = [o for n in range(100) for o in belt.advance(0.8 + 0.005 * n)]
    assert actions(orders) == [("", expected)] * 2


def test_a_part_whose_place_is_not_known_is_named_when_it_has_to_leave() -> None:
    belt = tracker()
    belt.seen("p", "top", 1, None)
    assert belt.judged("p", 1, False, "PASS", 1) == []
    (late,) = belt.judged("p", 2, True, "FAIL", 1)
    assert late.action is Action.LATE_REJECT and "place" in late.reason
    belt.seen("q", "top", 1, None)
    belt.seen("q", "top", 1, 0.0)
    assert belt.judged("q", 1, True, "FAIL", 1) == []
    assert actions(belt.advance(0.92)) == [("q", Action.REJECT)]


def test_lost_places_are_alarms_for_all_that_had_to_leave() -> None:
    belt = tracker()
    for n, rejects in enumerate((True, False, True)):
        belt.seen(f"p{n}", "top", n, 0.2 * n)
        belt.judged(f"p{n}", 1, rejects, "said", n)
    belt.seen("gone", "top", 1, -0.9)
    assert actions(belt.advance(0.03)) == [("gone", Action.REJECT)]
    belt.advance(0.92)
    orders = belt.lose_places("the encoder jumped")
    assert actions(orders) == [("p0", Action.LATE_REJECT), ("p2", Action.LATE_REJECT)]
    assert belt.on_the_way == 0 and belt.advance(0.0) == []
    assert actions(belt.judged("p1", 2, True, "FAIL", 1)) == [("p1", Action.LATE_REJECT)]


def test_a_place_that_was_forecast_is_measured_until_the_part_is_decided() -> None:
    belt = tracker()
    belt.seen("p", "top", 1, 0.0)
    belt.seen("q", "top", 2, 0.5)
    belt.measured("p", "top", 1, -0.02)
    assert belt.place_of("p") == pytest.approx(0.98) and belt.on_the_way == 2
    belt.measured("p", "top", 7, 0.3)  # another exposure
    belt.measured("p", "other", 1, 0.3)
    belt.measured("unknown", "top", 1, 0.3)
    (order,) = belt.advance(0.9)
    assert (order.open_m, order.close_m) == (pytest.approx(0.95), pytest.approx(1.01))
    belt.measured("p", "top", 1, 0.3)
    assert belt.place_of("p") == pytest.approx(0.98) and belt.on_the_way == 1
    belt.measured("q", "top", 2, 0.51)
    assert actions(belt.advance(1.43)) == [("q", Action.REJECT)] and belt.advance(9.0) == []


def test_a_camera_without_distance_places_nothing_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reject_module, "MAX_TRACKED", 10)
    belt = tracker()
    belt.seen("p", "other", 1, 0.0)
    assert belt.on_the_way == 0
    for n in range(100):
        belt.seen(f"p{n}", "top", n, 0.1 * n)
    assert belt.on_the_way == 10 == len(belt._parts)
    assert belt.counts["forgotten by the memory bound"] == 90


# The whole way, from frames to what leaves the belt --------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is said of one part, and how long after its exposure; None: never."""

    finding: Finding
    outcome: Examined
    info_ms: int | None
    edge_ms: int | None
    detail_ms: int | None
    repeats: int


PLANS = st.builds(
    Plan,
    st.sampled_from([Finding.PASS, Finding.FAIL, Finding.SUSPECT, Finding.UNKNOWN]),
    st.sampled_from([Examined.DEFECT, Examined.NO_DEFECT, Examined.UNDECIDED]),
    st.one_of(st.none(), st.integers(0, 300)),
    st.one_of(st.none(), st.integers(0, 6000)),
    st.one_of(st.none(), st.integers(0, 6000)),
    st.integers(1, 3),
)
PITCH_MS = 500


@settings(max_examples=100, deadline=None)
@given(plans=st.lists(PLANS, min_size=1, max_size=25), stalls=st.sets(st.integers(0, 900)))
def test_the_right_part_leaves_and_each_has_one_final_verdict(
    plans: list[Plan], stalls: set[int]
) -> None:
    """Edge and server in any order, twice, late or never, and a gate that now and then pauses."""
    parts: PartLedger[str] = PartLedger(
        ("top",), every_camera=False, deadline_ms=1500.0, remember_s=60.0,
        detail_deadline_ms=3000.0,
    )  # fmt: skip
    belt = tracker()
    events: list[tuple[int, int, str]] = []
    for n, plan in enumerate(plans):
        for what, after_ms in (
            ("info", plan.info_ms), ("edge", plan.edge_ms), ("detail", plan.detail_ms),
        ):  # fmt: skip
            # Crops are sent of what the edge did not pass.
            crops = plan.finding in (Finding.FAIL, Finding.SUSPECT)
            if after_ms is not None and (what != "detail" or crops):
                events += [
                    (n * PITCH_MS + after_ms * (i + 1), n, what) for i in range(plan.repeats)
                ]
    events.sort()
    decisions: dict[str, list] = {}
    orders: list[tuple[int, RejectOrder]] = []

    def hear(found: list, now_ms: int) -> None:
        for decision in found:
            decisions.setdefault(decision.part_id, []).append(decision)
            rejects = decision.verdict is not Verdict.PASS
            orders.extend(
                (now_ms, order)
                for order in belt.judged(decision.part_id, decision.revision, rejects, "x", 0)
            )

    heard = {f"p{n}" for _, n, _ in events}
    for tick in range(1000):
        now_ms = tick * 20
        if tick in stalls:
            continue
        while events and events[0][0] <= now_ms:
            _, n, what = events.pop(0)
            plan, part = plans[n], f"p{n}"
            belt.seen(part, "top", n, SPEED * n * PITCH_MS / 1e3)
            if what == "info":
                hear(parts.seen(part, "top", n, now_ms * MS), now_ms)
            elif what == "edge":
                said = Evidence("top", 1, plan.finding, "", "")
                hear(parts.add(part, said, n, now_ms * MS), now_ms)
            else:
                told = DetailEvidence("top", 1, 0, 1, plan.outcome, "", "")
                hear(parts.add_detail(part, told, n, now_ms * MS), now_ms)
        hear(parts.expire(now_ms * MS), now_ms)
        orders.extend((now_ms, order) for order in belt.advance(SPEED * now_ms / 1e3))
    hear(parts.expire(10**6 * MS), 10**6)

    for part in heard:
        said = decisions[part]
        assert [d.revision for d in said] == list(range(1, len(said) + 1))
        finals = [d for d in said if d.stage is Stage.FINAL]
        assert finals and said[-1] is finals[-1], "the verdict in force is a final one"
        changed = [d for d in finals if d.verdict is not finals[0].verdict]
        assert all(d.timing in (Timing.LATE, Timing.MISSING) for d in changed), "and that is said"
    once = Counter(o.part_id for _, o in orders if o.action is not Action.LATE_REJECT)
    assert set(once.values()) <= {1}
    for n, plan in enumerate(plans):
        part, at_m = f"p{n}", SPEED * n * PITCH_MS / 1e3 + 1.0
        at_ms = at_m / SPEED * 1e3
        windows = [
            o for sent_ms, o in orders
            if o.open_m <= at_m <= o.close_m and sent_ms <= at_ms
        ]  # fmt: skip
        assert {o.part_id for o in windows} <= {part}, "no other part's window covers this one"
        goes_on = bool(windows) and windows[0].action is Action.PASS
        if part not in heard:
            assert not windows, "nothing is known of it: the output's safe choice"
            continue
        last = decisions[part][-1].verdict
        alarmed = any(o.part_id == part and o.action is Action.LATE_REJECT for _, o in orders)
        if goes_on:
            assert last is Verdict.PASS or alarmed, "what went on and should not is named"
        cleared = next((d for d in decisions[part] if d.verdict is Verdict.PASS), None)
        if cleared is not None and last is Verdict.PASS and not stalls:
            in_time = cleared.decided_ns / MS < at_ms - 400
            assert goes_on or not in_time
        assert plan.finding is not Finding.FAIL or plan.edge_ms is None or not goes_on or alarmed

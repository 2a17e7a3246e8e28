"""What an inspector counts."""

from __future__ import annotations

from shopfloor.inspection.counters import Counters
from shopfloor.inspection.verdict import Decision, Reason, Verdict


def test_each_result_is_counted_once_under_its_verdict_and_cause() -> None:
    counters = Counters(received=6, superseded=2)
    for verdict, reason in (
        (Verdict.FAIL, Reason.DEFECT),
        (Verdict.UNKNOWN, Reason.STALE),
        (Verdict.UNKNOWN, Reason.FRAME_INVALID),
        (Verdict.UNKNOWN, Reason.ENGINE_FAULT),
    ):
        counters.judged(Decision(verdict, reason, "why"))
    values = counters.values()
    assert values["received"] == 6 and values["processed"] == 4
    assert values["dropped superseded"] == 2
    assert values["dropped stale"] == values["invalid"] == 1
    assert values["verdict fail"] == 1 and values["verdict unknown"] == 3
    assert "verdict pass" not in values
    assert counters.last is not None and counters.last.reason is Reason.ENGINE_FAULT
    assert counters.received == counters.processed + counters.superseded


def test_rates_are_those_since_the_last_look() -> None:
    counters = Counters()
    counters.values(1_000_000_000)
    counters.received, counters.superseded, counters.stride = 60, 10, 5
    values = counters.values(3_000_000_000)
    assert (values["camera_rate_hz"], values["skipped_rate_hz"]) == (30.0, 7.5)
    assert counters.values(4_000_000_000)["camera_rate_hz"] == 0.0

"""Alerts: raised once, closed by a person, silenced by cause."""

from __future__ import annotations

import pytest

from shopfloor.vibration.alerts import AlertBook, work_order
from shopfloor.vibration.health import Tier

S = 10**9


def test_raised_once_and_open_until_seen_and_gone() -> None:
    book = AlertBook("m")
    assert book.update(Tier.LOG, "a", 0) is Tier.LOG and book.alert is None
    book.update(Tier.INSPECT, "a", 1 * S)
    first = book.alert
    assert first is not None and first.since_ns == 1 * S
    book.update(Tier.WORK_ORDER, "b", 2 * S)
    assert book.alert == first
    book.update(Tier.NORMAL, "a", 3 * S)
    assert book.alert == first, "nobody has seen it"
    book.acknowledge(first.alert_id, "J. Doe", 0, False, 4 * S)
    assert book.alert is not None and book.alert.acknowledged_by == "J. Doe"
    book.update(Tier.UNKNOWN, "", 5 * S)
    assert book.alert is not None, "what nobody knows closes nothing"
    book.update(Tier.NORMAL, "a", 6 * S)
    assert book.alert is None
    book.update(Tier.INSPECT, "a", 7 * S)
    assert book.alert is not None and book.alert.alert_id != first.alert_id


def test_what_gets_worse_than_was_acknowledged_is_told_anew_and_once() -> None:
    book = AlertBook("m")
    book.update(Tier.INSPECT, "a", 0)
    assert book.alert is not None
    seen = book.alert.alert_id
    book.acknowledge(seen, "J. Doe", 0, False, 1 * S)
    book.update(Tier.INSPECT, "b", 2 * S)
    assert book.alert.alert_id == seen, "no worse: still the same alert"
    book.update(Tier.WORK_ORDER, "a", 3 * S)
    worse = book.alert
    assert worse.alert_id != seen and not worse.acknowledged_by
    book.acknowledge(worse.alert_id, "J. Doe", 0, False, 4 * S)
    for at, tier in enumerate((Tier.INSPECT, Tier.WORK_ORDER, Tier.INSPECT), start=5):
        book.update(tier, "a", at * S)
        assert book.alert.alert_id == worse.alert_id
    book.update(Tier.NORMAL, "a", 9 * S)
    book.update(Tier.INSPECT, "a", 10 * S)
    assert book.alert.alert_id not in (seen, worse.alert_id)


def test_a_false_alarm_closes_and_silences_its_cause_only() -> None:
    book = AlertBook("m")
    book.update(Tier.INSPECT, "a", 0)
    assert book.alert is not None
    book.acknowledge(book.alert.alert_id, "J. Doe", 60.0, True, 1 * S)
    assert book.alert is None
    assert book.update(Tier.INSPECT, "a", 30 * S) is Tier.LOG
    assert book.silenced(30 * S) == ["a (by J. Doe)"]
    assert book.update(Tier.INSPECT, "b", 31 * S) is Tier.INSPECT
    assert book.silenced(62 * S) == []
    with pytest.raises(KeyError):
        book.acknowledge("nothing", "J. Doe", 0, False, 0)


def test_a_draft_fits_its_message() -> None:
    text = work_order("m", "s", "r" * 900, ["ü" * 100] * 9)
    assert len(text.encode()) <= 1024

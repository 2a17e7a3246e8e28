"""Sensors that are lost or never answer: a cautious rung, and what is left goes on protecting."""

from __future__ import annotations

import math

import pytest

from shopfloor.thermal.board import BoardReading
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.rungs import Cause, Evidence, LadderSettings, Override, Rung, ZoneOutlook
from shopfloor.thermal.sensors import Sensor
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.watchdog import Observation, Verdict, Watchdog, WatchdogSettings, Zone

RUNGS = (
    Rung(0, "full", 30.0, 33.3, 1.0),
    Rung(1, "small", 30.0, 33.3, 0.6),
    Rung(2, "half rate", 15.0, 33.3, 0.3),
    Rung(3, "hold", 0.0, 0.0, 0.0),
)
LOST = "no temperature of the required zone tj"
COOL = (ZoneOutlook("gpu", 60.0, 97.0),)


class Told:
    """A ladder that is told what the test says, twice a second."""

    def __init__(self, rungs: tuple[Rung, ...] = RUNGS, lost_rung: int = 1) -> None:
        self.ladder = Ladder(rungs, LadderSettings(lost_rung=lost_rung))
        self.state = self.ladder.state
        self.now_s = 100.0

    def run(self, seconds: float, evidence: Evidence) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now_s += 0.5
            self.ladder.decide(self.now_s, evidence)


@pytest.mark.parametrize(
    ("evidence", "cause", "rung"),
    [
        (Evidence(COOL, LOST, throttled="cooling device at 1"), Cause.THERMAL, 3),
        (Evidence(COOL, LOST, over_current=True), Cause.OVER_CURRENT, 3),
        (Evidence((ZoneOutlook("gpu", 98.0, 97.0),), LOST), Cause.THERMAL, 3),
        (Evidence((ZoneOutlook("gpu", 96.0, 97.0),), LOST), Cause.THERMAL, 3),
        (Evidence(COOL, LOST, latency="p99 80 ms"), Cause.LATENCY, 2),
    ],
)
def test_what_else_is_wrong_still_leads_down(evidence: Evidence, cause: Cause, rung: int) -> None:
    told = Told()
    told.run(20.0, Evidence(COOL, LOST))
    assert (told.state.rung, told.state.cause, told.state.text) == (1, Cause.UNKNOWN, LOST)
    told.run(120.0, evidence)
    assert (told.state.rung, told.state.cause) == (rung, cause)
    told.run(600.0, Evidence(COOL, LOST))
    assert (told.state.rung, told.state.cause) == (rung, Cause.UNKNOWN), "not up while it is lost"
    told.run(900.0, Evidence(COOL))
    assert told.state.rung == 0


def test_a_step_that_was_announced_comes_though_nothing_is_seen_any_more() -> None:
    told = Told()
    told.ladder.begin(1, "")
    told.run(2.0, Evidence((ZoneOutlook("gpu", 96.0, 97.0),)))
    assert told.state.next_rung == 2
    told.run(5.0, Evidence((), LOST))
    assert (told.state.rung, told.state.next_rung) == (1, 2)
    told.run(10.0, Evidence((), LOST))
    assert told.state.rung == 2


def test_a_pinned_rung_is_left_for_the_cautious_one_and_taken_again() -> None:
    told = Told()
    told.run(10.0, Evidence(COOL))
    told.ladder.pin(told.now_s, Override(0, told.now_s + 600.0, "Kim", "trial"))
    told.run(60.0, Evidence(COOL, LOST))
    assert (told.state.rung, told.state.cause) == (1, Cause.UNKNOWN)
    told.run(60.0, Evidence(COOL))
    assert (told.state.rung, told.state.cause) == (0, Cause.OVERRIDE)
    told.ladder.pin(told.now_s, Override(2, told.now_s + 600.0, "Kim", "trial"))
    told.run(5.0, Evidence(COOL, LOST))
    assert (told.state.rung, told.state.cause) == (2, Cause.UNKNOWN)


def test_a_ladder_of_one_rung_says_that_nothing_is_known() -> None:
    told = Told(RUNGS[:1], lost_rung=0)
    told.run(5.0, Evidence((), LOST))
    assert (told.state.rung, told.state.cause, told.state.text) == (0, Cause.UNKNOWN, LOST)


def seen(now_s: float, **zones: tuple[float, float]) -> Observation:
    """Zones by name with their temperature, NaN: OFFLINE, and their limit, NaN: none."""
    made = [
        Zone(Sensor(name, "", "", limit), celsius, fault, now_s, celsius)
        for name, (celsius, limit) in zones.items()
        for fault in [Fault.OFFLINE if math.isnan(celsius) else Fault.NONE]
    ]
    return Observation(now_s, tuple(made), BoardReading())


def watched(seconds: float, *required: str, **zones: tuple[float, float]) -> Verdict:
    """What a watchdog says after it saw them for so long."""
    watchdog = Watchdog(Ladder(RUNGS, LadderSettings()), WatchdogSettings(required_zones=required))
    for i in range(round(seconds / 0.25) + 1):
        verdict = watchdog.decide(i * 0.25, seen(i * 0.25, **zones))
    return verdict


def test_a_lost_required_zone_does_not_hide_a_hot_one() -> None:
    verdict = watched(50.0, "tj", tj=(math.nan, 97.0), gpu=(98.0, 97.0))
    assert "tj" in verdict.sensors_lost and verdict.ladder.rung == 3
    assert (verdict.ladder.cause, "gpu" in verdict.ladder.text) == (Cause.THERMAL, True)


def test_before_anything_was_read_nothing_is_known() -> None:
    watchdog = Watchdog(Ladder(RUNGS, LadderSettings()), WatchdogSettings())
    verdict = watchdog.decide(5.0, None)
    assert (verdict.ladder.rung, verdict.ladder.cause) == (1, Cause.UNKNOWN)
    assert verdict.sensors_lost and not verdict.zones


def test_a_zone_without_a_limit_does_not_carry_full_speed() -> None:
    assert watched(0.0, tj=(60.0, 97.0), board=(50.0, math.nan)).ladder.rung == 0
    verdict = watched(0.0, tj=(math.nan, 97.0), gpu=(math.nan, 97.0), board=(50.0, math.nan))
    assert (verdict.ladder.rung, verdict.ladder.cause) == (1, Cause.UNKNOWN)
    assert "tj OFFLINE, gpu OFFLINE" in verdict.sensors_lost
    assert watched(0.0, tj=(math.nan, 97.0), gpu=(60.0, 97.0)).ladder.rung == 0


def test_where_no_zone_has_a_limit_each_one_counts() -> None:
    assert not watched(0.0, acpi=(math.nan, math.nan), board=(50.0, math.nan)).sensors_lost
    assert watched(0.0, board=(math.nan, math.nan)).sensors_lost


def test_a_required_zone_without_a_limit_is_still_required() -> None:
    assert not watched(0.0, "board", tj=(60.0, 97.0), board=(50.0, math.nan)).sensors_lost
    lost = watched(0.0, "board", tj=(60.0, 97.0), board=(math.nan, math.nan)).sensors_lost
    assert "required zone board" in lost

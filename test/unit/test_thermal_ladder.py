"""The ladder: announced, apart, reversible; its causes, its emergencies, and who overrules it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from shopfloor.ros.parameters import build, validate
from shopfloor.thermal.forecast import Forecast, Trace
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.latency import LatencyWindow, RateCounter
from shopfloor.thermal.parameters import ThermalWatchdogParameters
from shopfloor.thermal.rungs import Cause, Evidence, LadderSettings, Override, Rung, ZoneOutlook

RUNGS = (
    Rung(0, "full", 30.0, 33.3, 1.0),
    Rung(1, "small", 30.0, 33.3, 0.6),
    Rung(2, "half rate", 15.0, 33.3, 0.3),
    Rung(3, "hold", 0.0, 0.0, 0.0),
)
STEP_S = 0.5


class Board:
    """One zone whose temperature the test sets, and the ladder over it."""

    def __init__(self, celsius: float = 60.0, rungs: tuple[Rung, ...] = RUNGS) -> None:
        self.ladder = Ladder(rungs, LadderSettings())
        self.trace = Trace()
        self.forecast: Forecast | None = None
        self.now_s = 500.0
        self.celsius = celsius
        self.evidence = Evidence()
        self.steps: list[tuple[float, int, int]] = []
        self.announced_s: dict[int, float] = {}

    @property
    def state(self) -> object:
        return self.ladder.state

    def run(self, seconds: float, slope: float = 0.0) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.celsius += slope * STEP_S
            self.trace.add(self.now_s, self.celsius)
            if self.now_s % 2.0 == 0.0 or self.forecast is None:
                self.forecast = self.trace.forecast(self.now_s)
            zone = ZoneOutlook("z", self.celsius, 97.0, self.forecast)
            before = self.ladder.state.rung
            self.ladder.decide(self.now_s, replace(self.evidence, zones=(zone,)))
            state = self.ladder.state
            if state.next_rung > before and state.next_rung not in self.announced_s:
                self.announced_s[state.next_rung] = self.now_s
            if state.rung != before:
                self.steps.append((self.now_s, before, state.rung))
                self.restart()

    def restart(self) -> None:
        self.trace = Trace()
        self.forecast = None


def test_a_slow_rise_is_announced_in_time_and_steps_once() -> None:
    board = Board(85.0)
    board.run(376.0, slope=0.025)
    assert board.state.rung == 1 and board.state.cause is Cause.THERMAL
    assert board.steps[0][0] - board.announced_s[1] >= 10.0
    assert board.celsius < 97.0


def test_steps_are_apart_even_where_heat_goes_on() -> None:
    board = Board(92.0)
    board.run(400.0, slope=0.01)
    assert len(board.steps) >= 2
    gaps = np.diff([at_s for at_s, _, _ in board.steps])
    assert all(gaps >= 30.0)


def test_a_limit_that_is_reached_needs_no_notice() -> None:
    board = Board(60.0)
    board.run(30.0)
    board.celsius = 97.5
    board.run(1.0)
    assert board.state.rung == 1 and board.state.cause is Cause.THERMAL
    board.run(60.0)
    assert board.state.rung == 3, "it stays hot: down to the last rung, ten seconds apart"
    assert all(b[0] - a[0] >= 10.0 for a, b in zip(board.steps, board.steps[1:], strict=False))


def test_it_recovers_rung_by_rung() -> None:
    board = Board(97.5)
    board.run(60.0)
    assert board.state.rung == 3
    board.celsius = 40.0
    board.restart()
    board.run(900.0)
    assert board.state.rung == 0 and board.state.cause is Cause.NONE
    ups = [step for step in board.steps if step[2] < step[1]]
    assert [before - after for _, before, after in ups] == [1, 1, 1]
    assert all(gap >= 30.0 for gap in np.diff([s[0] for s in ups]))


def test_no_step_up_into_heat_that_is_known() -> None:
    board = Board(60.0)
    board.run(60.0)
    board.celsius = 97.5
    board.run(1.0)
    assert board.state.rung == 1
    board.celsius = 80.0
    board.restart()
    board.run(400.0)
    assert board.state.rung == 1, "17 C came from 0.4 of the load, 12 C are free"
    board.celsius = 70.0
    board.restart()
    board.run(200.0)
    assert board.state.rung == 0


@pytest.mark.parametrize(
    ("evidence", "cause", "rung"),
    [
        (Evidence(over_current=True), Cause.OVER_CURRENT, 1),
        (Evidence(throttled="cooling device at 1"), Cause.THERMAL, 1),
        (Evidence(sensors_lost="no zone"), Cause.UNKNOWN, 1),
    ],
)
def test_emergencies_come_at_once(evidence: Evidence, cause: Cause, rung: int) -> None:
    board = Board()
    board.run(30.0)
    board.evidence = evidence
    board.run(STEP_S)
    assert (board.state.rung, board.state.cause) == (rung, cause)


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [(Evidence(slow_clocks="80 %"), Cause.CLOCKS), (Evidence(power_mode="15 W"), Cause.POWER_MODE)],
)
def test_slow_clocks_are_announced_and_lead_no_further(evidence: Evidence, cause: Cause) -> None:
    board = Board()
    board.evidence = evidence
    board.run(5.0)
    assert (board.state.rung, board.state.next_rung, board.state.cause) == (0, 1, cause)
    board.run(300.0)
    assert (board.state.rung, board.state.cause) == (1, cause)
    board.evidence = Evidence()
    board.run(200.0)
    assert board.state.rung == 0


def test_latency_never_leads_to_a_rung_that_inspects_nothing() -> None:
    board = Board()
    board.evidence = Evidence(latency="p99 80 ms")
    board.run(600.0)
    assert (board.state.rung, board.state.cause) == (2, Cause.LATENCY)
    gaps = np.diff([at_s for at_s, _, _ in board.steps])
    assert all(gaps >= 30.0)


def test_tries_after_latency_wait_longer_and_longer() -> None:
    board = Board(rungs=RUNGS[:2])
    for _ in range(5400):
        slow = Evidence(latency="p99 80 ms") if board.state.rung == 0 else Evidence()
        board.evidence = slow
        board.run(1.0)
    ups = [at_s for at_s, before, after in board.steps if after < before]
    assert 3 <= len(ups) <= 6
    assert all(b > 1.5 * a for a, b in zip(np.diff(ups), np.diff(ups)[1:], strict=False))


def test_an_announcement_is_taken_back_when_the_heat_goes() -> None:
    board = Board(91.5)
    board.run(30.0, slope=0.05)
    assert (board.state.rung, board.state.next_rung) == (0, 1)
    board.celsius = 80.0
    board.restart()
    board.run(60.0)
    assert (board.state.rung, board.state.next_rung) == (0, 0)
    assert not board.steps


def test_a_pinned_rung_holds_until_its_time_but_not_against_an_emergency() -> None:
    board = Board()
    board.run(10.0)
    board.ladder.pin(board.now_s, Override(2, board.now_s + 100.0, "Kim", "trial"))
    board.run(90.0)
    assert (board.state.rung, board.state.cause) == (2, Cause.OVERRIDE)
    assert "Kim" in board.state.text and "trial" in board.state.text
    board.celsius = 98.0
    board.run(1.0)
    assert (board.state.rung, board.state.cause) == (3, Cause.THERMAL)
    board.celsius = 50.0
    board.restart()
    board.run(900.0)
    assert board.state.override is None and board.state.rung == 0


def test_pinned_to_full_speed_it_still_steps_down_at_the_limit() -> None:
    board = Board(90.0)
    board.run(10.0)
    board.ladder.pin(board.now_s, Override(0, board.now_s + 1000.0, "Kim", "trial"))
    board.run(60.0, slope=0.08)
    assert board.state.rung == 0, "a forecast does not overrule a person"
    board.run(120.0, slope=0.08)
    assert board.state.rung >= 1


def test_a_restart_on_a_hot_board_does_not_begin_at_full_speed() -> None:
    board = Board(94.0)
    board.run(STEP_S)
    assert board.state.rung == 1
    assert Board(60.0).ladder.decide(0.0, Evidence()).rung == 0


def test_latency_window() -> None:
    window = LatencyWindow()
    for i in range(15):
        window.add(i * 0.1, 28.0)
    assert math.isnan(window.p99_ms(1.5)), "too few to say"
    for i in range(15, 150):
        window.add(i * 0.1, 200.0 if i == 80 else 28.0)
    assert window.p99_ms(15.0) == 28.0
    window.add(15.0, 90.0)
    assert window.broken_for_s(15.0, window.p99_ms(15.0), 33.0) == 0.0
    assert window.broken_for_s(18.0, window.p99_ms(18.0), 33.0) == 0.0, "it is over"
    for i in range(40):
        window.add(19.0 + i * 0.1, 85.0)
        broken_s = window.broken_for_s(19.0 + i * 0.1, window.p99_ms(19.0 + i * 0.1), 33.0)
    assert broken_s >= 3.0
    assert window.broken_for_s(23.0, math.nan, 33.0) == 0.0
    assert window.broken_for_s(23.0, 85.0, 0.0) == 0.0, "no promise, none broken"


def test_rate_counts_results_that_were_not_seen_and_survives_a_restart() -> None:
    rate = RateCounter()
    for i in range(30):
        rate.add(i * 0.1, "a", i * 3)
    assert rate.fps(3.0) == pytest.approx(30.0, rel=0.01)
    rate.add(3.1, "a", 0)
    assert math.isnan(rate.fps(3.1))
    for i in range(15):
        rate.add(3.2, "a", i + 1)
    assert math.isnan(rate.fps(3.2)), "a heap of results is no rate"
    assert math.isnan(rate.fps(60.0))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rung_fps": [30.0]}, "rung_fps"),
        ({"rung_names": ["a", "a", "b"]}, "rung_names"),
        ({"rung_loads": [1.0, 1.0, 0.0]}, "rung_loads"),
        ({"lost_rung": 0}, "lost_rung"),
        ({"lost_rung": 3}, "lost_rung"),
        ({"zone_limits": ["tj"]}, "zone_limits"),
        ({"act_ahead_s": 20.0, "notice_s": 20.0}, "act_ahead_s"),
    ],
)
def test_parameters_that_make_no_ladder_are_refused(values: dict[str, object], key: str) -> None:
    assert key in {problem.key for problem in validate(ThermalWatchdogParameters, values)}


def test_the_default_ladder_is_one() -> None:
    params = build(ThermalWatchdogParameters, {})
    assert [rung.name for rung in params.rungs()] == ["full", "half rate", "hold"]


def test_a_fan_that_stands_still_is_a_reason_long_before_the_heat_is() -> None:
    """Steps are announced as soon as the one before is taken, and still come a dwell apart."""
    slope, turns, stands = 0.08, Board(88.0), Board(88.0)
    stands.evidence = Evidence(fan_stands=True)
    for board in (turns, stands):
        board.run(30.0)
        board.run(60.0, slope=slope)
    assert stands.steps and stands.state.text.startswith("the fan stands still")
    assert not turns.steps or stands.steps[0][0] < turns.steps[0][0] - 10.0
    at_s, _, rung = stands.steps[0]
    assert at_s - stands.announced_s[rung] >= 10.0


def test_a_fan_that_stands_on_a_cool_board_costs_nothing() -> None:
    board = Board(50.0)
    board.evidence = Evidence(fan_stands=True)
    board.run(300.0)
    assert board.state.rung == 0
    assert board.state.next_rung == 0

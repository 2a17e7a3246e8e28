"""Heartbeats that wait to be read are no silence."""

from __future__ import annotations

import pytest

from shopfloor.plant.backlog import MAX_S, WINDOW_S, Backlog
from shopfloor.plant.bringup import BringUp, Health, Timing

NODE = "/line/gate"


def test_the_oldest_of_late_counts_and_is_forgotten() -> None:
    backlog = Backlog()
    assert backlog.behind_s(0.0) == 0.0
    backlog.read(0.6, 10.0)
    backlog.read(0.1, 10.5)
    assert backlog.behind_s(10.9) == 0.6
    assert backlog.behind_s(10.0 + WINDOW_S + 0.1) == 0.1
    assert backlog.behind_s(20.0) == 0.0


@pytest.mark.parametrize("age_s", [-3600.0, -0.1, MAX_S + 0.1, 3600.0])
def test_a_clock_that_was_set_excuses_nobody(age_s: float) -> None:
    backlog = Backlog()
    backlog.read(age_s, 0.0)
    assert backlog.behind_s(0.0) == 0.0


def test_a_node_that_beats_is_never_stale_however_late_it_is_read_and_one_that_stops_is() -> None:
    timing = Timing()
    backlog = Backlog()
    core = BringUp([(NODE, True)], timing, 0.0)
    stopped_s, behind_s, found_s = 10.0, 2.0, None
    for tick in range(200):
        now_s = tick / 10
        sent_s = now_s - behind_s
        if 0.0 <= sent_s <= stopped_s:
            backlog.read(behind_s, now_s)
            core.beat(NODE, 3, ("host", 1), sent_s)
        elif sent_s > stopped_s:
            backlog.read(behind_s, now_s)  # others still beat
        stale = core.health(NODE, now_s - backlog.behind_s(now_s))[0] is Health.STALE
        if stale and found_s is None:
            found_s = now_s
    assert found_s == pytest.approx(stopped_s + behind_s + timing.silent_after_s, abs=0.11)

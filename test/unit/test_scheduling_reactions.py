"""What heat and alerts change in a plan, and what they leave to people."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shopfloor.scheduling.problem import Machine, MachineState, Window
from shopfloor.scheduling.reactions import FailRuns, Heat, is_booked, pairs, thermal_factor

PRESS = Machine("press")


def derated(heat: Heat, machine: Machine) -> tuple[Machine, float]:
    """The machine and its factor after what heat asks for."""
    change = heat.change(machine, 1.0)
    assert change is not None
    state, factor, why = change
    return replace(machine, state=state, state_reason=why), factor


def test_heat_slows_a_machine_and_gives_back_what_it_took() -> None:
    heat = Heat({"edge1": "press"})
    assert heat.change(PRESS, 1.0) is None, "nobody has said anything"
    heat.hear("edge1", 2, "half rate", 0.5)
    slow, factor = derated(heat, PRESS)
    assert (slow.state, factor) == (MachineState.DERATED, 0.5)
    assert slow.state_reason == "edge1 at thermal rung 2 half rate"
    assert heat.change(slow, 0.5) is None, "it is so already"
    again = Heat({"edge1": "press"})  # after a restart the reason is all that is left
    again.hear("edge1", 0, "full", 1.0)
    assert again.change(slow, 0.5) == (MachineState.UP, 1.0, "edge1 at thermal rung 0 full")


def test_what_a_person_has_set_stands_however_hot_or_cool_it_is() -> None:
    heat = Heat({"edge1": "press"})
    by_person = replace(PRESS, state=MachineState.DERATED, state_reason="set by Kim: new tool")
    stopped = replace(PRESS, state=MachineState.HELD, state_reason="edge1 at thermal rung 2")
    for rung, factor in ((0, 1.0), (3, 0.2)):
        heat.hear("edge1", rung, "", factor)
        assert heat.change(by_person, 0.7) is None
        assert heat.change(stopped, 1.0) is None


def test_a_host_that_does_no_work_stops_its_machine_until_it_works_again() -> None:
    heat = Heat({"edge1": "press", "edge2": "press"})
    heat.hear("edge1", 2, "hold", 0.0)
    change = heat.change(PRESS, 1.0)
    assert change == (MachineState.DOWN, 0.0, "edge1 at thermal rung 2 hold")
    down = replace(PRESS, state=MachineState.DOWN, state_reason=change[2])
    assert heat.change(down, 1.0) is None, "it is so already"
    heat.hear("edge2", 2, "hold", 0.0)
    assert heat.change(down, 1.0) is None, "another one makes no difference"
    heat.hear("edge1", 0, "full", 1.0)
    heat.hear("edge2", 1, "half rate", 0.5)
    why = "edge2 at thermal rung 1 half rate"
    assert heat.change(down, 1.0) == (MachineState.DERATED, 0.5, why)
    heat.hear("edge2", 0, "full", 1.0)
    assert heat.change(down, 1.0) == (MachineState.UP, 1.0, "edge1 at thermal rung 0 full")
    by_person = replace(down, state_reason="set by Kim: new tool")
    assert heat.change(by_person, 1.0) is None


def test_after_a_restart_of_the_scheduler_a_held_host_still_stops_its_machine() -> None:
    heat = Heat({"edge1": "press"})
    reason = "edge1 at thermal rung 2 hold"
    down = replace(PRESS, state=MachineState.DOWN, state_reason=reason)
    heat.hear("edge1", 2, "hold", thermal_factor(2, 3, 0.0, 0.0))
    assert heat.change(down, 1.0) is None, "its full rate is not known yet"
    heat.hear("edge1", 1, "half rate", thermal_factor(1, 3, 15.0, 0.0))
    change = heat.change(down, 1.0)
    assert change is not None and change[0] is MachineState.DERATED


def test_a_rung_with_the_full_rate_slows_nothing() -> None:
    heat = Heat({"edge1": "press"})
    heat.hear("edge1", 1, "smaller input", thermal_factor(1, 3, 30.0, 30.0))
    assert heat.change(PRESS, 1.0) is None


def test_of_two_hosts_at_one_machine_the_slower_counts() -> None:
    heat = Heat({"edge1": "press", "edge2": "press", "edge3": "saw"})
    heat.hear("edge3", 4, "hold", 0.05)
    heat.hear("edge1", 2, "", 0.5)
    slow, _ = derated(heat, PRESS)
    heat.hear("edge2", 0, "", 1.0)
    assert heat.change(slow, 0.5) is None, "the cool one does not undo it"
    heat.hear("edge2", 3, "", 0.25)
    assert heat.change(slow, 0.5) == (
        MachineState.DERATED, 0.25, "edge2 at thermal rung 3",
    )  # fmt: skip


def test_a_stop_is_booked_once_for_an_alert_even_of_a_long_name() -> None:
    for alert in ("alert 7", "\u00fc" * 64, "machine " + "c" * 120):
        label = f"{alert}: outer race".encode()[:128].decode(errors="ignore")
        booked = replace(PRESS, downtimes=(Window(0, 1, 0.0, "shift"), Window(5, 9, 0.0, label)))
        assert is_booked(booked, alert) and not is_booked(PRESS, alert)
    assert not is_booked(booked, "alert 7")
    assert not is_booked(replace(PRESS, downtimes=(Window(5, 9, 0.0, "alert 71: x"),)), "alert 7")


def test_a_run_of_fails_is_only_broken_by_a_pass() -> None:
    runs = FailRuns({"s1": "press"}, 3)
    verdicts = [True, True, False, True, True, True, True]
    assert [runs.add("s1", failed) for failed in verdicts] == ["", "", "", "", "", "press", ""]
    runs.forget("press")
    assert [runs.add("s1", True) for _ in range(3)] == ["", "", "press"]
    runs.limit = 0
    assert {runs.add("s1", True) for _ in range(9)} == {""}, "0: never"
    assert runs.add("elsewhere", True) == ""


@pytest.mark.parametrize(
    ("rung", "count", "fps", "full", "factor"),
    [
        (0, 4, 10.0, 30.0, 1.0),
        (2, 4, 15.0, 30.0, 0.5),
        (1, 3, 30.0, 30.0, 1.0),
        (2, 3, 0.0, 30.0, 0.0),
        (4, 4, 0.0, 0.0, 0.2),
        (2, 4, 40.0, 30.0, 1.0),
        (2, 4, math.nan, 30.0, 0.5),
        (2, 4, -1.0, 30.0, 0.5),
        (3, 4, 0.1, 30.0, 0.05),
    ],
)
def test_how_fast_a_rung_is(rung: int, count: int, fps: float, full: float, factor: float) -> None:
    assert thermal_factor(rung, count, fps, full) == pytest.approx(factor)


def test_rows_that_are_no_pairs_are_refused_by_name() -> None:
    assert pairs(("a=b", "c=d=e"), "feeders") == {"a": "b", "c": "d=e"}
    for row in ("a", "=b", "a="):
        with pytest.raises(ValueError, match="feeders: "):
            pairs((row,), "feeders")

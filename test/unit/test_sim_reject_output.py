"""The simulated output acts on what is before it: by windows, in time or in counts, never by id."""

from __future__ import annotations

import pytest

from shopfloor.sim.reject_output import ENCODER_START, OutputSettings, RejectOutput, Window

SECOND = 1_000_000_000


def output(**more: object) -> RejectOutput:
    fields = {"distance_m": 1.0, "speed_m_per_s": 0.5, "encoder_bits": 16, **more}
    return RejectOutput(OutputSettings(**fields), start_ns=0)  # type: ignore[arg-type]


def window(opens_s: float, closes_s: float, number: int = 1, rejects: bool = True) -> Window:
    return Window(number, rejects, False, int(opens_s * SECOND), int(closes_s * SECOND), 0)


def test_a_part_is_there_when_the_belt_has_run_the_distance() -> None:
    belt = output(reject_unknown=False)
    belt.put("p", SECOND)
    assert belt.poll(3 * SECOND - 2000, 0) == [] and belt.parts == 1
    (gone,) = belt.poll(9 * SECOND, 0)
    assert abs(gone.at_ns - 3 * SECOND) < 2000
    assert (gone.rejected, gone.number) == (False, 0)


def test_the_window_decides_which_part_leaves() -> None:
    belt = output(reject_unknown=False)
    for n in range(3):
        belt.put(f"p{n}", n * SECOND)
    belt.command(window(2.9, 3.1, number=7))
    assert [(e.part_id, e.rejected, e.number) for e in belt.poll(9 * SECOND, 0)] == [
        ("p0", False, 0), ("p1", True, 7), ("p2", False, 0),
    ]  # fmt: skip


def test_ros_time_may_be_another_clock() -> None:
    belt = output(reject_unknown=False)
    belt.put("p", 0)
    belt.command(window(1001.9, 1002.1))
    assert belt.poll(9 * SECOND, 1000 * SECOND)[0].rejected


@pytest.mark.parametrize("reject_unknown", [True, False])
def test_without_a_window_or_with_one_that_came_too_late_the_safe_choice_acts(
    reject_unknown: bool,
) -> None:
    belt = output(reject_unknown=reject_unknown)
    belt.put("p", 0)
    late = window(1.9, 2.1, rejects=not reject_unknown)
    belt.command(Window(9, late.rejects, False, late.opens, late.closes, 2 * SECOND + 10_000))
    (gone,) = belt.poll(9 * SECOND, 0)
    assert (gone.rejected, gone.number) == (reject_unknown, 0)


def test_where_windows_overlap_the_reject_wins() -> None:
    belt = output()
    belt.put("p", 0)
    belt.command(window(1.9, 2.1, number=1, rejects=False))
    belt.command(window(1.9, 2.1, number=2))
    (gone,) = belt.poll(9 * SECOND, 0)
    assert (gone.rejected, gone.number) == (True, 2)


def test_windows_in_counts_hold_over_a_wrap_and_a_belt_that_swings() -> None:
    belt = output(wobble=0.5, reject_unknown=False)
    belt.put("first", 0)
    belt.put("second", SECOND)
    second = (ENCODER_START + int(belt.position_m(SECOND) * 1000) + 1000) % 65536
    assert belt.encoder_count(0) == 65536 - 500
    belt.command(Window(3, True, True, second - 20, second + 20, 0))
    gone = belt.poll(20 * SECOND, 0)
    assert [(e.part_id, e.rejected) for e in gone] == [("first", False), ("second", True)]
    assert abs(belt.position_m(gone[1].at_ns) - belt.position_m(SECOND) - 1.0) < 1e-5


@pytest.mark.parametrize("wrong", [{"distance_m": 0.0}, {"speed_m_per_s": -1.0}, {"wobble": 1.0}])
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        output(**wrong)

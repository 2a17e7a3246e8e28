"""Rung, tier and plan for a PLC: bad news at once, good news only where all are known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from shopfloor_msgs.msg import Assignment, MachineHealth, Plan

from shopfloor.plc import conditions as module
from shopfloor.plc.conditions import RUNG_UNKNOWN, Conditions, Known, plan_version

S = 1_000_000_000


@pytest.fixture
def line() -> Conditions:
    return Conditions(
        ["edge", "server"], ["pump", "press"], thermal_silent_s=2.0, health_silent_s=60.0
    )


def known(line: Conditions, now_s: float, scheduler: bool = True) -> Known:
    return line.known(round(now_s * S), lambda: scheduler)


def test_nothing_is_known_at_first(line: Conditions) -> None:
    assert known(line, 0) == Known(RUNG_UNKNOWN, False, 0, False, 0, False)
    nobody = Conditions([], [], thermal_silent_s=2.0, health_silent_s=60.0)
    assert known(nobody, 0) == Known(), "nobody was asked: that is not full performance"


def test_full_performance_needs_all_hosts_and_a_reduced_rung_one(line: Conditions) -> None:
    line.thermal("edge", 0, 1 * S)
    assert (known(line, 1).rung, known(line, 1).rung_known) == (RUNG_UNKNOWN, False)
    line.thermal("edge", 2, 1 * S)
    assert (known(line, 1).rung, known(line, 1).rung_known) == (2, False)
    line.thermal("server", 0, 2 * S)
    assert (known(line, 2).rung, known(line, 2).rung_known) == (2, True)
    line.thermal("edge", 0, 2 * S)
    assert (known(line, 2).rung, known(line, 2).rung_known) == (0, True)


def test_a_silent_host_is_not_known(line: Conditions) -> None:
    line.thermal("edge", 0, 1 * S)
    line.thermal("server", 3, 2 * S)
    assert (known(line, 3.5).rung, known(line, 3.5).rung_known) == (3, False)
    assert (known(line, 4.5).rung, known(line, 4.5).rung_known) == (RUNG_UNKNOWN, False)


def test_the_worst_tier_and_a_monitor_that_does_not_know(line: Conditions) -> None:
    normal, unknown = MachineHealth.TIER_NORMAL, MachineHealth.TIER_UNKNOWN
    line.health("pump", normal, 0)
    assert (known(line, 1).maintenance_tier, known(line, 1).maintenance_known) == (0, False)
    line.health("press", unknown, 0)
    assert (known(line, 1).maintenance_tier, known(line, 1).maintenance_known) == (0, False)
    line.health("press", MachineHealth.TIER_WORK_ORDER, 0)
    assert (known(line, 1).maintenance_tier, known(line, 1).maintenance_known) == (4, True)
    line.health("pump", unknown, 0)
    assert (known(line, 1).maintenance_tier, known(line, 1).maintenance_known) == (4, False)
    line.health("pump", normal, S)
    line.health("press", normal, S)
    assert (known(line, 60).maintenance_tier, known(line, 60).maintenance_known) == (1, True)
    assert (known(line, 62).maintenance_tier, known(line, 62).maintenance_known) == (0, False)


def test_a_plan_stands_as_long_as_its_scheduler(line: Conditions) -> None:
    line.plan(bytes(serialize_message(Plan(version=7))))
    assert (known(line, 9999).plan_version, known(line, 9999).plan_known) == (7, True)
    gone = known(line, 9999, scheduler=False)
    assert (gone.plan_version, gone.plan_known) == (0, False)
    line.plan(bytes(serialize_message(Plan(version=0))))
    assert (known(line, 9999).plan_version, known(line, 9999).plan_known) == (0, True)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.text(st.characters(codec="ascii", exclude_characters="\0")))
def test_the_version_is_read_without_the_rest(version: int, frame_id: str) -> None:
    plan = Plan(version=version, assignments=[Assignment() for _ in range(3)])
    plan.header.frame_id = frame_id
    plan.base_version = 1
    assert plan_version(bytes(serialize_message(plan))) == version


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_what_is_no_plan_is_refused_or_a_number(cdr: bytes) -> None:
    try:
        assert plan_version(cdr) >= 0
    except ValueError as error:
        assert "are no plan" in str(error)


def test_numbers_are_those_of_the_messages() -> None:
    assert MachineHealth.TIER_UNKNOWN == module.TIER_UNKNOWN
    assert MachineHealth.TIER_NORMAL == module.TIER_NORMAL

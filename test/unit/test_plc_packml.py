"""PackML's state model and OEE."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.plc.oee import Oee
from shopfloor.plc.packml import (
    COMPLETES_TO,
    TRANSITIONS,
    WAITING,
    Cause,
    Command,
    Mode,
    State,
    TransitionError,
    Unit,
)


def unit_in(state: State) -> Unit:
    unit = Unit(now_ns=0)
    unit.state = state
    return unit


def test_a_shift() -> None:
    unit = Unit(now_ns=5)
    seen = []
    for command in (Command.RESET, Command.START, Command.HOLD, Command.UNHOLD, Command.STOP):
        seen.append(unit.command(command, 10).after.name)
        change = unit.complete(20)
        assert change is not None
        seen.append(change.after.name)
    assert seen == [
        "RESETTING", "IDLE", "STARTING", "EXECUTE", "HOLDING", "HELD", "UNHOLDING", "EXECUTE",
        "STOPPING", "STOPPED",
    ]  # fmt: skip
    assert unit.complete(30) is None and unit.since_ns == 20


def test_every_acting_state_ends_and_none_is_a_dead_end() -> None:
    for state in State:
        if state is State.UNKNOWN:
            continue
        assert (state in COMPLETES_TO) != (state in WAITING or state is State.EXECUTE)
        assert state in COMPLETES_TO or unit_in(state).allowed()
    for after in TRANSITIONS.values():
        assert after in COMPLETES_TO


def test_abort_wins_from_everywhere_and_only_clear_leaves_it() -> None:
    for state in set(State) - {State.UNKNOWN, State.ABORTING, State.ABORTED}:
        assert unit_in(state).command(Command.ABORT, 0).after is State.ABORTING
    assert unit_in(State.ABORTED).allowed() == [Command.CLEAR]
    assert unit_in(State.ABORTING).allowed() == []


@pytest.mark.parametrize(
    ("state", "command", "needle"),
    [
        (State.STOPPED, Command.START, "STOPPED does not take START; takes: RESET, ABORT"),
        (State.HELD, Command.HOLD, "HELD does not take HOLD"),
        (State.ABORTING, Command.STOP, "takes: no command"),
        (State.IDLE, 77, "command 77; allowed: 1 RESET"),
        (State.IDLE, 0, "command 0"),
    ],
)
def test_a_wrong_command_is_named_and_changes_nothing(
    state: State, command: int, needle: str
) -> None:
    unit = unit_in(state)
    with pytest.raises(TransitionError, match=needle):
        unit.command(command, 1)
    assert (unit.state, unit.since_ns) == (state, 0)


def test_the_cause_stays_while_the_unit_stands() -> None:
    unit = unit_in(State.EXECUTE)
    cause = Cause(12, "guard open", "cell_2")
    unit.command(Command.ABORT, 1, cause)
    unit.complete(2)
    unit.command(Command.CLEAR, 3)
    unit.complete(4)
    assert unit.cause == cause
    unit.command(Command.RESET, 5)
    unit.complete(6)
    assert unit.state is State.IDLE and unit.cause == Cause()


def test_modes_change_at_rest_only() -> None:
    unit = unit_in(State.IDLE)
    unit.change_mode(Mode.MAINTENANCE, 1)
    assert unit.mode == 2
    for wrong in (0, 32, -1):
        with pytest.raises(TransitionError, match="allowed: 1 to 31"):
            unit.change_mode(wrong, 2)
    unit.state = State.EXECUTE
    with pytest.raises(TransitionError, match="cannot change in EXECUTE; only in ABORTED"):
        unit.change_mode(Mode.PRODUCTION, 3)


@given(st.lists(st.integers(0, 12), max_size=60))
def test_no_sequence_leaves_the_model(calls: list[int]) -> None:
    unit = Unit(0)
    for number, call in enumerate(calls):
        try:
            unit.command(call, number)
        except TransitionError:
            unit.complete(number)
        assert unit.state in State and unit.state is not State.UNKNOWN


def test_oee_of_a_known_shift() -> None:
    oee = Oee(nominal_rate_per_min=60.0, now_s=0.0)
    oee.enter(State.EXECUTE, Mode.PRODUCTION, 100.0)
    for number in range(150):
        oee.part("pass" if number % 10 else "fail", 100.0 + number)
    oee.enter(State.STOPPED, Mode.PRODUCTION, 300.0)
    oee.enter(State.EXECUTE, Mode.MAINTENANCE, 400.0)
    figures = oee.figures(1000.0)
    assert figures.availability == pytest.approx(200 / 400)
    assert figures.performance == pytest.approx(150 / 200)
    assert figures.quality == pytest.approx(135 / 150)
    assert figures.oee == pytest.approx(0.5 * 0.75 * 0.9)
    assert figures.rate_per_min == 0.0


def test_a_part_is_counted_once_however_often_its_verdict_changes() -> None:
    oee = Oee(60.0, 0.0)
    oee.part("review", 1.0)
    oee.part("pass", 2.0, before="review")
    figures = oee.figures(3.0)
    assert (figures.total, figures.passed, figures.review, figures.rate_per_min) == (1, 1, 0, 1.0)


def test_nothing_to_divide_by_is_not_known() -> None:
    figures = Oee(60.0, 0.0).figures(0.0)
    assert all(math.isnan(f) for f in (figures.availability, figures.quality, figures.oee))
    with pytest.raises(ValueError, match="above 0"):
        Oee(math.nan, 0.0)

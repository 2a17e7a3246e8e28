"""A LATE_REJECT holds the line: what is asked, asked again, refused and given up, step by step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from shopfloor_msgs.msg import CommandResult, LineState
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.quality.node_hold import LateRejectHold
from shopfloor.quality.reject import Action, RejectOrder
from shopfloor.ros.diagnostics import Level, Status

S = 1_000_000_000
EXPOSURE_NS = 1_763_744_000_123_456_789


class Future:
    """An answer that comes when the test says so."""

    def __init__(self, request: PackMLCommand.Request) -> None:
        self.request = request
        self._result: Any = None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback

    def answer(self, outcome: int, reason: int = 1, state: int = 0, first: int = 0) -> None:
        result = CommandResult(
            outcome=outcome, first_outcome=first or outcome, reason=reason, state=state, text="why"
        )
        self._result = PackMLCommand.Response(result=result)
        self._callback(self)

    def cancelled(self) -> bool:
        return False

    def exception(self) -> None:
        return None

    def result(self) -> Any:
        return self._result


class Gate:
    """What a LateRejectHold sees of its node, with a clock that the test moves."""

    def __init__(self) -> None:
        self.ns = S
        self.asked: list[Future] = []
        self.faults: Counter[str] = Counter()
        self.served = True
        self.params = SimpleNamespace(hold_on_late_reject=True)
        self.diagnostics = SimpleNamespace(add=self._add)

    def _add(self, name: str, check: Callable[[], Status]) -> None:
        assert name == "line hold"
        self.status = check

    def client(self, key: str) -> Any:
        assert key == "packml_command"
        return SimpleNamespace(
            srv_name="/l/line/packml_command",
            service_is_ready=lambda: self.served,
            call_async=self._call,
        )

    def _call(self, request: PackMLCommand.Request) -> Future:
        self.asked.append(Future(request))
        return self.asked[-1]

    def steady_timer(self, period_s: float, tick: Callable[[], None]) -> None:
        self._period_ns, self._tick = round(period_s * S), tick

    def pass_s(self, seconds: float) -> None:
        end = self.ns + round(seconds * S)
        while self.ns < end:
            self.ns += self._period_ns
            self._tick()

    def steady_ns(self) -> int:
        return self.ns

    def now_ns(self) -> int:
        return self.ns

    def get_name(self) -> str:
        return "quality_gate"

    def tell(self, text: str) -> None:
        assert text.startswith("the line is held")

    def fault(self, event: str, cause: str) -> None:
        self.faults[event] += 1

    @property
    def ids(self) -> list[str]:
        return [future.request.command.command_id for future in self.asked]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def hold(gate: Gate) -> LateRejectHold:
    return LateRejectHold(gate)  # type: ignore[arg-type]


def late(part_id: str = "b-17", exposure_ns: int = EXPOSURE_NS) -> RejectOrder:
    return RejectOrder(
        part_id, Action.LATE_REJECT, 2, "was let on", exposure_ns, math.nan, math.nan
    )


def test_one_command_with_an_id_of_the_part(gate: Gate, hold: LateRejectHold) -> None:
    hold.late_reject(late())
    (asked,) = gate.asked
    request = asked.request
    assert request.packml_command == PackMLCommand.Request.COMMAND_HOLD
    assert request.command.caller == "quality_gate"
    assert request.command.command_id == f"late-reject-{EXPOSURE_NS}-b-17"
    assert request.command.reason == "LATE_REJECT b-17: was let on"
    assert gate.status().level is Level.WARN
    asked.answer(CommandResult.OUTCOME_ACCEPTED, state=LineState.STATE_HOLDING)
    gate.pass_s(20.0)
    assert len(gate.asked) == 1 and not gate.faults
    assert gate.status().level is Level.OK and gate.status().values["held"] == 1


def test_what_is_not_answered_is_asked_again_under_the_same_id(
    gate: Gate, hold: LateRejectHold
) -> None:
    hold.late_reject(late())
    gate.pass_s(2.0)
    assert 3 <= len(gate.asked) <= 5 and len(set(gate.ids)) == 1
    # Nothing is sure until one comes; the ledger tells the first result again.
    duplicate, accepted = CommandResult.OUTCOME_DUPLICATE, CommandResult.OUTCOME_ACCEPTED
    gate.asked[-1].answer(duplicate, first=accepted)
    for other in gate.asked[:-1]:
        other.answer(accepted)
    assert gate.status().values["held"] == 1


def test_a_line_on_its_way_is_held_when_it_is_there(gate: Gate, hold: LateRejectHold) -> None:
    hold.late_reject(late())
    rejected, invalid = CommandResult.OUTCOME_REJECTED, CommandResult.REASON_INVALID_TRANSITION
    for state in (LineState.STATE_STARTING, LineState.STATE_UNHOLDING):
        before = len(gate.asked)
        gate.asked[-1].answer(rejected, invalid, state)
        gate.pass_s(0.7)
        assert len(gate.asked) == before + 1
    assert gate.ids == [f"late-reject-{EXPOSURE_NS}-b-17{end}" for end in ("", "-2", "-3")]
    gate.asked[0].answer(rejected, invalid, LineState.STATE_STARTING)  # once more, late
    gate.asked[-1].answer(CommandResult.OUTCOME_ACCEPTED)
    assert gate.status().values["held"] == 1 and not gate.faults


def test_a_line_that_does_not_run_needs_no_hold(gate: Gate, hold: LateRejectHold) -> None:
    hold.late_reject(late())
    gate.asked[0].answer(
        CommandResult.OUTCOME_REJECTED, CommandResult.REASON_INVALID_TRANSITION,
        LineState.STATE_HELD,
    )  # fmt: skip
    assert gate.status().level is Level.OK
    assert gate.status().values["the line did not run"] == 1 and not gate.faults


def test_a_hold_that_is_not_allowed_is_an_alarm(gate: Gate, hold: LateRejectHold) -> None:
    hold.late_reject(late())
    not_allowed = CommandResult.REASON_NOT_ALLOWED
    gate.asked[0].answer(CommandResult.OUTCOME_REJECTED, not_allowed, LineState.STATE_EXECUTE)
    assert gate.faults == {"hold_refused": 1}
    assert gate.status().level is Level.ERROR and "the line runs on: b-17" in gate.status().message
    gate.pass_s(61.0)
    assert gate.status().level is Level.OK and gate.status().values["not held"] == 1


def test_a_line_without_line_state_is_an_alarm(gate: Gate, hold: LateRejectHold) -> None:
    gate.served = False
    hold.late_reject(late())
    gate.pass_s(9.0)
    assert not gate.asked and not gate.faults and gate.status().level is Level.WARN
    gate.pass_s(2.0)
    assert gate.faults == {"hold_unanswered": 1}
    assert "served by no node" in gate.status().message


def test_line_state_may_come_back_meanwhile(gate: Gate, hold: LateRejectHold) -> None:
    gate.served = False
    hold.late_reject(late())
    gate.pass_s(3.0)
    gate.served = True
    gate.pass_s(0.7)
    gate.asked[0].answer(CommandResult.OUTCOME_REJECTED, CommandResult.REASON_NOT_READY)
    gate.pass_s(0.7)
    gate.asked[1].answer(CommandResult.OUTCOME_ACCEPTED)
    assert len(set(gate.ids)) == 1 and gate.status().values["held"] == 1


def test_ids_are_of_the_part_and_fit(gate: Gate, hold: LateRejectHold) -> None:
    for order in (late(), late(exposure_ns=1), late("x" * 64), late("ä" * 64), late(""), late("")):
        hold.late_reject(order)
    assert len(set(gate.ids)) == 5 and all(len(i.encode()) <= 64 for i in gate.ids)
    hold.late_reject(late("unknown exposure", 0))
    assert gate.ids[-1] == f"late-reject-{gate.ns}-unknown exposure"


def test_what_waits_is_bounded(gate: Gate, hold: LateRejectHold) -> None:
    for number in range(150):
        hold.late_reject(late(f"b-{number}"))
    assert len(gate.asked) == 100 and gate.faults == {"hold_not_asked": 50}
    assert gate.status().level is Level.ERROR

"""Whether a line manager carries out a command: checked once, and never done twice. Pure.

The numbers are those of shopfloor_msgs/CommandResult and ManageLine.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum

_REMEMBERED = 64


class Action(IntEnum):
    """ManageLine.ACTION_*."""

    UNKNOWN = 0
    START = 1
    STOP = 2
    RESET = 3


class Outcome(IntEnum):
    """CommandResult.OUTCOME_*, the ones that are used here."""

    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3
    EXPIRED = 4


class Reason(IntEnum):
    """CommandResult.REASON_*, the ones that are used here."""

    NONE = 1
    STATE_MISMATCH = 3
    INVALID_ARGUMENT = 5
    UNKNOWN_TARGET = 6
    DEADLINE_PASSED = 7
    ID_MISSING = 8
    ID_REUSED = 9
    NOT_READY = 11


@dataclass(frozen=True)
class Order:
    """A command as it came. `deadline_ns`: ROS time, 0: none. `expected_state`: 0: any."""

    action: int
    host: str
    node: str
    caller: str
    command_id: str
    deadline_ns: int = 0
    expected_state: int = 0


@dataclass(frozen=True)
class Judgement:
    """The answer. `act`: it is to be carried out now; `first`: outcome when it first came."""

    outcome: Outcome
    first: Outcome
    reason: Reason
    text: str

    @property
    def act(self) -> bool:
        """Whether to carry it out now."""
        return self.outcome is Outcome.ACCEPTED


class CommandBook:
    """Commands of one line manager. `host`: its own; `nodes`: the ones it manages."""

    def __init__(self, host: str, nodes: Collection[str]) -> None:
        self._host = host
        self._nodes = nodes
        self._known: OrderedDict[tuple[str, str], tuple[Order, Judgement]] = OrderedDict()

    def judge(self, order: Order, state: int, ready: bool, now_ns: int) -> Judgement:
        """Decide about `order`; `state`: present HostState.STATE_*, `ready`: the manager is active.

        An accepted command is remembered (the last 64), so that a repeat is not done again.
        """
        key = (order.caller, order.command_id)
        if not order.command_id or not order.caller:
            return _refused(Reason.ID_MISSING, "command_id and caller must not be empty")
        if key in self._known:
            first_order, first = self._known[key]
            if first_order != order:
                text = f"'{order.command_id}' of '{order.caller}' came before with other content"
                return _refused(Reason.ID_REUSED, text)
            return replace(first, outcome=Outcome.DUPLICATE)
        judgement = self._judge_new(order, state, ready, now_ns)
        if judgement.act:
            self._known[key] = (order, judgement)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return judgement

    def _judge_new(self, order: Order, state: int, ready: bool, now_ns: int) -> Judgement:
        if order.action not in (Action.START, Action.STOP, Action.RESET):
            text = f"action {order.action}; allowed: 1 start, 2 stop, 3 reset"
            return _refused(Reason.INVALID_ARGUMENT, text)
        if order.host not in ("", self._host):
            text = f"host '{order.host}'; this line manager is for '{self._host}'"
            return _refused(Reason.UNKNOWN_TARGET, text)
        if order.node and order.node not in self._nodes:
            text = f"node '{order.node}'; known: {', '.join(sorted(self._nodes)) or 'none'}"
            return _refused(Reason.UNKNOWN_TARGET, text)
        if not ready:
            return _refused(Reason.NOT_READY, "the line manager is not active")
        if order.deadline_ns and now_ns > order.deadline_ns:
            late_s = (now_ns - order.deadline_ns) / 1e9
            text = f"came {late_s:.3f} s after its deadline"
            return Judgement(Outcome.EXPIRED, Outcome.EXPIRED, Reason.DEADLINE_PASSED, text)
        if order.expected_state not in (0, state):
            text = f"the host is in state {state}, not {order.expected_state}"
            return _refused(Reason.STATE_MISMATCH, text)
        return Judgement(Outcome.ACCEPTED, Outcome.ACCEPTED, Reason.NONE, "")


def _refused(reason: Reason, text: str) -> Judgement:
    return Judgement(Outcome.REJECTED, Outcome.REJECTED, reason, text)

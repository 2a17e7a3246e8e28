"""Holds the line because of something that a node has seen, and says so where that fails.

A command like any other: it goes through the ledger of line_state, with an id of its cause, so that
asking again acts once. Nothing waits here: answers come as callbacks, a timer asks again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.task import Future
from shopfloor_msgs.msg import CommandResult, LineState
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.endpoint_node import EndpointNode

CHECK = "line hold"
"""Name of the check in /diagnostics."""

_TICK_S = 0.1
_AGAIN_NS = 500_000_000
_GIVE_UP_NS = 10_000_000_000
_ALARM_NS = 60_000_000_000
"""After a HOLD that did not come through the check in /diagnostics is an ERROR for this long."""
_OPEN_MAX = 100
_ID_MAX_BYTES = 64
_REASON_MAX = 200

ON_THE_WAY = frozenset({
    LineState.STATE_STARTING, LineState.STATE_UNHOLDING, LineState.STATE_SUSPENDING,
    LineState.STATE_UNSUSPENDING,
})  # fmt: skip
"""States that take no HOLD, and lead at once to one that does."""


@dataclass(eq=False)
class _Hold:
    """A HOLD without its end yet; steady times. refusals: answers of a line on its way."""

    base_id: str
    subject: str
    reason: str
    due_ns: int
    again_ns: int = 0
    refusals: int = 0

    @property
    def command_id(self) -> str:
        """A refusal stays the answer to its id: the next try takes another."""
        text = f"{self.base_id}-{self.refusals + 1}" if self.refusals else self.base_id
        if len(text.encode()) <= _ID_MAX_BYTES:
            return text
        return hashlib.sha256(text.encode()).hexdigest()


class LineHold:
    """Asks line_state to hold the line; made at configure."""

    def __init__(self, node: EndpointNode, cause: str, enabled: Callable[[], bool]) -> None:
        """cause: what calls for a HOLD, for /diagnostics; enabled: whether it does, at present."""
        self._node = node
        self._cause = cause
        self._enabled = enabled
        self._counts: Counter[str] = Counter()
        self._open: list[_Hold] = []
        self._alarm_ns: int | None = None
        self._alarm = ""
        self._client = node.client("packml_command")
        node.steady_timer(_TICK_S, self._tick)
        node.diagnostics.add(CHECK, self._status)

    def ask(self, base_id: str, subject: str, reason: str) -> None:
        """Hold the line. base_id: of this cause and no other; subject: part or device, for logs."""
        if len(self._open) >= _OPEN_MAX:
            self._fails("hold_not_asked", f"{subject}: {_OPEN_MAX} others wait for an answer")
            return
        due_ns = self._node.steady_ns() + _GIVE_UP_NS
        hold = _Hold(base_id, subject, reason[:_REASON_MAX], due_ns)
        self._open.append(hold)
        self._counts["asked"] += 1
        self._ask(hold)

    def _tick(self) -> None:
        now_ns = self._node.steady_ns()
        for hold in [h for h in self._open if h.due_ns < now_ns]:
            self._open.remove(hold)
            name = self._client.srv_name
            why = "does not answer" if self._client.service_is_ready() else "is served by no node"
            self._fails("hold_unanswered", f"{hold.subject}: {name} {why}")
        for hold in [h for h in self._open if h.again_ns < now_ns]:
            self._ask(hold)

    def _ask(self, hold: _Hold) -> None:
        hold.again_ns = self._node.steady_ns() + _AGAIN_NS
        if not self._client.service_is_ready():
            return
        request = PackMLCommand.Request(packml_command=PackMLCommand.Request.COMMAND_HOLD)
        request.command.caller = self._node.get_name()
        request.command.command_id = hold.command_id
        request.command.reason = hold.reason
        future = self._client.call_async(request)
        future.add_done_callback(partial(self._on_answer, hold, hold.refusals))

    def _on_answer(self, hold: _Hold, refusals: int, future: Future) -> None:
        # An answer to a try before the present one says nothing new.
        if hold not in self._open or hold.refusals != refusals:
            return
        if future.cancelled() or future.exception() is not None:
            return
        result: CommandResult = future.result().result
        if result.reason in (CommandResult.REASON_BUSY, CommandResult.REASON_NOT_READY):
            return
        refused_state = result.reason == CommandResult.REASON_INVALID_TRANSITION
        if refused_state and result.state in ON_THE_WAY:
            hold.refusals += 1
            return
        self._open.remove(hold)
        if result.first_outcome == CommandResult.OUTCOME_ACCEPTED:
            self._counts["held"] += 1
            self._node.tell(f"the line is held: {hold.reason}")
        elif refused_state:
            self._counts["the line did not run"] += 1
        else:
            self._fails("hold_refused", f"{hold.subject}: {result.text or result.reason}")

    def _fails(self, event: str, what: str) -> None:
        self._counts["not held"] += 1
        self._alarm_ns, self._alarm = self._node.steady_ns(), f"the line runs on: {what}"
        self._node.fault(event, what)

    def _status(self) -> Status:
        asked = ("asked", "held", "the line did not run", "not held")
        values: dict[str, object] = {name: self._counts[name] for name in asked}
        values["open"] = len(self._open)
        if not self._enabled():
            return Status(Level.OK, f"off: {self._cause} does not hold the line", values)
        alarm_ns = self._alarm_ns
        if alarm_ns is not None and self._node.steady_ns() - alarm_ns < _ALARM_NS:
            return Status(Level.ERROR, self._alarm, values)
        if self._open:
            return Status(Level.WARN, f"HOLD is asked for: {self._open[0].reason}", values)
        return Status(Level.OK, f"{self._cause} was never without its HOLD lately", values)

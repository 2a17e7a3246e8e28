"""Services that act once: requests that begin with a `Command`, answered with a `CommandResult`.

self._commands = Commands(self)                       # in setup
self._commands.serve("set_rung", self._set_rung)
self._commands.close()                                # in teardown

def _set_rung(self, request, response):               # runs once per command
    if request.rung >= self._rungs:
        raise Refused(Reason.INVALID_ARGUMENT, f"rung {request.rung}; allowed: 0 to ...")
    ...
    response.rung = request.rung
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from rclpy.time import Time
from shopfloor_msgs.msg import Command, CommandResult

from shopfloor.ros.audit import AuditError, AuditLog
from shopfloor.ros.command_record import CommandRecord
from shopfloor.ros.commands import (
    AllowList,
    Answer,
    Ledger,
    Order,
    Outcome,
    Reason,
    Refused,
    accepted,
    rejected,
)
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.message_data import plain
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import state_folder

LEDGER_FILE = "commands.sqlite"
AUDIT_FILE = "audit.jsonl"
_TEXT_MAX_BYTES = 254


class Commands:
    """The acting services of one node, over one ledger and one audit log in the state folder.

    Raises OSError where these cannot be opened, AuditError where the audit log was tampered with.
    """

    def __init__(self, node: ShopfloorNode[Any], folder: Path | None = None) -> None:
        self._node = node
        name = node.get_fully_qualified_name().strip("/").replace("/", ".")
        folder = folder or state_folder() / name
        self._requests = CommandRecord(node)
        self._ledger = Ledger(folder / LEDGER_FILE, AllowList(node.params.allowed_callers))
        try:
            self._audit = AuditLog(folder / AUDIT_FILE)
        except (OSError, AuditError):
            self._ledger.close()
            raise
        node.diagnostics.add("audit log", self._audit_status)
        if self._audit.torn is not None:
            node.fault("audit log", f"an unfinished line was moved to {self._audit.torn}")
        for caller, command_id in sorted(self._ledger.in_doubt):
            node.fault("command in doubt", f"'{command_id}' of '{caller}' was begun before a crash")
            self._append({"caller": caller, "command_id": command_id, "outcome": "IN_DOUBT"})

    @property
    def ledger(self) -> Ledger:
        """For actions, which end later than they are answered."""
        return self._ledger

    def close(self) -> None:
        """Close both files; the services themselves go with the node's endpoints."""
        self._node.diagnostics.remove("audit log")
        self._ledger.close()
        self._audit.close()

    def _audit_status(self) -> Status:
        """The tail leaves the host with /diagnostics: a log that is cut off shows against it."""
        tail = self._audit.tail
        return Status(Level.OK, f"{tail.count} entries", {"tail": str(tail)})

    def serve(
        self,
        key: str,
        act: Callable[[Any, Any], None],
        *,
        state: Callable[[], int] = lambda: 0,
        state_of: Callable[[Any], int] | None = None,
        report: Callable[[Any], None] = lambda response: None,
        **names: str,
    ) -> None:
        """Offer the service `key` of the interface table.

        act(request, response): carries a new command out and fills its own fields of the answer;
        raises Refused where it does not act.
        state(): the target's state in the service's terms, compared with `expected_state`.
        state_of(request): the same where the request names the target.
        report(response): fills the service's own fields of every answer that does not act.
        """

        def answer(request: Any, response: Any) -> Any:
            present = state if state_of is None else partial(state_of, request)
            return self._serve(key, act, present, report, tell, request, response)

        tell = self._requests.service(key, answer, **names)
        self._node.service(key, answer, **names)

    def action(
        self,
        key: str,
        execute: Callable[[Any], Coroutine[Any, Any, Any]],
        *,
        cancel: Callable[[Any], None],
        **names: str,
    ) -> None:
        """Offer the action `key`, as `EndpointNode.action` does; `execute` asks the ledger."""
        execute, cancel = self._requests.action(key, execute, cancel, **names)
        self._node.action(key, execute, cancel=cancel, **names)

    def _serve(
        self,
        key: str,
        act: Callable[[Any, Any], None],
        state: Callable[[], int],
        report: Callable[[Any], None],
        tell: Callable[[Any], None],
        request: Any,
        response: Any,
    ) -> None:
        order = order_of(key, request)
        try:
            answer = self._ledger.begin(order, self._node.now_ns(), state())
        except (OSError, sqlite3.Error) as error:
            answer = rejected(Reason.FAULT, str(error), state())
            self._node.fault("command ledger", str(error))
        if answer is None:
            tell(request)
            answer = self._carry_out(order, act, state, report, request, response)
        elif answer.outcome is Outcome.DUPLICATE and answer.response:
            _copy(deserialize_message(answer.response, type(response)), response)
            self._node.diagnostics.count("repeated command", f"'{order.command_id}' of {key}")
        else:
            report(response)
            self._record(order, request, answer)
        fill_result(response.result, request.command, answer, self._node)

    def _carry_out(
        self,
        order: Order,
        act: Callable[[Any, Any], None],
        state: Callable[[], int],
        report: Callable[[Any], None],
        request: Any,
        response: Any,
    ) -> Answer:
        node = self._node
        acted_ns = node.now_ns()
        try:
            act(request, response)
            answer = accepted(acted_ns, state())
        except Refused as refusal:
            answer = rejected(refusal.reason, str(refusal), state())
            report(response)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            node.fault(f"command {order.service}", text)
            answer = replace(rejected(Reason.EFFECT_FAILED, text, state()), acted_ns=acted_ns)
            report(response)
        who = order.person or order.caller
        what = f"{order.service} by {who} ({order.reason or 'no reason given'})"
        node.tell(f"{what}: {answer.outcome.name.lower()} {answer.text}".rstrip())
        fill_result(response.result, request.command, answer, node)
        # First the audit log: what it does not hold, the ledger must not call done.
        self._record(order, request, answer)
        try:
            self._ledger.finish(order, answer, bytes(serialize_message(response)))
        except sqlite3.Error as error:
            node.fault("command ledger", f"no result recorded, the command is in doubt: {error}")
        node.later(self._tidy)
        return answer

    def _tidy(self) -> None:
        try:
            self._ledger.tidy()
        except OSError as error:
            self._node.fault("command ledger", str(error))

    def _record(self, order: Order, request: Any, answer: Answer) -> None:
        self._append(
            {
                "service": order.service,
                "caller": order.caller,
                "command_id": order.command_id,
                "person": order.person,
                "why": order.reason,
                "asked": plain(request, "command"),
                "outcome": answer.outcome.name,
                "reason": answer.reason.name,
                "text": answer.text,
            }
        )

    def _append(self, entry: dict[str, Any]) -> None:
        node = self._node.get_fully_qualified_name()
        try:
            self._audit.append(self._node.now_ns(), {"node": node, **entry})
        except (OSError, ValueError) as error:
            self._node.fault("audit log", str(error))


def order_of(key: str, request: Any) -> Order:
    """The order of a request. A caller that tries again may stamp anew: times are no content."""
    command = request.command
    # Not its CDR bytes: those pad with whatever was in memory.
    content = [command.person, command.reason, command.expected_state, plain(request, "command")]
    return Order(
        service=key,
        caller=command.caller,
        command_id=command.command_id,
        content=json.dumps(content, sort_keys=True).encode(),
        person=command.person,
        reason=command.reason,
        issued_ns=Time.from_msg(command.issued).nanoseconds,
        deadline_ns=Time.from_msg(command.deadline).nanoseconds,
        expected_state=command.expected_state,
    )


def fill_result(result: CommandResult, command: Command, answer: Answer, node: Any) -> None:
    """The answer as a message."""
    result.outcome = int(answer.outcome)
    result.first_outcome = int(answer.first_outcome)
    result.reason = int(answer.reason)
    result.text = answer.text.encode()[:_TEXT_MAX_BYTES].decode(errors="ignore")
    result.command_id = command.command_id
    result.state = answer.state
    result.acted_stamp = node.stamp(answer.acted_ns)


def _copy(source: Any, target: Any) -> None:
    for field in source.get_fields_and_field_types():
        setattr(target, field, getattr(source, field))

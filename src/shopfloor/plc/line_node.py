"""line_state: the line's PackML state, mode, counters and OEE; takes PackML commands.

It starts STOPPED, also after a crash: a line that a fault has stopped is started by somebody who
looked. Acting states end when the hosts are as they should be, or at once where nothing is to wait
for.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from shopfloor_msgs.msg import HostState, LineState, PartVerdict
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.plc.line_parameters import LineStateParameters
from shopfloor.plc.oee import Oee
from shopfloor.plc.packml import Cause, Command, State, TransitionError, Unit
from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode

_TICK_S = 0.1
_REPORT_PERIOD_S = 1.0
_REMEMBERED_PARTS = 10_000
_TEXT_MAX = 254

_KINDS = {PartVerdict.VERDICT_PASS: "pass", PartVerdict.VERDICT_FAIL: "fail"}
_READY = (HostState.STATE_RUNNING, HostState.STATE_DEGRADED)


class LineStateNode(ShopfloorNode[LineStateParameters]):
    """Feeds the state machine with commands, host states and verdicts."""

    PARAMETERS = LineStateParameters

    def __init__(self, name: str = "line_state", **node_arguments: Any) -> None:
        self._commands: Commands | None = None
        self._hosts: dict[str, tuple[int, str, float]] = {}
        self._parts: OrderedDict[str, tuple[int, str]] = OrderedDict()
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Start at STOPPED, and listen."""
        params = self.params
        self._unit = Unit(self.now_ns())
        self._oee = Oee(params.nominal_rate_per_min, self._now_s())
        self._counted_since_ns = self.now_ns()
        self._reported_s = 0.0
        self._hosts.clear()
        self._parts.clear()
        self._states = self.publisher("line_state")
        for host in params.hosts:
            self.subscription("host_state", partial(self._on_host, host), host=host)
        self.subscription("part_verdict", self._on_verdict)
        self._commands = Commands(self)
        self._commands.serve(
            "packml_command",
            self._command,
            state=lambda: int(self._unit.state),
            report=self._describe,
        )
        self.steady_timer(_TICK_S, self._tick)
        self.diagnostics.add("line", self._line_status)

    def start(self) -> None:
        """Report; start the line only where that is asked for."""
        if self.params.run_on_activate and self._unit.state is State.STOPPED:
            self._unit.command(Command.RESET, self.now_ns())
            self._enter()
        self._report()

    def stop(self) -> None:
        """A line without its state node does not run."""
        if self._unit.state not in (State.STOPPED, State.ABORTED):
            self._do(Command.ABORT, "the line state node was deactivated")
            self._unit.complete(self.now_ns())
            self._enter()

    def teardown(self) -> None:
        """Close the ledger."""
        self.diagnostics.remove("line")
        if self._commands is not None:
            self._commands.close()
        self._commands = None

    # What comes in -------------------------------------------------------------------------------

    def _command(self, request: PackMLCommand.Request, response: PackMLCommand.Response) -> None:
        if request.unit not in ("", self.params.unit):
            text = f"unit '{request.unit}'; this is '{self.params.unit}'"
            raise Refused(Reason.UNKNOWN_TARGET, text)
        if not self.is_active:
            raise Refused(Reason.NOT_READY, "the line state node is not active")
        if not request.packml_command and not request.mode:
            raise Refused(Reason.INVALID_ARGUMENT, "neither a command nor a mode is asked for")
        now = self.now_ns()
        who = request.command.person or request.command.caller
        cause = Cause(0, request.command.reason, who[:64])
        try:
            if request.mode:
                self._unit.change_mode(request.mode, now)
            if request.packml_command:
                self._unit.command(request.packml_command, now, cause)
        except TransitionError as error:
            raise Refused(Reason.INVALID_TRANSITION, str(error)) from None
        finally:
            self._enter()
        self._describe(response)

    def _on_host(self, host: str, message: HostState) -> None:
        self._hosts[host] = (message.state, message.cause, self._now_s())

    def _on_verdict(self, verdict: PartVerdict) -> None:
        """Count a part once, by the verdict in force."""
        kind = _KINDS.get(verdict.verdict, "review")
        revision, before = self._parts.get(verdict.part_id, (0, ""))
        if verdict.revision <= revision:
            return
        if verdict.revision > 1 and not before:
            self.fault("verdict of a forgotten part", f"{verdict.part_id} is not counted again")
            return
        self._parts[verdict.part_id] = (verdict.revision, kind)
        if len(self._parts) > _REMEMBERED_PARTS:
            self._parts.popitem(last=False)
        self._oee.part(kind, self._now_s(), before)

    def _tick(self) -> None:
        if self.is_active:
            self._go_on()
        if self._now_s() - self._reported_s >= _REPORT_PERIOD_S:
            self._report()

    # What follows --------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """End an acting state whose work is done; hold or abort where a host is missing."""
        unit, missing = self._unit, self._missing()
        if unit.state in (State.STARTING, State.UNHOLDING, State.UNSUSPENDING) and missing:
            if self.now_ns() - unit.since_ns > self.params.starting_timeout_s * 1e9:
                self._do(Command.ABORT, missing)
        elif unit.state is State.EXECUTE and missing and self.params.hold_on_failure:
            self._do(Command.HOLD, missing)
        elif unit.complete(self.now_ns()) is not None:
            self._enter()
            if unit.state is State.IDLE and self.params.run_on_activate:
                self._do(Command.START, "")

    def _missing(self) -> str:
        """The first host that does not run, and why; empty: all run."""
        for host in self.params.hosts:
            state, cause, heard_s = self._hosts.get(host, (HostState.STATE_UNKNOWN, "", 0.0))
            if not heard_s:
                return f"{host} has not reported"
            if self._now_s() - heard_s > self.params.host_silent_s:
                return f"{host} is silent"
            if state not in _READY:
                return f"{host}: {cause or 'does not run'}"
        return ""

    def _do(self, command: Command, why: str) -> None:
        self._unit.command(command, self.now_ns(), Cause(0, why, self.get_name()[:64]))
        self._enter()

    def _enter(self) -> None:
        unit = self._unit
        self._oee.enter(unit.state, unit.mode, self._now_s())
        cause = f": {unit.cause.text}" if unit.cause.text else ""
        self.tell(f"{self.params.line}: {unit.state.name}{cause}")
        self._report()

    # What goes out -------------------------------------------------------------------------------

    def _report(self) -> None:
        self._reported_s = self._now_s()
        self._states.publish(self._message())

    def _describe(self, response: PackMLCommand.Response) -> None:
        response.line_state = self._message()

    def _message(self) -> LineState:
        unit, figures = self._unit, self._oee.figures(self._now_s())
        message = LineState(
            line=self.params.line,
            unit=self.params.unit,
            state=int(unit.state),
            state_since=self.stamp(unit.since_ns),
            mode=unit.mode,
            stop_reason=unit.cause.number,
            stop_text=unit.cause.text[:_TEXT_MAX],
            stop_source=unit.cause.source,
            parts_total=figures.total,
            parts_pass=figures.passed,
            parts_fail=figures.failed,
            parts_review=figures.review,
            counted_since=self.stamp(self._counted_since_ns),
            rate_per_min=figures.rate_per_min,
            nominal_rate_per_min=self.params.nominal_rate_per_min,
            availability=figures.availability,
            performance=figures.performance,
            quality=figures.quality,
            oee=figures.oee,
        )
        message.header.stamp = self.stamp(self.now_ns())
        message.header.frame_id = self.params.line
        return message

    def _line_status(self) -> Status:
        unit, figures = self._unit, self._oee.figures(self._now_s())
        values: dict[str, object] = {
            "mode": unit.mode,
            "parts": figures.total,
            "oee": round(figures.oee, 3),
            "stop": unit.cause.text,
        }
        stopped = unit.state in (State.ABORTED, State.ABORTING, State.HELD, State.HOLDING)
        level = Level.WARN if stopped else Level.OK
        return Status(level, f"{unit.state.name} {unit.cause.text}".rstrip(), values)

    def _now_s(self) -> float:
        return self.steady_ns() / 1e9


def main() -> None:
    """`ros2 run shopfloor line_state`."""
    raise SystemExit(run_node(LineStateNode))


if __name__ == "__main__":
    main()

"""line_state in a graph: commands act once, hosts are waited for, parts are counted once."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from harness import ACTIVE, Graph, statuses
from shopfloor_msgs.msg import CommandResult, HostState, LineState, PartVerdict
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.plc import packml
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

LINE, SERVICE = "/line_state", "line/packml_command"
Request = PackMLCommand.Request


def command(graph: Graph, number: int, command_id: str, **fields: Any) -> PackMLCommand.Response:
    request = Request(packml_command=number, **fields)
    request.command.command_id = command_id
    request.command.caller = "plc1"
    request.command.reason = "a test"
    response: PackMLCommand.Response = graph.call(PackMLCommand, SERVICE, request)
    return response


def until_state(graph: Graph, states: list[LineState], state: int) -> LineState:
    found: LineState = graph.until(
        lambda: next((s for s in reversed(states) if s.state == state), None),
        f"line state {state}; came: {[s.state for s in states]}",
    )
    return found


def test_a_shift_by_command_and_nothing_acts_twice(graph: Graph) -> None:
    states = graph.collect("line_state")
    child = graph.start("line_state:line_state", parameters={"line": "line_9"})
    graph.until_state(LINE, ACTIVE)
    wrong = command(graph, Request.COMMAND_START, "1").result
    assert wrong.reason == CommandResult.REASON_INVALID_TRANSITION
    assert "STOPPED does not take START; takes: RESET, ABORT" in wrong.text
    first = command(graph, Request.COMMAND_RESET, "2")
    assert first.result.outcome == CommandResult.OUTCOME_ACCEPTED
    until_state(graph, states, LineState.STATE_IDLE)
    again = command(graph, Request.COMMAND_RESET, "2")
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    # Not the whole messages: NaN is not equal to itself.
    assert again.line_state.header == first.line_state.header
    assert again.line_state.state == LineState.STATE_RESETTING
    command(graph, Request.COMMAND_START, "3", mode=LineState.MODE_PRODUCTION)
    until_state(graph, states, LineState.STATE_EXECUTE)
    busy = command(graph, 0, "4", mode=LineState.MODE_MANUAL).result
    assert "the mode cannot change in EXECUTE" in busy.text
    child.signal(signal.SIGKILL)
    child.wait()
    states.clear()
    graph.start("line_state:line_state", parameters={"line": "line_9"})
    until_state(graph, states, LineState.STATE_STOPPED)
    after_crash = command(graph, Request.COMMAND_START, "3", mode=LineState.MODE_PRODUCTION)
    assert after_crash.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert states[-1].state == LineState.STATE_STOPPED


def test_it_waits_for_its_hosts_and_holds_without_them(graph: Graph) -> None:
    states, diagnostics = graph.collect("line_state"), graph.collect("diagnostics")
    row = interface("host_state")
    host = graph.node.create_publisher(HostState, row.resolve(host="edge"), publisher_qos(row.qos))
    state = [HostState.STATE_STARTING]
    timer = graph.node.create_timer(
        0.2, lambda: host.publish(HostState(host="edge", state=state[0], cause="no model"))
    )
    graph.start("line_state:line_state", parameters={"hosts": ["edge"], "run_on_activate": True})
    until_state(graph, states, LineState.STATE_STARTING)
    count = len(states) + 2
    graph.until(lambda: len(states) >= count, "more reports")
    assert states[-1].state == LineState.STATE_STARTING
    state[0] = HostState.STATE_RUNNING
    until_state(graph, states, LineState.STATE_EXECUTE)
    state[0] = HostState.STATE_FAILED
    held = until_state(graph, states, LineState.STATE_HELD)
    assert held.stop_text == "edge: no model" and held.stop_source == "line_state"
    graph.until(
        lambda: statuses(diagnostics, LINE)["line"].message == "HELD edge: no model",
        "the cause in /diagnostics",
    )
    state[0] = HostState.STATE_RUNNING
    states.clear()
    command(graph, Request.COMMAND_UNHOLD, "u")
    until_state(graph, states, LineState.STATE_EXECUTE)
    timer.cancel()
    assert until_state(graph, states, LineState.STATE_HELD).stop_text == "edge is silent"


def test_parts_are_counted_once_by_the_verdict_in_force(graph: Graph) -> None:
    states = graph.collect("line_state")
    row = interface("part_verdict")
    verdicts = graph.node.create_publisher(PartVerdict, row.name, publisher_qos(row.qos))
    graph.start("line_state:line_state", parameters={"run_on_activate": True})
    until_state(graph, states, LineState.STATE_EXECUTE)
    graph.until(verdicts.get_subscription_count, "the listener")
    said = [("a", 1, 1), ("b", 1, 3), ("b", 1, 3), ("b", 2, 2), ("b", 1, 3), ("c", 1, 2)]
    for part, revision, verdict in said:
        verdicts.publish(PartVerdict(part_id=part, revision=revision, verdict=verdict))
    last = graph.until(
        lambda: next((s for s in states if s.parts_total == 3 and s.parts_fail == 2), None),
        "3 parts",
    )
    assert (last.parts_pass, last.parts_review) == (1, 0)
    assert last.quality == pytest.approx(1 / 3)


def test_numbers_are_those_of_the_messages() -> None:
    for ours, prefix, message in (
        (packml.State, "STATE_", LineState),
        (packml.Mode, "MODE_", LineState),
        (packml.Command, "COMMAND_", Request),
    ):
        for member in ours:
            assert member.value == getattr(message, prefix + member.name), member

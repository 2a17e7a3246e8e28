"""The right part leaves the simulated belt: by delay, by encoder, and when something fails.

The test plays the inspector and says of each part what it likes; the belt's output knows windows
only. A busy machine may be late: then a good part may leave too, but a bad one never stays.
"""

from __future__ import annotations

import json
import signal
from typing import Any

from harness import ACTIVE, Graph, statuses
from rclpy.time import Time
from shopfloor_msgs.msg import (
    BeltEncoder,
    InspectionResult,
    LineState,
    PartExit,
    PartVerdict,
    RejectCommand,
)
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

GATE, BELT = "/quality_gate", "/line_simulator"
REJECT, PASS, LATE = (
    RejectCommand.ACTION_REJECT, RejectCommand.ACTION_PASS, RejectCommand.ACTION_LATE_REJECT,
)  # fmt: skip


class Belt:
    """Belt, camera and gate as processes; every second part fails, unless `judge` says else."""

    def __init__(self, graph: Graph, *, gate: dict[str, object], belt: dict[str, object]) -> None:
        self.graph = graph
        self.exits: list[PartExit] = graph.collect("part_exit")
        self.commands: list[RejectCommand] = graph.collect("reject_command")
        self.verdicts: list[PartVerdict] = graph.collect("part_verdict")
        self.diagnostics = graph.collect("diagnostics")
        self._results = self.publisher("inspection_result")
        row = interface("frame_info")
        graph.node.create_subscription(
            message_type(row.type), row.resolve(camera="camera"), self._on_frame,
            publisher_qos(row.qos),
        )  # fmt: skip
        self._gate = {
            "cameras": "['camera']", "reject_distance_m": "[0.6]", "belt_speed_m_per_s": 0.2,
            "reject_window_m": 0.06, "reject_lead_ms": 200.0, "reject_margin_ms": 500.0, **gate,
        }  # fmt: skip
        self.gate = self.start_gate()
        graph.until_state(GATE, ACTIVE)
        graph.until(self._results.get_subscription_count, "the gate to listen")
        address = graph.folder / "camera.sock"
        graph.start("camera:camera", parameters={"address": address})
        graph.start(
            "line_simulator:line_simulator",
            parameters={
                "address": address, "parts_per_minute": 150.0, "batch": "t", "width": 160,
                "height": 160, "distinct_parts": 6, "reject_distance_m": 0.6,
                "belt_speed_m_per_s": 0.2, **belt,
            },
        )  # fmt: skip

    def publisher(self, key: str) -> Any:
        row = interface(key)
        return self.graph.node.create_publisher(
            message_type(row.type), row.name, publisher_qos(row.qos)
        )

    def start_gate(self) -> Any:
        return self.graph.start("quality_gate:quality_gate", parameters=self._gate)

    @staticmethod
    def fails(part_id: str) -> bool:
        return int(part_id.rsplit("-", 1)[1]) % 2 == 0

    def _on_frame(self, info: Any) -> None:
        fails = self.fails(info.part_id)
        message = InspectionResult(
            part_id=info.part_id, station="s", frame_sequence=info.sequence,
            verdict=InspectionResult.VERDICT_FAIL if fails else InspectionResult.VERDICT_PASS,
        )  # fmt: skip
        message.header = info.header
        self._results.publish(message)

    def until_exits(self, count: int) -> None:
        """Good parts that went on and bad ones that left by command, `count` of each."""

        def enough() -> bool:
            on = sum(not e.rejected and not self.fails(e.part_id) for e in self.exits)
            off = sum(e.rejected and e.command > 0 and self.fails(e.part_id) for e in self.exits)
            return on >= count and off >= count

        self.graph.until(enough, f"{count} good parts went on, {count} bad ones left", 60.0)

    def check(self) -> None:
        """No bad part stayed; the number at its window is that of its own command."""
        by_number = {c.number: c for c in self.commands}
        for gone in self.exits:
            assert gone.rejected or not self.fails(gone.part_id), f"{gone.part_id} stayed"
            if gone.command in by_number:
                assert by_number[gone.command].part_id == gone.part_id, "another part's window"
        named = [c.part_id for c in self.commands if c.action != LATE]
        assert len(named) == len(set(named)), "one command a part"


def test_the_right_parts_leave_by_delay(graph: Graph) -> None:
    line = Belt(graph, gate={"reject_by": "delay"}, belt={})
    line.until_exits(3)
    line.check()
    assert not any(c.by_encoder for c in line.commands)
    assert any(v.reject_stamp.sec for v in line.verdicts)


def test_the_right_parts_leave_by_encoder_and_none_passes_while_the_gate_is_dead(
    graph: Graph,
) -> None:
    line = Belt(
        graph,
        gate={"reject_by": "encoder", "encoder_bits": 16, "belt_speed_m_per_s": 0.25},
        # It starts 500 counts before the counter wraps, and its speed swings.
        belt={"encoder_bits": 16, "belt_speed_wobble": 0.2},
    )
    line.until_exits(3)
    line.check()
    assert all(c.by_encoder for c in line.commands if c.action != LATE)
    line.gate.signal(signal.SIGKILL)
    line.gate.wait()
    named = {c.part_id for c in line.commands}
    # Parts that no command names any more meet the output's safe choice.
    graph.until(
        lambda: any(e.rejected and e.part_id not in named and not e.command for e in line.exits),
        "a part that left without a command",
    )
    line.check()
    line.commands.clear()
    line.exits.clear()
    line.start_gate()
    line.until_exits(1)
    line.check()


def test_an_encoder_that_jumps_is_an_alarm_and_no_part_passes(graph: Graph) -> None:
    """The test plays the encoder of a belt that stands still."""
    commands = graph.collect("reject_command")
    diagnostics = graph.collect("diagnostics")
    row = interface("belt_encoder")
    encoder = graph.node.create_publisher(BeltEncoder, row.name, publisher_qos(row.qos))
    row = interface("inspection_result")
    results = graph.node.create_publisher(InspectionResult, row.name, publisher_qos(row.qos))
    graph.start(
        "quality_gate:quality_gate",
        parameters={
            "reject_by": "encoder", "cameras": "['camera']", "reject_distance_m": "[0.8]",
            "belt_speed_m_per_s": 5.0, "reject_lead_ms": 10.0, "reject_margin_ms": 20.0,
            "encoder_silent_ms": 60000.0,
        },
    )  # fmt: skip
    graph.until_state(GATE, ACTIVE)
    graph.until(encoder.get_subscription_count, "the gate to read the encoder")
    graph.until(results.get_subscription_count, "the gate to listen")
    graph.until(lambda: graph.node.count_publishers(interface("reject_command").name), "commands")
    graph.until_known(GATE)

    def now_ns() -> int:
        return int(graph.node.get_clock().now().nanoseconds)

    def read(count: int) -> int:
        stamp_ns = now_ns()
        message = BeltEncoder(valid=True, count=count)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        encoder.publish(message)
        return stamp_ns

    def result(part: str, verdict: int, exposed_ns: int) -> None:
        message = InspectionResult(part_id=part, frame_sequence=1, verdict=verdict)
        message.header.frame_id = "camera"
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(exposed_ns, 10**9)
        results.publish(message)

    def reject_output() -> Any:
        return statuses(diagnostics, GATE)["reject output"]

    def is_read() -> bool:
        read(1000)
        return reject_output().message == "every part is followed"

    graph.until(is_read, "the gate to have read the encoder")
    stamp_ns = read(1000)

    def on_the_way() -> bool:
        result("bad", InspectionResult.VERDICT_FAIL, stamp_ns)
        result("good", InspectionResult.VERDICT_PASS, stamp_ns)
        return any(v.key == "on the way" and v.value == "2" for v in reject_output().values)

    graph.until(on_the_way, "two parts on the way")

    def alarms() -> list[RejectCommand]:
        read(900_000)  # the counter was reset
        return [c for c in commands if c.action == LATE]

    late = graph.until(alarms, "the alarm")
    assert [c.part_id for c in late] == ["bad"] and "encoder jumped" in late[0].reason
    graph.until(lambda: "LATE_REJECT bad" in reject_output().message, "the alarm in /diagnostics")
    assert not [c for c in commands if c.action == PASS], "a lost part gets no leave to go on"


class LateGate:
    """A gate on a belt by delay, and parts that fail after they were let on."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.commands: list[RejectCommand] = graph.collect("reject_command")
        self.diagnostics = graph.collect("diagnostics")
        row = interface("inspection_result")
        self._results = graph.node.create_publisher(
            InspectionResult, row.name, publisher_qos(row.qos)
        )
        graph.start(
            "quality_gate:quality_gate",
            parameters={
                "reject_by": "delay", "cameras": "['camera']", "reject_distance_m": "[0.5]",
                "belt_speed_m_per_s": 1.0,
            },
        )  # fmt: skip
        graph.until_state(GATE, ACTIVE)
        graph.until(self._results.get_subscription_count, "the gate to listen")
        name = interface("reject_command").name
        graph.until(lambda: graph.node.count_publishers(name), "commands")
        graph.until_known(GATE)

    def late_reject(self, part_id: str) -> RejectCommand:
        """PASS, then FAIL after the part's command: the LATE_REJECT that comes of it."""
        exposed = self.graph.node.get_clock().now().to_msg()

        def result(verdict: int, sequence: int) -> None:
            message = InspectionResult(part_id=part_id, frame_sequence=sequence, verdict=verdict)
            message.header.frame_id = "camera"
            message.header.stamp = exposed
            self._results.publish(message)

        def command(action: int) -> RejectCommand | None:
            found = (c for c in self.commands if (c.part_id, c.action) == (part_id, action))
            return next(found, None)

        def let_on() -> RejectCommand | None:
            result(InspectionResult.VERDICT_PASS, 1)
            return command(PASS)

        self.graph.until(let_on, f"{part_id} let on")
        result(InspectionResult.VERDICT_FAIL, 2)
        late: RejectCommand = self.graph.until(lambda: command(LATE), f"LATE_REJECT {part_id}")
        return late

    def until_status(self, check: str, text: str) -> Any:
        """The gate's check once its message holds `text`."""

        def found() -> Any:
            status = statuses(self.diagnostics, GATE)[check]
            return status if text in status.message else None

        return self.graph.until(found, f"'{text}' in {check}")


def test_a_verdict_that_comes_too_late_is_an_alarm(graph: Graph) -> None:
    gate = LateGate(graph)
    late = gate.late_reject("p")
    assert late.revision == 2
    assert late.window_open.sec == 0 and "let on before" in late.reason
    assert gate.until_status("reject output", "LATE_REJECT p").level == b"\x02"


def test_a_late_reject_holds_the_line_once_for_each_part(graph: Graph) -> None:
    states: list[LineState] = graph.collect("line_state")
    line = {"run_on_activate": True, "allowed_callers": "['quality_gate:packml_*', 'hmi:*']"}
    graph.start("line_state:line_state", parameters=line)
    gate = LateGate(graph)

    def until_line(state: int) -> LineState:
        found: LineState = graph.until(
            lambda: states[-1] if states and states[-1].state == state else None,
            f"line state {state}",
        )
        return found

    until_line(LineState.STATE_EXECUTE)
    exposed = [Time.from_msg(gate.late_reject("p").header.stamp).nanoseconds]
    held = until_line(LineState.STATE_HELD)
    assert held.stop_source == "quality_gate" and "LATE_REJECT p: was let on" in held.stop_text
    unhold = PackMLCommand.Request(packml_command=PackMLCommand.Request.COMMAND_UNHOLD)
    unhold.command.caller, unhold.command.command_id = "hmi", "1"
    graph.call(PackMLCommand, interface("packml_command").name, unhold)
    until_line(LineState.STATE_EXECUTE)
    exposed += [Time.from_msg(gate.late_reject("q").header.stamp).nanoseconds]
    assert "LATE_REJECT q" in until_line(LineState.STATE_HELD).stop_text

    def counted() -> bool:
        values = statuses(gate.diagnostics, GATE)["line hold"].values
        return any(v.key == "held" and v.value == "2" for v in values)

    graph.until(counted, "two holds in /diagnostics")
    (log,) = (graph.folder / "state").rglob("line_state/audit.jsonl")
    entries = [json.loads(text) for text in log.read_text("utf-8").splitlines()]
    asked = [(e["command_id"], e["outcome"]) for e in entries if e["caller"] == "quality_gate"]
    wanted = [f"late-reject-{ns}-{part}" for ns, part in zip(exposed, "pq", strict=True)]
    assert asked == [(command_id, "ACCEPTED") for command_id in wanted]


def test_a_gate_that_may_not_hold_the_line_says_so_and_one_that_shall_not_does_not_try(
    graph: Graph,
) -> None:
    graph.start("line_state:line_state", parameters={"allowed_callers": "['hmi:*']"})
    gate = LateGate(graph)
    gate.late_reject("p")
    status = gate.until_status("line hold", "'quality_gate' may not call packml_command")
    assert status.level == b"\x02" and "the line runs on: p" in status.message
    assert graph.set(GATE, "hold_on_late_reject", False)[0]
    gate.late_reject("q")
    off = gate.until_status("line hold", "off")
    assert {v.key: v.value for v in off.values}["asked"] == "1"

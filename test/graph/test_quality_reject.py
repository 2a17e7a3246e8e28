"""The right part leaves the simulated belt: by delay, by encoder, and when something fails.

The test plays the inspector and says of each part what it likes; the belt's output knows windows
only. A busy machine may be late: then a good part may leave too, but a bad one never stays.
"""

from __future__ import annotations

import signal
from typing import Any

from harness import ACTIVE, Graph, statuses
from shopfloor_msgs.msg import BeltEncoder, InspectionResult, PartExit, PartVerdict, RejectCommand

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


def test_a_verdict_that_comes_too_late_is_an_alarm(graph: Graph) -> None:
    commands, diagnostics = graph.collect("reject_command"), graph.collect("diagnostics")
    row = interface("inspection_result")
    results = graph.node.create_publisher(InspectionResult, row.name, publisher_qos(row.qos))
    graph.start(
        "quality_gate:quality_gate",
        parameters={
            "reject_by": "delay", "cameras": "['camera']", "reject_distance_m": "[0.5]",
            "belt_speed_m_per_s": 1.0,
        },
    )  # fmt: skip
    graph.until_state(GATE, ACTIVE)
    graph.until(results.get_subscription_count, "the gate to listen")
    graph.until(lambda: graph.node.count_publishers(interface("reject_command").name), "commands")
    graph.until_known(GATE)

    def result(verdict: int, sequence: int) -> None:
        message = InspectionResult(part_id="p", frame_sequence=sequence, verdict=verdict)
        message.header.frame_id = "camera"
        message.header.stamp = exposed
        results.publish(message)

    exposed = graph.node.get_clock().now().to_msg()

    def first_command() -> RejectCommand | None:
        result(InspectionResult.VERDICT_PASS, 1)
        return commands[0] if commands else None

    first = graph.until(first_command, "the part's command")
    assert (first.part_id, first.action) == ("p", PASS)
    result(InspectionResult.VERDICT_FAIL, 2)
    late = graph.until(lambda: len(commands) > 1 and commands[1], "the alarm")
    assert (late.part_id, late.action, late.revision) == ("p", LATE, 2)
    assert late.window_open.sec == 0 and "let on before" in late.reason
    status = graph.until(
        lambda: (
            s if "LATE_REJECT p" in (s := statuses(diagnostics, GATE)["reject output"]).message
            else None
        ),
        "the alarm in /diagnostics",
    )  # fmt: skip
    assert status.level == b"\x02"

"""A plant file brought up for real: order, reports, commands, crashes, clashes, a clean end."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from harness import ACTIVE, Child, Graph
from shopfloor_msgs.msg import CommandResult, HostState, NodeStatus
from shopfloor_msgs.srv import ManageLine

from shopfloor.plant import bringup
from shopfloor.plant.segments import SHM_FOLDER, lock_files_of
from shopfloor.ros import commands
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.paths import models_folder
from shopfloor.ros.qos import subscription_qos

MANAGE = "/line_1/hosts/here/manage"

PLANT = """\
plant: trial
hosts:
  here: {hostname: "*", role: single, capabilities: [camera]}
cells:
  line_1:
    nodes:
      camera:
        type: camera
        parameters: {source: folder, address: PICTURES, rate_hz: 5, loop: true}
      gate: {type: quality_gate, parameters: {cameras: [camera]}}
      recorder: {type: recorder, parameters: {folder: bags, images: none}}
      manager: {type: line_manager}
processes:
  vision: {host: here, nodes: [camera, gate], restart: {backoff_s: 0.1}}
  recorder: {host: here, nodes: [recorder], essential: false}
  manager: {host: here, nodes: [manager]}
"""


class Line:
    """The plant, run by `python -m shopfloor.plant up` in the test's domain."""

    def __init__(self, graph: Graph, text: str = PLANT, **env: str) -> None:
        self.graph = graph
        self.env = env
        self.file = graph.folder / "plant.yaml"
        self.file.write_text(text.replace("PICTURES", str(graph.folder)), "utf-8")
        row = interface("host_state")
        self.states: list[Any] = []
        graph.node.create_subscription(
            message_type(row.type),
            "/line_1/" + row.resolve(host="here"),
            self.states.append,
            subscription_qos(row.qos),
        )
        self.up = self.run()

    def run(self, *more: str) -> Child:
        return self.graph.python(
            "-m", "shopfloor.plant", "up", "--plant", str(self.file), *more, env=self.env
        )

    def wait(self, state: int, cause: str = "") -> HostState:
        """The next report of `state` whose cause matches."""
        self.states.clear()

        def found() -> HostState | None:
            fits = (s for s in self.states if s.state == state and re.search(cause, s.cause))
            return next(fits, None)

        report: HostState = self.graph.until(found, f"host state {state} with {cause!r}")
        return report

    def status(self, report: HostState, name: str) -> NodeStatus:
        return next(node for node in report.nodes if node.node == f"/line_1/{name}")

    def pid(self, process: str) -> int:
        started = re.findall(rf"{process} +\* started, process (\d+)", self.up.output)
        return int(started[-1])

    def manage(self, action: int, command_id: str, **fields: Any) -> ManageLine.Response:
        request = ManageLine.Request(action=action, **fields)
        request.command.command_id = command_id
        request.command.caller = "test"
        response: ManageLine.Response = self.graph.call(ManageLine, MANAGE, request)
        return response


@pytest.fixture
def line(graph: Graph) -> Line:
    return Line(graph)


def test_up_in_order_then_a_clean_end(graph: Graph, line: Line) -> None:
    report = line.wait(HostState.STATE_RUNNING)
    assert report.host == "here"
    assert report.role == "single"
    names = ["/line_1/recorder", "/line_1/gate", "/line_1/camera"]
    assert [node.node for node in report.nodes] == names
    assert [node.executable for node in report.nodes] == ["recorder", "quality_gate", "camera"]
    assert [node.group for node in report.nodes] == ["recorder", "vision", "vision"]
    assert [node.essential for node in report.nodes] == [False, True, True]
    assert all(node.health == NodeStatus.HEALTH_OK for node in report.nodes)
    assert all(node.lifecycle_state == ACTIVE for node in report.nodes)
    gate = line.status(report, "gate")
    assert gate.pid == line.pid("vision")
    assert gate.memory_mb > 20.0
    assert gate.heartbeat_age_ms < 500.0
    assert re.findall(r"/line_1/(\w+): activate done", line.up.output) == [
        "recorder",
        "gate",
        "camera",
    ]
    pids = [line.pid(name) for name in ("vision", "recorder", "manager")]
    locks = set().union(*(lock_files_of(pid) for pid in pids))
    assert locks, "processes without shared memory would make the last check empty"
    line.up.signal(signal.SIGINT)
    assert line.up.wait() == 0, line.up.output
    assert "[ERROR]" not in line.up.output
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [name for name in locks if (SHM_FOLDER / name).exists()]


def test_a_killed_process_comes_back_and_its_segments_go(graph: Graph, line: Line) -> None:
    line.wait(HostState.STATE_RUNNING)
    pid = line.pid("vision")
    graph.until(lambda: lock_files_of(pid), "segments of the process")
    locks = lock_files_of(pid)
    # the runner looks at what its processes hold once a second; two reports are half a second apart
    count = len(line.states) + 4
    graph.until(lambda: len(line.states) >= count, "more reports")
    os.kill(pid, signal.SIGKILL)
    line.up.wait_line("vision +\\* ended by SIGKILL")
    line.up.wait_line("vision +\\* removed \\d+ shared-memory files that it left behind")
    assert not [name for name in locks if (SHM_FOLDER / name).exists()]
    line.wait(HostState.STATE_FAILED, "/line_1/gate: ended by SIGKILL")
    report = line.wait(HostState.STATE_RUNNING)
    gate = line.status(report, "gate")
    assert gate.restarts == 1
    assert gate.pid == line.pid("vision") != pid
    line.up.signal(signal.SIGTERM)
    assert line.up.wait() == 0, line.up.output


def test_stop_start_and_reset_by_service(graph: Graph, line: Line) -> None:
    line.wait(HostState.STATE_RUNNING)
    stop = ManageLine.Request.ACTION_STOP
    answer = line.manage(stop, "1")
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED
    assert answer.result.acted_stamp.sec > 0
    assert answer.host_state.state == HostState.STATE_STOPPING
    report = line.wait(HostState.STATE_STOPPED)
    assert {node.health for node in report.nodes} == {NodeStatus.HEALTH_STOPPED}
    again = line.manage(stop, "1").result
    assert again.outcome == CommandResult.OUTCOME_DUPLICATE
    assert again.first_outcome == CommandResult.OUTCOME_ACCEPTED
    os.kill(line.pid("manager"), signal.SIGKILL)
    line.up.wait_line("manager +\\* ended by SIGKILL")
    line.wait(HostState.STATE_RUNNING)
    after_crash = line.manage(stop, "1")
    assert after_crash.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert after_crash.host_state == answer.host_state
    line.manage(ManageLine.Request.ACTION_START, "2", node="/line_1/gate")
    graph.until_state("/line_1/gate", ACTIVE)
    line.manage(ManageLine.Request.ACTION_RESET, "3")
    line.wait(HostState.STATE_RUNNING)
    unknown = line.manage(stop, "4", node="/line_1/nobody").result
    assert unknown.reason == CommandResult.REASON_UNKNOWN_TARGET
    assert "/line_1/camera" in unknown.text


def test_a_node_that_cannot_configure_is_named_with_its_cause(graph: Graph) -> None:
    models = graph.folder / "models"
    good = next(models_folder().glob("*/*/model.yaml")).parent
    shutil.copytree(good, models / "broken" / "1")
    (models / "broken" / "1" / "model.onnx").write_bytes(b"not a model")
    text = PLANT.replace(
        "      gate:",
        "      inspector: {type: inspector, parameters: {camera: camera, model: broken/1}}\n"
        "      gate:",
    ).replace("[camera, gate]", "[camera, gate, inspector]", 1)
    text = text.replace("cameras: [camera, gate, inspector]", "cameras: [camera]")
    line = Line(graph, text, SHOPFLOOR_MODELS=str(models))
    report = line.wait(HostState.STATE_FAILED, "/line_1/inspector: configure failed: .*model")
    status = line.status(report, "inspector")
    assert status.health == NodeStatus.HEALTH_FAILED
    graph.until(
        lambda: line.status(line.states[-1], "gate").health == NodeStatus.HEALTH_OK,
        "the gate to work without it",
    )
    shutil.copy(good / "model.onnx", models / "broken" / "1")
    line.wait(HostState.STATE_RUNNING)


def test_a_second_graph_on_the_domain_is_refused(graph: Graph, line: Line) -> None:
    line.wait(HostState.STATE_RUNNING)
    second = line.run()
    assert second.wait() == 2
    assert f"on ROS domain {graph.domain_id} these nodes run already" in second.output
    assert "/line_1/camera" in second.output
    assert f"process {line.up.process.pid}" in second.output
    assert "started" not in second.output
    line.wait(HostState.STATE_RUNNING)


def test_a_node_started_by_hand_with_a_taken_name_is_told(graph: Graph, line: Line) -> None:
    line.wait(HostState.STATE_RUNNING)
    intruder = graph.start("quality_gate:/line_1/gate", parameters={"autostart": False})
    line.wait(HostState.STATE_FAILED, "/line_1/gate: two nodes of this name run")
    intruder.signal(signal.SIGINT)
    assert intruder.wait() == 0
    line.wait(HostState.STATE_RUNNING)


def test_a_taken_camera_socket_is_a_cause_not_a_mix_up(graph: Graph) -> None:
    text = PLANT.replace("type: camera\n", "type: line_simulator\n").replace(
        "source: folder, address: PICTURES, rate_hz: 5, loop: true", "width: 160, height: 160"
    )
    other = graph.start("line_simulator:/other/belt", parameters={"width": 160, "height": 160})
    graph.until_state("/other/belt", ACTIVE)
    line = Line(graph, text)
    report = line.wait(HostState.STATE_FAILED, "/line_1/camera: activate failed: .*sock")
    assert line.status(report, "camera").health == NodeStatus.HEALTH_FAILED
    other.signal(signal.SIGINT)
    assert other.wait() == 0
    line.wait(HostState.STATE_RUNNING)


def test_only_one_node_starts_by_itself(graph: Graph) -> None:
    line = Line(graph)
    line.wait(HostState.STATE_RUNNING)
    line.up.signal(signal.SIGINT)
    assert line.up.wait() == 0
    alone = line.run("--only", "gate")
    graph.until_state("/line_1/gate", ACTIVE)
    assert "recorder" not in alone.output
    alone.signal(signal.SIGINT)
    assert alone.wait() == 0


def test_numbers_are_those_of_the_messages() -> None:
    for ours, prefix, message in (
        (bringup.Health, "HEALTH_", NodeStatus),
        (bringup.HostHealth, "STATE_", HostState),
        (bringup.Action, "ACTION_", ManageLine.Request),
        (commands.Outcome, "OUTCOME_", CommandResult),
        (commands.Reason, "REASON_", CommandResult),
    ):
        for member in ours:
            assert member.value == getattr(message, prefix + member.name), member

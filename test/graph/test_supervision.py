"""Processes that die, hang, stop, swell or fail, for real: each is named, ended and back again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from harness import Graph, statuses
from shopfloor_msgs.msg import HostState, NodeStatus
from test_bringup_line import Line

PLANT = """\
plant: trial
hosts:
  here: {hostname: "*", role: single}
cells:
  line_1:
    nodes:
      gate: {type: quality_gate}
      recorder: {type: recorder, parameters: {folder: bags, images: none}}
      manager: {type: line_manager}
processes:
  gate: {host: here, nodes: [gate], memory_mb: 500, restart: {backoff_s: 0.1, limit: 20}}
  recorder: {host: here, nodes: [recorder], essential: false, restart: {limit: 0}}
  manager: {host: here, nodes: [manager], restart: {backoff_s: 0.1}}
"""


class FaultyLine(Line):
    """The plant, with processes that carry out faults."""

    def __init__(self, graph: Graph) -> None:
        self.fault_file = graph.folder / "fault"
        faults = str(Path(__file__).parent / "faults")
        paths = [faults, *filter(None, [os.environ.get("PYTHONPATH")])]
        super().__init__(
            graph, PLANT, PYTHONPATH=":".join(paths), SHOPFLOOR_TEST_FAULT=str(self.fault_file)
        )

    def plant(self, fault: str, process: str = "gate") -> None:
        """Let a process fail in this way."""
        self.fault_file.write_text(fault)
        os.kill(self.pid(process), signal.SIGUSR1)

    def back(self, before: int) -> NodeStatus:
        """Wait until the gate is in service again, in another process than `before`."""
        self.graph.until(lambda: self.pid("gate") != before, "a new process")
        pid = self.pid("gate")

        def found() -> NodeStatus | None:
            if not self.states or self.states[-1].state != HostState.STATE_RUNNING:
                return None
            status = self.status(self.states[-1], "gate")
            return status if status.pid == pid else None

        status: NodeStatus = self.graph.until(found, "the gate in service again")
        return status


@pytest.fixture
def line(graph: Graph) -> FaultyLine:
    made = FaultyLine(graph)
    made.wait(HostState.STATE_RUNNING)
    return made


def test_killed_stopped_and_swollen_processes_are_named_and_come_back(line: FaultyLine) -> None:
    for number, cause in (
        (signal.SIGKILL, "/line_1/gate: ended by SIGKILL; "),
        (signal.SIGSTOP, "/line_1/gate: process PID is stopped by a signal"),
    ):
        pid = line.pid("gate")
        os.kill(pid, number)
        line.wait(HostState.STATE_FAILED, cause.replace("PID", str(pid)))
        line.back(pid)
    line.up.wait_line(r"gate +\* stopped by a signal for .* s; gets SIGKILL")
    pid = line.pid("gate")
    line.plant("memory")
    line.wait(HostState.STATE_FAILED, r"over its memory limit: \d+ MB of 500 MB; ended by SIGKILL")
    assert line.back(pid).restarts == 3


def test_a_callback_that_does_not_end_is_named_with_its_place(line: FaultyLine) -> None:
    for fault in ("loop_for_ever", "wait_for_ever"):
        pid = line.pid("gate")
        line.plant(fault)
        flagged = line.wait(HostState.STATE_FAILED, "/line_1/gate: no heartbeat .* callback in it")
        assert line.status(flagged, "gate").health == NodeStatus.HEALTH_STALE
        line.wait(HostState.STATE_FAILED, rf"stuck: no progress .*, {fault}; ended by SIGABRT")
        line.back(pid)


def test_an_exception_is_told_a_stuck_worker_and_a_dead_thread_end_their_process(
    graph: Graph, line: FaultyLine
) -> None:
    diagnostics = graph.collect("diagnostics")
    pid = line.pid("gate")
    line.plant("exception")
    needle = "exception in callback once: ValueError: planted in a callback"
    gate = line.status(line.wait(HostState.STATE_DEGRADED, needle), "gate")
    assert (gate.health, gate.pid) == (NodeStatus.HEALTH_DEGRADED, pid)
    graph.until(
        lambda: needle in statuses(diagnostics, "/line_1/manager")["/line_1/gate"].message,
        "the cause in the line manager's diagnostics",
    )
    line.plant("worker")
    line.wait(HostState.STATE_DEGRADED, "/line_1/gate: worker 'planted' is stuck")
    line.wait(HostState.STATE_FAILED, "worker 'planted' is stuck: .*; ended by SIGABRT")
    line.back(pid)
    pid = line.pid("gate")
    line.plant("thread")
    line.wait(HostState.STATE_FAILED, "ended with exit code 1: RuntimeError: planted in a thread")
    line.back(pid)


def test_a_node_that_stays_down_degrades_the_line_and_status_shows_it(
    graph: Graph, line: FaultyLine
) -> None:
    os.kill(line.pid("recorder"), signal.SIGKILL)
    line.wait(HostState.STATE_DEGRADED, "/line_1/recorder: ended by SIGKILL; it stays down")
    assert line.up.process.poll() is None
    status = graph.python(
        *("-m", "shopfloor.plant", "status", "--plant", str(line.file)),
        *("--once", "--json", "--wait", "30"),
    )
    assert status.wait() == 1, status.output
    (host,) = json.loads(status.output)["hosts"]
    assert (host["host"], host["state"]) == ("here", "DEGRADED")
    nodes = {node["node"]: node for node in host["nodes"]}
    assert nodes["/line_1/gate"]["health"] == "OK"
    assert nodes["/line_1/gate"]["state"] == "active"
    assert nodes["/line_1/gate"]["pid"] == line.pid("gate")
    assert nodes["/line_1/recorder"]["health"] == "FAILED"
    assert "it stays down" in nodes["/line_1/recorder"]["cause"]

"""What every node promises: parameters, lifecycle, sign of life, a clean end."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from harness import (
    ACTIVATE,
    ACTIVE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    INACTIVE,
    UNCONFIGURED,
    Graph,
    statuses,
)
from rclpy.event_handler import SubscriptionEventCallbacks

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import INTERFACES, Kind, interface
from shopfloor.ros.qos import publisher_qos, subscription_qos

GATE = "/quality_gate"


def test_lifecycle_from_outside_and_parameters_at_run_time(graph: Graph) -> None:
    graph.start("quality_gate:quality_gate", parameters={"autostart": False})
    assert graph.state(GATE) == UNCONFIGURED
    assert graph.set(GATE, "cameras", ["left", "right"]) == (True, "")
    assert graph.change(GATE, CONFIGURE)
    assert graph.state(GATE) == INACTIVE
    ok, reason = graph.set(GATE, "cameras", ["left"])
    assert not ok and "clean up the node first" in reason
    assert graph.change(GATE, ACTIVATE)
    assert graph.set(GATE, "deadline_ms", 250) == (True, "")
    ok, reason = graph.set(GATE, "deadline_ms", -1.0)
    assert not ok and "Min: 1.0, Max: 600000.0" in reason
    ok, reason = graph.set(GATE, "deadlin_ms", 5.0)
    assert not ok
    for _ in range(3):
        assert graph.change(GATE, DEACTIVATE)
        assert graph.change(GATE, CLEANUP)
        assert graph.state(GATE) == UNCONFIGURED
        assert graph.change(GATE, CONFIGURE)
        assert graph.change(GATE, ACTIVATE)
    assert graph.state(GATE) == ACTIVE


def test_a_transition_that_the_state_does_not_allow_is_answered(graph: Graph) -> None:
    child = graph.start("quality_gate:quality_gate", parameters={"autostart": False})
    assert not graph.change(GATE, ACTIVATE)
    assert "transition 3 refused in state 'unconfigured'" in child.wait_line("refused")
    assert graph.change(GATE, CONFIGURE)
    assert not graph.change(GATE, CONFIGURE)
    assert graph.state(GATE) == INACTIVE


@pytest.mark.parametrize(
    ("key", "value", "needle"),
    [
        ("deadline_ms", 0.0, "0.0 is not allowed; allowed: float from 1 to 600000 ms"),
        ("deadline_ms", "'soon'", "'soon' is not allowed"),
        ("camera", "left", "did you mean 'cameras'?"),
    ],
)
def test_a_wrong_parameter_is_a_diagnosed_state_and_can_be_set_right(
    graph: Graph, key: str, value: object, needle: str
) -> None:
    diagnostics = graph.collect("diagnostics")
    child = graph.start("quality_gate:quality_gate", parameters={key: value})
    line = child.wait_line("configure failed")
    assert needle in line
    graph.until(
        lambda: needle in statuses(diagnostics, GATE)["state"].message,
        "the cause in /diagnostics",
    )
    assert statuses(diagnostics, GATE)["state"].level == b"\x02"
    assert child.process.poll() is None
    if key == "deadline_ms":
        assert graph.set(GATE, key, 100.0) == (True, "")
        graph.until_state(GATE, ACTIVE)
        graph.until(
            lambda: statuses(diagnostics, GATE)["state"].level == b"\x00", "OK in /diagnostics"
        )


def test_several_nodes_in_one_process_fail_apart(graph: Graph) -> None:
    child = graph.start(
        "quality_gate:good", "recorder:bad", parameters={"folder": "/proc/nowhere", "name": "x"}
    )
    # `folder` is no parameter of the gate: both report their own trouble, and stay.
    child.wait_line(r"\[good\].*unknown parameter|folder: unknown parameter")
    child.wait_line("cannot write a bag at /proc/nowhere/x")
    assert graph.state("/good") == UNCONFIGURED
    assert graph.state("/bad") in (UNCONFIGURED, INACTIVE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_running_node_clean(graph: Graph, number: int) -> None:
    child = graph.start("quality_gate:quality_gate")
    graph.until_state(GATE, ACTIVE)
    child.signal(number)
    assert child.wait() == 0
    assert "Traceback" not in child.output


def test_a_worker_that_does_not_come_out_of_native_code_is_left_behind_clean(graph: Graph) -> None:
    fault, beats = graph.folder / "fault", graph.collect("heartbeat")
    fault.write_text("inference")
    path = os.pathsep.join([str(Path(__file__).with_name("faults")), *sys.path])
    graph.environment |= {"PYTHONPATH": path, "SHOPFLOOR_TEST_FAULT": str(fault)}
    child = graph.start("quality_gate:quality_gate")
    graph.until_state(GATE, ACTIVE)
    child.signal(signal.SIGUSR1)
    graph.until(lambda: beats and any(w.busy for w in beats[-1].workers), "the worker's inference")
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.output
    assert "worker 'planted' does not end" in child.output


def test_a_signal_at_any_moment_of_the_start_ends_it(graph: Graph) -> None:
    rng = random.Random(3)
    for _ in range(8):
        child = graph.start("quality_gate:quality_gate")
        time.sleep(rng.uniform(0.0, 1.2))  # the moment is the input of this test
        child.signal(signal.SIGTERM)
        assert child.wait(timeout_s=10.0) in (0, -signal.SIGTERM)
        assert "Traceback" not in child.output


def test_heartbeats_come_and_their_loss_is_seen(graph: Graph) -> None:
    row = interface("heartbeat")
    beats: list[object] = []
    lost: list[float] = []
    graph.node.create_subscription(
        message_type(row.type),
        row.name,
        beats.append,
        subscription_qos(row.qos),
        event_callbacks=SubscriptionEventCallbacks(
            liveliness=lambda event: (
                lost.append(time.monotonic())
                if event.not_alive_count_change > 0 or event.alive_count_change < 0
                else None
            )
        ),
    )
    child = graph.start("quality_gate:quality_gate")
    graph.until(lambda: len(beats) >= 5, "five heartbeats")
    assert [b.count for b in beats[-2:]] == [beats[-2].count, beats[-2].count + 1]  # type: ignore[attr-defined]
    killed = time.monotonic()
    child.signal(signal.SIGKILL)
    graph.until(lambda: lost, "the loss of liveliness")
    assert lost[0] - killed < 5.0


def test_offered_and_requested_qos_of_the_table_are_compatible() -> None:
    from rclpy.qos import QoSCompatibility, qos_check_compatible

    for row in INTERFACES:
        if row.kind is Kind.TOPIC:
            verdict, reason = qos_check_compatible(
                publisher_qos(row.qos), subscription_qos(row.qos)
            )
            assert verdict is not QoSCompatibility.ERROR, f"{row.key}: {reason}"


def test_every_type_of_the_table_exists() -> None:
    for row in INTERFACES:
        # No wheels have it; the inspector publishes that topic only where the package is there.
        if row.type.startswith("vision_msgs/") and find_spec("vision_msgs") is None:
            continue
        assert message_type(row.type)

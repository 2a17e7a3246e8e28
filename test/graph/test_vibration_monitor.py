"""vibration_monitor over real topics: every defect at full rate, faults, services, silence."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import ACTIVE, Graph, statuses
from rclpy.time import Time
from shopfloor_msgs.msg import Command, CommandResult, MachineHealth, SignalQuality
from shopfloor_msgs.srv import AcknowledgeAlert, LearnBaseline

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos
from shopfloor.sim.acquisition import ACQUISITION_FAULTS, Acquisition, RawBlock
from shopfloor.sim.machines import MACHINES, MachineFault, MachineStream
from shopfloor.vibration import messages, wire
from shopfloor.vibration.analysis import SpeedSource
from shopfloor.vibration.signal import Block, Unit

MONITOR = "/vibration_monitor"
RATE, SIZE, STEP_NS = 10_000.0, 1000, 100_000_000
FULL_SCALE = 490.0


class Floor:
    """Plays sensors of one machine, faster than real time, and hears the monitor.

    Stamps and arrivals in the blocks tell the simulated time, as they do in a bag that is replayed.
    """

    def __init__(self, graph: Graph, sensors: int = 1, **parameters: object) -> None:
        self.graph = graph
        self.features = graph.collect("vibration_features")
        self.health = graph.collect("machine_health", machine="pump_1")
        self.diagnostics = graph.collect("diagnostics")
        self._blocks, self._speeds = (
            self._publisher("vibration_block"),
            self._publisher("tachometer"),
        )
        names = [f"s{k}" for k in range(sensors)]
        self.streams = {name: MachineStream(MACHINES[0], k) for k, name in enumerate(names)}
        self._acquisitions = {name: Acquisition(k) for k, name in enumerate(names)}
        self.sequence, self.now_ns = 0, time.time_ns()
        settings = {"learn_windows": 30, "persistence_windows": 5, "watch_windows": 4,
                    "silent_s": 600.0, **parameters}  # fmt: skip
        graph.start("vibration_monitor:vibration_monitor", parameters=settings)
        graph.until_state(MONITOR, ACTIVE)
        for publisher in (self._blocks, self._speeds):
            graph.until(publisher.get_subscription_count, "the monitor to listen")
        for key, names_ in (("vibration_features", {}), ("machine_health", {"machine": "pump_1"})):
            name = interface(key).resolve(**names_)
            graph.until(lambda name=name: graph.node.count_publishers(name), f"{key} to be offered")

    def _publisher(self, key: str) -> Any:
        row = interface(key)
        return self.graph.node.create_publisher(
            message_type(row.type), row.name, publisher_qos(row.qos)
        )

    def send(self, blocks: int, kind: str = "") -> None:
        """So many blocks of every sensor, spoiled by an acquisition fault."""
        for _ in range(blocks):
            for name, stream in self.streams.items():
                raw = RawBlock(stream.take(SIZE), self.sequence, self.now_ns, FULL_SCALE)
                delay_ns = 1_500_000_000 if kind == "late" else 5_000_000
                if kind in ACQUISITION_FAULTS:
                    raw = self._acquisitions[name].spoil(raw, kind)
                block = Block(
                    "pump_1", name, raw.sequence, raw.stamp_ns, self.now_ns + STEP_NS + delay_ns,
                    RATE, ("x", "y", "z"), Unit.ACCELERATION, raw.data, raw.full_scale, raw.bias_v,
                )  # fmt: skip
                message = messages.block_message(block)
                message.samples_per_channel = raw.claimed_samples or SIZE
                for _ in range(raw.copies):
                    self._blocks.publish(message)
                if self.sequence % 10 == 0:
                    rpm = stream.speed_rpm
                    self._speeds.publish(messages.tachometer(block, rpm, int(SpeedSource.MEASURED)))
            self.sequence += 1
            self.now_ns += STEP_NS
            for _ in range(2):  # one callback each: what comes back must not pile up
                self.graph._executor.spin_once(timeout_sec=0)

    def second(self, kind: str = "") -> None:
        """A second of blocks; waits until a window that ends in it was judged for each sensor."""
        self.send(10, kind)
        if kind in ("silent", "lost", "format", "backwards", "jump"):
            return
        first = self.sequence - 10
        self.graph.until(
            lambda: (
                {f.sensor_id for f in self.features if f.last_sequence >= first}
                == set(self.streams)
            ),
            f"windows that end with block {first} or later",
        )
        self.graph.until(lambda: self.health, "health")

    def defect_counts(self) -> dict[str, int]:
        values = statuses(self.diagnostics, MONITOR)["signals"].values
        return {v.key[7:]: int(v.value) for v in values if v.key.startswith("defect ")}

    def learn(self) -> None:
        self.send(300)
        self.second()
        assert self.health[-1].baseline == MachineHealth.BASELINE_FROZEN

    def until_health(self, seconds: int, fits: Callable[[MachineHealth], bool]) -> MachineHealth:
        for _ in range(seconds):
            self.second()
            if self.health and fits(self.health[-1]):
                return self.health[-1]
        raise AssertionError(f"not within {seconds} simulated s: {self.health[-1]}")


DEFECTS = {
    "nan": "NAN", "nan_run": "NAN", "flatline": "FLATLINE", "open_bias": "OPEN_BIAS",
    "saturation": "SATURATION", "unplugged": "HUM", "lost": "GAP", "repeated": "NON_MONOTONIC",
    "backwards": "NON_MONOTONIC", "jump": "TIME_JUMP", "time_zone": "ZONE_OFFSET",
    "second": "SECOND_OFFSET", "late": "LATE", "format": "FORMAT", "drift": "CLOCK_DRIFT",
}  # fmt: skip
DRIFT_S = 66
"""A drift is only one after a minute."""


@pytest.mark.timeout(240)
def test_every_defect_at_full_rate_is_counted_and_over_after_one_window(graph: Graph) -> None:
    floor = Floor(graph, sensors=2)
    for _ in range(3):
        floor.second()
    for kind, defect in DEFECTS.items():
        before = len(floor.features)
        floor.send(10 * DRIFT_S if kind == "drift" else 20, kind)
        over = floor.sequence
        floor.second()  # the rest of a broken window goes here
        floor.second()
        found = floor.features[before:]
        flag = getattr(SignalQuality, f"DEFECT_{defect}")
        if kind != "repeated":
            unknown = [f for f in found if f.quality.status == SignalQuality.STATUS_UNKNOWN]
            assert any(f.quality.defects & flag for f in unknown), kind
            assert all(f.quality.reason for f in unknown)
            assert all(math.isnan(a.rms) for f in unknown for a in f.axes
                       if a.quality.status == SignalQuality.STATUS_UNKNOWN)  # fmt: skip
        # The first whole window behind the defect is good, for every sensor.
        after = [f for f in found if f.first_sequence >= over and f.window_s > 0]
        assert {f.sensor_id for f in after} == set(floor.streams), kind
        assert all(f.quality.status == SignalQuality.STATUS_VALID for f in after), kind
    counts: dict[str, int] = {}

    def counted() -> bool:
        counts.update(floor.defect_counts())
        return set(DEFECTS.values()) <= set(counts)

    graph.until(counted, f"every defect in /diagnostics, so far {counts}")
    assert graph.state(MONITOR) == ACTIVE


def test_a_bearing_fault_becomes_a_work_order_and_a_person_ends_it(graph: Graph) -> None:
    floor = Floor(graph)
    floor.learn()
    floor.streams["s0"].fault = MachineFault("inner_race", 2.0)
    health = floor.until_health(20, lambda h: h.tier == MachineHealth.TIER_WORK_ORDER)
    assert health.diagnosis == MachineHealth.DIAGNOSIS_INNER_RACE
    assert health.diagnosis_margin >= health.diagnosis_margin_required
    assert health.alert_id and "inner race" in health.work_order
    assert health.contributions[0].text.count("dB")

    def acknowledge(person: str, alert_id: str, command_id: str) -> CommandResult:
        request = AcknowledgeAlert.Request(alert_id=alert_id)
        request.command = Command(command_id=command_id, caller="hmi", person=person)
        return graph.call(AcknowledgeAlert, f"{MONITOR}/acknowledge_alert", request).result

    refused = acknowledge("", health.alert_id, "1")
    assert refused.reason == CommandResult.REASON_INVALID_ARGUMENT
    unknown = acknowledge("J. Doe", "no such alert", "2")
    assert unknown.reason == CommandResult.REASON_UNKNOWN_TARGET
    assert acknowledge("J. Doe", health.alert_id, "3").outcome == CommandResult.OUTCOME_ACCEPTED
    again = acknowledge("J. Doe", health.alert_id, "3")
    assert again.outcome == CommandResult.OUTCOME_DUPLICATE
    graph.until(lambda: floor.health[-1].acknowledged_by == "J. Doe", "the name in the health")
    floor.streams["s0"].fault = None
    health = floor.until_health(20, lambda h: h.tier == MachineHealth.TIER_NORMAL)
    assert not health.alert_id


def test_baselines_by_service_and_after_a_crash(graph: Graph) -> None:
    floor = Floor(graph, learn_automatically=False)
    floor.second()
    assert floor.health[-1].baseline == MachineHealth.BASELINE_MISSING

    def ask(
        action: int, command_id: str, machine: str = "pump_1", expected: int = 0
    ) -> LearnBaseline.Response:
        request = LearnBaseline.Request(action=action, machine_id=machine)
        request.command = Command(command_id=command_id, caller="hmi", expected_state=expected)
        return graph.call(LearnBaseline, f"{MONITOR}/learn_baseline", request)

    unknown = ask(LearnBaseline.Request.ACTION_LEARN, "1", "nobody").result
    assert unknown.reason == CommandResult.REASON_UNKNOWN_TARGET
    frozen = MachineHealth.BASELINE_FROZEN
    other = ask(LearnBaseline.Request.ACTION_LEARN, "1b", expected=frozen).result
    assert other.reason == CommandResult.REASON_STATE_MISMATCH
    assert other.state == MachineHealth.BASELINE_MISSING
    missing = MachineHealth.BASELINE_MISSING
    learning = ask(LearnBaseline.Request.ACTION_LEARN, "2", expected=missing).result
    assert learning.outcome == CommandResult.OUTCOME_ACCEPTED
    assert learning.state == MachineHealth.BASELINE_LEARNING
    floor.second()
    early = ask(LearnBaseline.Request.ACTION_FREEZE, "3").result
    assert early.reason == CommandResult.REASON_INVALID_TRANSITION and "30" in early.text
    floor.send(310)
    floor.second()
    done = ask(LearnBaseline.Request.ACTION_FREEZE, "4", expected=learning.state)
    assert done.result.outcome == CommandResult.OUTCOME_ACCEPTED
    assert done.result.state == frozen
    assert done.windows_learned >= done.windows_needed
    child = graph._children[-1]
    child.process.kill()
    child.wait()
    settings = {"learn_automatically": False, "silent_s": 600.0}
    graph.start("vibration_monitor:vibration_monitor", parameters=settings)
    graph.until_state(MONITOR, ACTIVE)
    graph.until(floor._blocks.get_subscription_count, "the new monitor to listen")
    health = floor.until_health(20, lambda h: h.tier == MachineHealth.TIER_NORMAL)
    assert health.baseline == MachineHealth.BASELINE_FROZEN


def test_a_silent_sensor_is_unknown_and_nonsense_is_refused(graph: Graph) -> None:
    floor = Floor(graph, silent_s=1.0, max_sensors=1)
    floor.second()
    graph.until(lambda: "no blocks for" in floor.health[-1].reason, "the silence to be said")
    assert floor.health[-1].tier == MachineHealth.TIER_UNKNOWN
    block = Block("m", "other", 0, 1, 1, RATE, ("x",), Unit.ACCELERATION,
                  np.zeros((1, 10), np.float32))  # fmt: skip
    floor._blocks.publish(messages.block_message(block))
    nameless = messages.block_message(block)
    nameless.sensor_id = ""
    floor._blocks.publish(nameless)
    floor._speeds.publish(messages.tachometer(block, math.nan, 1))
    refused = {"block refused", "block without sensor or machine", "speed refused"}
    graph.until(
        lambda: refused <= {v.key for v in statuses(floor.diagnostics, MONITOR)["events"].values},
        "all three in /diagnostics",
    )
    floor.second()
    assert floor.features[-1].quality.status == SignalQuality.STATUS_VALID


def test_udp_and_files_reach_the_monitor(graph: Graph, tmp_path: Path) -> None:
    floor = Floor(graph)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    graph.start("vibration_source:udp", parameters={"address": f"127.0.0.1:{port}"})
    stream = MachineStream(MACHINES[0], 4)
    np.save(tmp_path / "x.npy", stream.take(20_000) / np.float32(9.80665))
    graph.start(
        "vibration_source:file",
        parameters={
            "source": "file", "address": str(tmp_path / "x.npy"), "rate_hz": RATE, "unit": "g",
            "machine_id": "m2", "sensor_id": "file", "speed_rpm": 1460.0, "speedup": 5.0,
        },
    )  # fmt: skip
    for node in ("/udp", "/file"):
        graph.until_state(node, ACTIVE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        k = 0

        def both() -> bool:
            nonlocal k
            block = Block("m1", "udp", k, time.time_ns() - STEP_NS, 0, RATE, ("x", "y", "z"),
                          Unit.ACCELERATION, stream.take(SIZE))  # fmt: skip
            sender.sendto(wire.encode(block, 1460.0), ("127.0.0.1", port))
            sender.sendto(b"SFVB nonsense", ("127.0.0.1", port))
            k += 1
            return {"udp", "file"} <= {f.sensor_id for f in floor.features}

        graph.until(both, "features of both sensors")
    good = next(f for f in floor.features if f.sensor_id == "file" and f.quality.status == 1)
    assert good.axes[0].rms == pytest.approx(0.5, rel=0.5), "g became m/s^2"
    assert good.speed_rpm == pytest.approx(1460.0)
    assert Time.from_msg(good.header.stamp).nanoseconds > 0
    graph.until(
        lambda: "datagram" in {v.key for v in statuses(floor.diagnostics, "/udp")["events"].values},
        "the nonsense in /diagnostics",
    )


def test_a_serial_port_is_read_unplugged_and_read_again(graph: Graph, tmp_path: Path) -> None:
    blocks, diagnostics = graph.collect("vibration_block"), graph.collect("diagnostics")
    port = tmp_path / "by-id"
    graph.start("vibration_source:serial", parameters={"source": "serial", "address": str(port)})
    graph.until_state("/serial", ACTIVE)

    def source() -> Any:
        return statuses(diagnostics, "/serial")["source"]

    graph.until(lambda: source().level == DiagnosticStatus.ERROR, "the missing port to be said")
    assert "by-id" in source().message
    stream = MachineStream(MACHINES[0], 4, sample_rate_hz=1000.0)
    sequence = 0

    def frame() -> bytes:
        nonlocal sequence
        block = Block("m", "serial", sequence, 0, 0, 1000.0, ("x",), Unit.ACCELERATION,
                      stream.take(100)[:1], 490.0)  # fmt: skip
        sequence += 1
        return wire.slip(wire.encode(block, 1460.0, int16=True))

    for _ in range(3):
        master, slave = os.openpty()
        link = tmp_path / "new"
        link.symlink_to(os.ttyname(slave))
        link.replace(port)
        os.set_blocking(master, False)
        before = len(blocks)

        def heard(master: int = master, before: int = before) -> bool:
            with contextlib.suppress(BlockingIOError):  # nobody reads yet: half a frame goes in
                os.write(master, b"garbage" + frame()[100:] + frame())
            return len(blocks) >= before + 3

        graph.until(heard, "three blocks over the port")
        graph.until(lambda: source().level != DiagnosticStatus.ERROR, "the port to be well")
        with contextlib.suppress(BlockingIOError):
            os.write(master, frame()[:100])  # and the cable is pulled
        os.close(slave)
        os.close(master)
        graph.until(lambda: source().level == DiagnosticStatus.ERROR, "the lost port to be said")
    assert all(block.sensor_id == "serial" and len(block.data) == 100 for block in blocks)
    assert {block.unit for block in blocks} == {1}
    events = {v.key: v.value for v in statuses(diagnostics, "/serial")["events"].values}
    assert {"datagram", "serial port"} <= set(events)
    assert graph.state("/serial") == ACTIVE

"""thermal_watchdog over real DDS, on a simulated board: faults, rungs, an inspector that obeys."""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from harness import ACTIVATE, ACTIVE, DEACTIVATE, Graph, statuses
from rclpy.time import Time
from shopfloor_msgs.msg import CommandResult, InspectionResult, StageTime, ThermalState, ThermalZone
from shopfloor_msgs.srv import SetRung

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos, subscription_qos
from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, throttling_from
from shopfloor.thermal import board_file
from shopfloor.thermal.learning import GRID, BoardMemory

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import picture, write_package

HOST = "board"
_ids = itertools.count(1)


class Watch:
    """A watchdog over a board whose temperature the test sets, and what it says."""

    def __init__(self, graph: Graph, folder: Path, *nodes: str, **parameters: object) -> None:
        self.graph = graph
        self.plant = ThermalPlant(throttling_from(32.0, BoardSpec()))
        self.tree = BoardTree(folder / "root", self.plant, noise_celsius=0.0)
        self.heat(60.0)
        self.states = graph.collect("thermal_state", host=HOST)
        self.diagnostics = graph.collect("diagnostics")
        self.parameters: dict[str, object] = {
            "host_name": HOST, "watchdog:system_root": folder / "root", "watchdog:nvml": False,
            **parameters,
        }  # fmt: skip
        self.process = graph.start("thermal_watchdog:watchdog", *nodes, parameters=self.parameters)
        graph.until_state("/watchdog", ACTIVE)
        self.until(lambda s: s.zones, "a first state")

    def heat(self, celsius: float) -> None:
        self.plant.die_celsius = self.plant.sink_celsius = celsius
        self.tree.update()

    def until(self, predicate: Any, what: str) -> Any:
        self.graph.until(lambda: self.states and predicate(self.states[-1]), what)
        return self.states[-1]

    def set_rung(self, **fields: Any) -> SetRung.Response:
        request = SetRung.Request(release=fields.pop("release", False))
        request.command.command_id = fields.pop("id", None) or str(next(_ids))
        request.command.caller = "hmi1"
        request.command.person = fields.pop("person", "Kim")
        request.command.reason = fields.pop("reason", "trial")
        for name, value in fields.items():
            setattr(request, name, value)
        return self.graph.call(SetRung, interface("set_rung").resolve(host=HOST), request)


def zone(state: ThermalState, name: str) -> ThermalZone:
    return next(z for z in state.zones if z.name == name)


def test_the_inspector_follows_an_announced_step(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), picture((1, 1, 1, 100)))
    results = graph.collect("inspection_result")
    watch = Watch(
        graph, tmp_path, "camera:camera", "inspector:inspector",
        **{
            "camera:source": "folder", "camera:address": folder, "camera:loop": True,
            "camera:rate_hz": 10.0, "inspector:model": write_package(tmp_path / "model"),
            "watchdog:rung_p99_ms": "[5000.0,5000.0,0.0]",
        },
    )  # fmt: skip
    graph.until(lambda: results and results[-1].provenance.rung == 0, "results at full speed")
    state = watch.until(lambda s: not math.isnan(s.measured_fps), "the rate of the inspector")
    assert (state.rung, state.cause) == (0, ThermalState.CAUSE_NONE)
    assert state.power_mode == "MAXN" and state.throttle_known

    limit = zone(state, "gpu-thermal").limit_celsius
    watch.heat(limit - 1.0 - min(watch.tree._offsets.values()) - 1.0)
    said = watch.until(lambda s: s.next_rung == 1, "the announcement")
    assert said.rung == 0 and said.next_guaranteed_fps == 15.0 and said.guaranteed_fps == 30.0
    notice_ns = Time.from_msg(said.next_rung_stamp) - Time.from_msg(said.header.stamp)
    assert notice_ns.nanoseconds / 1e9 > 10.0
    state = watch.until(lambda s: s.rung == 1, "the step")
    assert state.cause == ThermalState.CAUSE_THERMAL and state.cause_text
    assert Time.from_msg(state.rung_since) >= Time.from_msg(said.next_rung_stamp)
    graph.until(lambda: results[-1].provenance.rung == 1, "a result at the new rung")
    assert abs(results[-1].provenance.board_temperature_celsius - limit) < 3.0


def test_every_fault_is_named_and_never_ok(graph: Graph, tmp_path: Path) -> None:
    watch = Watch(graph, tmp_path)
    faults = {
        "cpu-thermal": ("missing", ThermalZone.FAULT_MISSING),
        "gpu-thermal": ("offline", ThermalZone.FAULT_OFFLINE),
        "soc0-thermal": ("absurd", ThermalZone.FAULT_ABSURD),
    }
    for name, (kind, _) in faults.items():
        watch.tree.set_fault(name, kind)
    state = watch.until(
        lambda s: all(zone(s, n).fault == f for n, (_, f) in faults.items()), "three faults"
    )
    assert state.rung == 0, "two zones are left"
    for name in faults:
        assert zone(state, name).level == ThermalZone.LEVEL_UNKNOWN
        assert math.isnan(zone(state, name).temperature_celsius)
    status = graph.until(
        lambda: (s := statuses(watch.diagnostics, "watchdog")["temperature"]).message.startswith(
            "not known"
        ) and s,
        "the faults in /diagnostics",
    )  # fmt: skip
    assert status.level == DiagnosticStatus.WARN
    for name in ZONES:
        watch.tree.set_fault(name, "offline")
    state = watch.until(lambda s: s.rung == 1, "the cautious rung")
    assert state.cause == ThermalState.CAUSE_UNKNOWN
    assert math.isnan(state.board_temperature_celsius) and math.isnan(state.headroom_celsius)
    graph.until(
        lambda: (
            statuses(watch.diagnostics, "watchdog")["temperature"].level == DiagnosticStatus.ERROR
        ),
        "ERROR in /diagnostics",
    )
    answer = watch.set_rung(rung=0, duration_s=10.0)
    assert answer.result.reason == CommandResult.REASON_INTERLOCK


def test_a_sensor_that_hangs_makes_all_stale_and_the_node_lives(
    graph: Graph, tmp_path: Path
) -> None:
    watch = Watch(graph, tmp_path)
    beats = graph.collect("heartbeat")
    watch.tree.set_fault("gpu-thermal", "hung")
    state = watch.until(
        lambda s: all(z.fault == ThermalZone.FAULT_STALE for z in s.zones), "all zones stale"
    )
    state = watch.until(lambda s: s.rung == 1, "the cautious rung")
    assert state.cause == ThermalState.CAUSE_UNKNOWN
    oldest = max(z.age_ms for z in state.zones)
    assert oldest > 500.0
    count = len(beats)
    graph.until(lambda: len(beats) > count + 5, "heartbeats go on")
    watch.tree.set_fault("gpu-thermal")
    watch.until(
        lambda s: all(z.fault == ThermalZone.FAULT_NONE for z in s.zones), "the sensors again"
    )


def test_a_sensor_that_hangs_before_the_first_reading_is_not_full_speed(
    graph: Graph, tmp_path: Path
) -> None:
    tree = BoardTree(tmp_path / "root", ThermalPlant(BoardSpec()), noise_celsius=0.0)
    tree.set_fault("gpu-thermal", "hung")
    states = graph.collect("thermal_state", host=HOST)
    graph.start(
        "thermal_watchdog:watchdog",
        parameters={"host_name": HOST, "system_root": tmp_path / "root", "nvml": False},
    )
    graph.until(lambda: states, "a state though nothing was read")
    assert graph.change("/watchdog", DEACTIVATE)
    again = graph.node.get_clock().now()
    assert graph.change("/watchdog", ACTIVATE)
    graph.until(
        lambda: Time.from_msg(states[-1].header.stamp) > again,
        "a state though the reading of before still hangs",
    )
    said = {(s.rung, s.cause, len(s.zones)) for s in states}
    assert said == {(1, ThermalState.CAUSE_UNKNOWN, 0)}
    tree.set_fault("gpu-thermal")
    graph.until(
        lambda: (
            states[-1].zones and all(z.fault == ThermalZone.FAULT_NONE for z in states[-1].zones)
        ),
        "the sensors",
    )


def test_a_host_without_sensors_is_never_at_full_speed(graph: Graph, tmp_path: Path) -> None:
    states = graph.collect("thermal_state", host=HOST)
    empty = tmp_path / "empty"
    empty.mkdir()
    graph.start("thermal_watchdog:watchdog", parameters={"host_name": HOST, "system_root": empty})
    graph.until(lambda: states, "a state")
    assert {s.rung for s in states} == {1}
    assert states[-1].cause == ThermalState.CAUSE_UNKNOWN and not states[-1].zones


def test_a_person_pins_a_rung_and_gives_it_back(graph: Graph, tmp_path: Path) -> None:
    watch = Watch(graph, tmp_path)
    assert watch.set_rung(rung=1, duration_s=60.0, reason="").result.reason == (
        CommandResult.REASON_INVALID_ARGUMENT
    )
    for wrong in ({"rung": 3, "duration_s": 60.0}, {"rung": 1, "duration_s": math.nan}):
        answer = watch.set_rung(**wrong)
        assert answer.result.outcome == CommandResult.OUTCOME_REJECTED, wrong
    answer = watch.set_rung(rung=2, duration_s=600.0, id="once")
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED and answer.rung == 2
    state = watch.until(lambda s: s.rung == 2, "the pinned rung")
    assert state.cause == ThermalState.CAUSE_OVERRIDE
    assert (state.override_by, state.override_reason) == ("Kim", "trial")
    assert state.guaranteed_fps == 0.0 and math.isnan(state.guaranteed_p99_ms)
    again = watch.set_rung(rung=2, duration_s=600.0, id="once")
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    watch.set_rung(release=True)
    state = watch.until(lambda s: not s.override_by, "the override's end")
    assert state.cause == ThermalState.CAUSE_RECOVERING
    temperatures: list[Any] = []
    row = interface("temperature")
    graph.node.create_subscription(
        message_type(row.type), row.resolve(host=HOST, zone="gpu_thermal"),
        temperatures.append, subscription_qos(row.qos),
    )  # fmt: skip
    graph.until(lambda: temperatures, "a Temperature for rqt_plot")
    assert abs(temperatures[-1].temperature - 59.8) < 2.0 and not watch.process.process.poll()


def test_a_rung_outlives_a_reactivation_and_the_process(graph: Graph, tmp_path: Path) -> None:
    watch = Watch(graph, tmp_path)
    assert watch.set_rung(rung=2, duration_s=600.0).rung == 2
    again = graph.node.get_clock().now()
    assert graph.change("/watchdog", DEACTIVATE) and graph.change("/watchdog", ACTIVATE)
    watch.until(
        lambda s: (
            Time.from_msg(s.header.stamp) > again and s.cause == ThermalState.CAUSE_RECOVERING
        ),
        "a state after it",
    )
    assert {s.rung for s in watch.states if Time.from_msg(s.header.stamp) > again} == {2}
    state = Path(graph.environment["SHOPFLOOR_STATE_DIR"], f"domain_{graph.domain_id}")
    kept = state / "watchdog" / "rung.json"
    graph.until(lambda: kept.exists() and json.loads(kept.read_text())["rung"] == 2, "the file")
    watch.process.signal(signal.SIGKILL)
    watch.process.wait()
    again = graph.node.get_clock().now()
    graph.start("thermal_watchdog:watchdog", parameters=watch.parameters)
    watch.until(
        lambda s: (
            Time.from_msg(s.header.stamp) > again and s.cause == ThermalState.CAUSE_RECOVERING
        ),
        "a state of the new process",
    )
    said = {s.rung for s in watch.states if Time.from_msg(s.header.stamp) > again}
    assert said == {2}, "no step that nobody announced"


def test_each_result_counts_for_p99_however_fast_they_come(graph: Graph, tmp_path: Path) -> None:
    watch = Watch(graph, tmp_path)
    row = interface("inspection_result")
    talker = graph.node.create_publisher(InspectionResult, row.name, publisher_qos(row.qos))
    graph.until(talker.get_subscription_count, "the watchdog to listen")
    for i in range(40):
        result = InspectionResult(station="s", frames_processed=i + 1)
        result.provenance.host = HOST if i != 30 else "another"
        times_ms = (90.0 if i == 20 else 28.0, 500.0 if i == 30 else 1.0)
        names = ("infer", "draw")
        result.provenance.stages = [
            StageTime(name=name, duration_ms=ms) for name, ms in zip(names, times_ms, strict=True)
        ]
        talker.publish(result)
    state = watch.until(lambda s: s.measured_p99_ms == 91.0, "the slowest of 39")
    assert state.rung == 0, "one hiccup is no cause"


def test_a_board_that_was_learned_is_known_again(graph: Graph, tmp_path: Path) -> None:
    memory = BoardMemory(np.where(GRID.sink_taus_s == 100.0, 0.0, -50.0), windows=7)
    state = Path(graph.environment["SHOPFLOOR_STATE_DIR"], f"domain_{graph.domain_id}")
    path = state / "watchdog" / "boards.json"
    board_file.write(path, board_file.to_json({"gpu-thermal": memory}))
    watch = Watch(graph, tmp_path)
    expected = {
        "gpu-thermal board": "learned from 7 steps, tau 100 s, 90 % believed",
        "cpu-thermal board": "unknown",
    }

    def told() -> bool:
        status = statuses(watch.diagnostics, "watchdog").get("temperature")
        values = {value.key: value.value for value in status.values} if status else {}
        return expected.items() <= values.items()

    graph.until(told, "the board of the file")

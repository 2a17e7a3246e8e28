"""Sensors from a simulated sysfs: what is read, and every fault by its name, never as a value."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest

from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, throttling_from
from shopfloor.thermal.board import Board, Throttle
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.rungs import Cause, LadderSettings, Rung
from shopfloor.thermal.sensors import Reading, Sensor, Sensors, parse_limit
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import TrustSettings, ZoneTrust
from shopfloor.thermal.watchdog import Observer, Watchdog, WatchdogSettings, ZoneLevel

SPEC = throttling_from(32.0, BoardSpec())
RUNGS = (Rung(0, "full", 30.0, 33.3, 1.0), Rung(1, "half rate", 15.0, 33.3, 0.5))
PERIOD_S = 0.15


class Bench:
    """A board, its files, and the watchdog over them, on a clock of the test's own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.plant = ThermalPlant(SPEC)
        self.tree = BoardTree(folder, self.plant)
        self.observer = Observer(Sensors(folder / "sys"), Board(folder), None, TrustSettings())
        ladder = Ladder(RUNGS, LadderSettings())
        self.watchdog = Watchdog(ladder, WatchdogSettings(**settings))  # type: ignore[arg-type]
        self.now_s = 1000.0

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / PERIOD_S)):
            self.now_s += PERIOD_S
            self.plant.step(PERIOD_S)
            self.tree.update()
            self.seen = self.observer.observe(self.now_s)
            self.verdict = self.watchdog.decide(self.now_s, self.seen)

    def zone(self, name: str) -> object:
        return next(z for z in self.verdict.zones if z.sensor.name == name)


def test_a_jetson_is_read_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.tree.over_current_events = 3
    bench.run(1.0)
    zones = {z.sensor.name: z for z in bench.verdict.zones}
    assert list(zones) == list(ZONES)
    assert zones["gpu-thermal"].sensor.limit_celsius == SPEC.trip_celsius
    assert zones["gpu-thermal"].sensor.critical_celsius == SPEC.critical_celsius
    assert zones["tj-thermal"].celsius == pytest.approx(bench.plant.die_celsius, abs=2.5)
    # Beside zones with a trip point, one without any is only watched.
    assert math.isnan(zones["board-thermal"].sensor.limit_celsius)
    board = bench.verdict.board
    assert board.over_current_events == 3
    assert board.power_w == pytest.approx(bench.plant.power_w, rel=0.01)
    assert board.gpu_clock_fraction == pytest.approx(1.0)
    assert board.cpu_clock_fraction == pytest.approx(1.0)
    assert board.power_mode == "MAXN" and board.throttle == Throttle.NONE
    assert board.fan_percent == pytest.approx(100 * bench.plant.fan, abs=1)
    assert bench.verdict.deciding is not None
    assert bench.verdict.deciding.sensor.limit_celsius == SPEC.trip_celsius


def test_a_fan_that_is_driven_and_does_not_turn_is_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(1.0)
    assert not bench.verdict.board.fan_stands
    bench.plant.fan_works = False
    bench.run(1.0)
    assert bench.verdict.board.fan_stands
    assert bench.verdict.board.fan_percent == 0.0
    bench.plant.fan_works = True
    bench.run(1.0)
    assert not bench.verdict.board.fan_stands


def test_a_fan_beside_its_own_tachometer(tmp_path: Path) -> None:
    """The kernel's own name: fan1_input in the folder of pwm1."""
    folder = tmp_path / "sys" / "class" / "hwmon" / "hwmon0"
    folder.mkdir(parents=True)
    for name, text in (("name", "pwmfan"), ("pwm1", "128"), ("fan1_input", "2100")):
        (folder / name).write_text(text)
    board = Board(tmp_path)
    assert board.read().fan_percent == pytest.approx(50.2, abs=0.1)
    (folder / "fan1_input").write_text("0")
    assert board.read().fan_stands and board.read().fan_percent == 0.0
    for driven, stands in ((0, False), (1, False), (14, False), (15, True)):
        (folder / "pwm1").write_text(str(driven))
        assert board.read().fan_stands is stands, driven
    (folder / "fan1_input").unlink()
    (folder / "pwm1").write_text("128")
    board.discover()
    assert board.read().fan_percent == pytest.approx(50.2, abs=0.1)


def test_a_power_mode_that_caps_the_clocks_is_no_throttle(tmp_path: Path) -> None:
    bench = Bench(tmp_path, expected_power_mode="MODE_30W")
    bench.tree.power_mode, bench.tree.cpu_load = 2, 1.0
    bench.run(20.0)
    board, state = bench.verdict.board, bench.verdict.ladder
    assert board.power_mode == "MODE_30W" and board.gpu_load > 0.8
    assert board.cpu_clock_fraction == board.gpu_clock_fraction == 1.0
    assert (state.rung, state.next_rung, state.cause) == (0, 0, Cause.NONE)
    bench.tree.power_mode = 0
    bench.run(1.0)
    assert bench.verdict.ladder.cause is Cause.POWER_MODE


def test_cpu_clocks_held_down_are_a_cause_under_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.tree.cpu_clock, bench.tree.cpu_load = 0.5, 0.1
    bench.run(20.0)
    assert bench.verdict.board.cpu_clock_fraction == pytest.approx(0.5, abs=0.01)
    assert bench.verdict.board.cpu_load == pytest.approx(0.1)
    assert bench.verdict.ladder.cause is Cause.NONE and bench.verdict.ladder.rung == 0
    bench.tree.cpu_load = 0.95
    bench.run(20.0)
    assert bench.verdict.ladder.cause is Cause.CLOCKS and bench.verdict.ladder.rung == 1


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("offline", Fault.OFFLINE), ("zero", Fault.OFFLINE), ("absurd", Fault.ABSURD),
     ("missing", Fault.MISSING), ("frozen", Fault.FROZEN)],
)  # fmt: skip
def test_a_fault_is_flagged_within_a_second_and_never_read_as_ok(
    tmp_path: Path, kind: str, fault: Fault
) -> None:
    bench = Bench(tmp_path)
    bench.run(30.0)
    bench.tree.set_fault("gpu-thermal", kind)
    bench.run(1.05)
    zone = bench.zone("gpu-thermal")
    assert zone.fault is fault
    assert zone.level(120.0) is ZoneLevel.UNKNOWN
    assert math.isnan(zone.celsius) and math.isnan(zone.headroom_celsius)
    others = [z for z in bench.verdict.zones if z is not zone]
    assert all(z.fault is Fault.NONE for z in others)
    assert bench.verdict.ladder.rung == 0
    bench.tree.set_fault("gpu-thermal")
    bench.run(0.5)
    assert bench.zone("gpu-thermal").fault is Fault.NONE


@pytest.mark.parametrize("kind", ["offline", "missing", "absurd"])
def test_all_zones_lost_is_a_cautious_rung(tmp_path: Path, kind: str) -> None:
    bench = Bench(tmp_path)
    bench.run(5.0)
    for zone in ZONES:
        bench.tree.set_fault(zone, kind)
    bench.run(1.0)
    state = bench.verdict.ladder
    assert (state.rung, state.cause) == (1, Cause.UNKNOWN)
    assert bench.verdict.sensors_lost and bench.verdict.deciding is None
    bench.run(120.0)
    assert bench.verdict.ladder.rung == 1, "still not known, still cautious"
    for zone in ZONES:
        bench.tree.set_fault(zone)
    bench.plant.fps = 0.0
    bench.run(600.0)
    assert bench.verdict.ladder.rung == 0


def test_a_required_zone_that_is_lost_is_enough(tmp_path: Path) -> None:
    bench = Bench(tmp_path, required_zones=("tj-*",))
    bench.run(2.0)
    assert bench.verdict.ladder.rung == 0
    bench.tree.set_fault("tj-thermal", "offline")
    bench.run(0.5)
    assert bench.verdict.ladder.rung == 1 and "tj-*" in bench.verdict.ladder.text


def test_readings_that_stop_are_stale_within_a_second(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(2.0)
    verdict = bench.watchdog.decide(bench.now_s + 0.95, bench.seen)
    assert {z.fault for z in verdict.zones} == {Fault.STALE}
    assert verdict.ladder.rung == 1 and verdict.ladder.cause is Cause.UNKNOWN
    assert verdict.board.throttle is None


def test_no_false_alarm_in_an_hour_of_healthy_sensors(tmp_path: Path) -> None:
    for resolution, noise in ((0.03125, 0.15), (0.5, 0.2), (1.0, 0.1), (1.0, 0.0)):
        trust = ZoneTrust(TrustSettings())
        dice, sensor = random.Random(7), Sensor("z", "", "")
        for i in range(24_000):
            celsius = 60.0 + 8.0 * math.sin(i / 3000.0) + dice.gauss(0.0, noise)
            reading = Reading(sensor, round(celsius / resolution) * resolution, Fault.NONE)
            peers = 62.0 + 8.0 * math.sin(i / 3000.0)
            assert trust.judge(i * PERIOD_S, reading, peers) is Fault.NONE, (resolution, noise, i)


def test_a_coarse_sensor_that_stands_still_while_the_board_heats_is_frozen() -> None:
    trust, sensor = ZoneTrust(TrustSettings()), Sensor("z", "", "")
    faults = [
        trust.judge(i * PERIOD_S, Reading(sensor, 60.0, Fault.NONE), 60.0 + i * 0.02)
        for i in range(600)
    ]
    assert Fault.FROZEN in faults and faults.index(Fault.FROZEN) * 0.02 >= 10.0


def test_a_jump_is_believed_only_when_it_stays() -> None:
    trust, sensor = ZoneTrust(TrustSettings()), Sensor("z", "", "")

    def judge(at_s: float, celsius: float) -> Fault:
        return trust.judge(at_s, Reading(sensor, celsius, Fault.NONE), math.nan)

    assert judge(0.0, 50.0) is Fault.NONE
    assert judge(0.15, 110.0) is Fault.ABSURD
    assert judge(0.30, 50.2) is Fault.NONE
    assert [judge(1.0 + i / 2, 110.0 + i) for i in range(5)][-1] is Fault.NONE


def test_denied_and_unreadable_files_have_their_names(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    temp = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    temp.write_text("warm\n")
    bench.tree.set_fault("cpu-thermal", "frozen")
    bench.run(0.2)
    assert bench.zone("cpu-thermal").fault is Fault.ABSURD
    if os.geteuid() == 0:
        pytest.skip("FAULT_DENIED: root may read everything")
    temp.chmod(0)
    bench.run(0.2)
    assert bench.zone("cpu-thermal").fault is Fault.DENIED


def test_zones_are_found_by_name_after_they_were_renumbered(tmp_path: Path) -> None:
    thermal = tmp_path / "sys/class/thermal"
    BoardTree(tmp_path, ThermalPlant(SPEC))
    sensors = Sensors(tmp_path / "sys", expected=("nowhere-thermal",), ignore=("soc*",))
    (thermal / "thermal_zone4").rename(thermal / "thermal_zone11")
    sensors.discover()
    readings = {r.sensor.name: r for r in sensors.read()}
    assert readings["board-thermal"].fault is Fault.NONE
    assert readings["board-thermal"].sensor.source == "thermal_zone11"
    assert readings["nowhere-thermal"].fault is Fault.MISSING
    assert "soc0-thermal" not in readings


def test_hwmon_adds_what_is_no_zone_and_disabled_trip_points_are_none(tmp_path: Path) -> None:
    BoardTree(tmp_path, ThermalPlant(SPEC))
    sys = tmp_path / "sys/class"
    (sys / "thermal/thermal_zone0/trip_point_1_temp").write_text("-274000\n")
    for name, driver in (("hwmon7", "coretemp"), ("hwmon8", "gpu_thermal")):
        (sys / "hwmon" / name).mkdir()
        (sys / "hwmon" / name / "name").write_text(driver)
        (sys / "hwmon" / name / "temp1_input").write_text("51000")
    (sys / "hwmon/hwmon7/temp1_label").write_text("Package id 0")
    (sys / "hwmon/hwmon7/temp1_max").write_text("80000")
    (sys / "hwmon/hwmon7/temp1_crit").write_text("98000")
    found = {s.name: s for s in Sensors(tmp_path / "sys").sensors}
    assert found["coretemp:Package id 0"].limit_celsius == 95.0
    assert not any("gpu_thermal" in name for name in found)
    assert found["cpu-thermal"].limit_celsius == SPEC.critical_celsius - 10.0


@pytest.mark.parametrize("text", ["", "x", "=90", "x=", "x=nan", "x=900", "x=1,2"])
def test_limits_of_no_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ZONE=CELSIUS"):
        parse_limit(text)

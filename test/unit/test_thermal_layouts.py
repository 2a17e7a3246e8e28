"""Files as kernels of real boards lay them out, and what must not be read into them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shopfloor.thermal import power_mode
from shopfloor.thermal.board import Board, Throttle
from shopfloor.thermal.cpu_load import CpuLoad
from shopfloor.thermal.sensors import Reading, Sensor, Sensors
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import HostTrust, TrustSettings
from shopfloor.thermal.watchdog import Observer

ORIN_TABLE = """\
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq/17000000.gpu/max_freq

# MAXN is the NONE power model
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
CPU_A78_0 MIN_FREQ 0
CPU_A78_0 MAX_FREQ -1
GPU MIN_FREQ 0
GPU MAX_FREQ -1

< POWER_MODEL ID=2 NAME=MODE_30W >  # the default
CPU_A78_0 MIN_FREQ 0
CPU_A78_0 MAX_FREQ 1728000
CPU_A78_1 MAX_FREQ 1651200
GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on
GPU MAX_FREQ 612000000
EMC MAX_FREQ 0

< PM_CONFIG DEFAULT=2 >
"""


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def zone(root: Path, number: int, name: str, **files: object) -> Path:
    folder = root / "sys/class/thermal" / f"thermal_zone{number}"
    return write(folder, type=name, temp=50_000, **files)


def limits(root: Path, **settings: float) -> dict[str, float]:
    found = Sensors(root / "sys", **settings).sensors  # type: ignore[arg-type]
    return {sensor.name: sensor.limit_celsius for sensor in found}


@pytest.mark.parametrize(
    ("bound_at_70", "limit"),
    [
        (("hot-surface-alert",), 99.0),
        (("hot-surface-alert", "cpufreq-cpu0"), 70.0),
        (("cpu-throttle-alert",), 70.0),
        ((), 70.0),
    ],
)
def test_a_trip_point_that_only_warns_of_a_hot_surface_is_no_limit(
    tmp_path: Path, bound_at_70: tuple[str, ...], limit: float
) -> None:
    """JetPack 6 on an Orin: critical 104.5, and two passive trip points."""
    folder = zone(tmp_path, 0, "cpu-thermal")
    trips = (("critical", 104_500), ("passive", 99_000), ("passive", 70_000))
    for trip, (kind, millidegrees) in enumerate(trips):
        files = {f"trip_point_{trip}_type": kind, f"trip_point_{trip}_temp": millidegrees}
        write(folder, **files)
    bindings = [("cpufreq-cpu0", 1), ("cpu-throttle-alert", 1), *((d, 2) for d in bound_at_70)]
    for number, (device, trip) in enumerate(bindings):
        device_folder = write(folder.parent / f"cooling_device{number}", type=device)
        (folder / f"cdev{number}").symlink_to(Path("..", device_folder.name))
        (folder / f"cdev{number}_trip_point").write_text(f"{trip}\n")
    (sensor,) = Sensors(tmp_path / "sys").sensors
    assert (sensor.limit_celsius, sensor.critical_celsius) == (limit, 104.5)


def test_the_loss_of_one_sensor_takes_no_limit_from_the_others(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal")
    gone = zone(tmp_path, 1, "gpu-thermal")
    sensors = Sensors(tmp_path / "sys", expected=("NVIDIA L4 0",))
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    for _ in range(2):
        sensors.discover()
        found = {reading.sensor.name: reading for reading in sensors.read()}
        assert found["cpu-thermal"].sensor.limit_celsius == 85.0
        assert found["cpu-thermal"].fault is Fault.NONE
        assert found["gpu-thermal"].fault is found["NVIDIA L4 0"].fault is Fault.MISSING


def test_a_critical_point_alone_is_a_limit_ten_degrees_below(tmp_path: Path) -> None:
    zone(tmp_path, 0, "soc-thermal", trip_point_0_type="critical", trip_point_0_temp=90_000)
    zone(tmp_path, 1, "board-thermal")
    # A firmware that is known for such a figure.
    zone(tmp_path, 2, "acpitz", trip_point_0_type="critical", trip_point_0_temp=20_800)
    hwmon = tmp_path / "sys/class/hwmon/hwmon0"
    write(hwmon, name="tmp451", temp1_input=50_000, temp1_crit=108_000)
    default = {"soc-thermal": 80.0, "board-thermal": 85.0, "acpitz": 85.0, "tmp451:temp1": 85.0}
    assert limits(tmp_path) == default
    only_watched = limits(tmp_path, default_limit_celsius=0.0)
    assert (only_watched["soc-thermal"], only_watched["tmp451:temp1"]) == (80.0, 98.0)
    assert math.isnan(only_watched["board-thermal"]) and math.isnan(only_watched["acpitz"])
    zone(tmp_path, 3, "cpu-thermal", trip_point_0_type="passive", trip_point_0_temp=95_000)
    beside = limits(tmp_path)
    assert (beside["cpu-thermal"], beside["soc-thermal"], beside["tmp451:temp1"]) == (95, 80, 98)
    assert math.isnan(beside["board-thermal"]) and math.isnan(beside["acpitz"])


def test_a_sensor_that_its_driver_calls_faulty_is_offline(tmp_path: Path) -> None:
    folder = write(tmp_path / "sys/class/hwmon/hwmon0", name="nct6798", temp1_input=41_000)
    write(folder, temp1_fault=1, temp2_input=42_000, temp2_fault=0)
    faulty, good = Sensors(tmp_path / "sys").read()
    assert faulty.fault is Fault.OFFLINE and math.isnan(faulty.celsius)
    assert (good.fault, good.celsius) == (Fault.NONE, 42.0)


def test_a_display_is_no_brake(tmp_path: Path) -> None:
    thermal = tmp_path / "sys/class/thermal"
    for number, kind in enumerate(("LCD", "hot-surface-alert", "Processor")):
        write(thermal / f"cooling_device{number}", type=kind, cur_state=int(kind != "Processor"))
    board = Board(tmp_path)
    assert board.read().throttle == Throttle.NONE
    write(thermal / "cooling_device2", cur_state=2)
    assert board.read().throttle == Throttle.THERMAL


@pytest.mark.parametrize(
    ("status", "name", "cpu_khz", "gpu_hz"),
    [
        ("pmode:0002", "MODE_30W", 1_651_200, 612_000_000),
        ("pmode:0002 fmode:quiet", "MODE_30W", 1_651_200, 612_000_000),
        ("pmode:0000 fmode:cool", "MAXN", math.inf, math.inf),
        ("pmode:0007", "mode 7", math.inf, math.inf),
        ("", "", math.inf, math.inf),
        ("on battery", "on battery", math.inf, math.inf),
    ],
)
def test_power_modes_of_an_orin(status: str, name: str, cpu_khz: float, gpu_hz: float) -> None:
    mode = power_mode.active(status, power_mode.read_table(ORIN_TABLE))
    assert (mode.name, mode.cpu_khz, mode.gpu_hz) == (name, cpu_khz, gpu_hz)


def test_the_busiest_core_counts(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    load = CpuLoad(stat)
    assert math.isnan(load.read())
    stat.write_text("cpu  0 0 0 0 0\ncpu0 100 0 0 500 0 0 0 0 7 0\ncpu1 100 0 0 500 0 0 0 0 0 0\n")
    assert math.isnan(load.read())
    stat.write_text("cpu  0 0 0 0 0\ncpu0 105 0 0 530 5 0 0 0 9 0\ncpu1 130 0 4 506 0 0 0 0 0 0\n")
    assert load.read() == pytest.approx(0.85)
    assert math.isnan(load.read()), "no time has passed"
    stat.write_text("cpu0 half written\ncpu\n\n")
    assert math.isnan(load.read())


@pytest.mark.parametrize("raw", [-256_000, 0, 999_000])
def test_what_faulty_zones_read_freezes_no_healthy_one(tmp_path: Path, raw: int) -> None:
    folders = [zone(tmp_path, number, f"zone{number}") for number in range(4)]
    observer = Observer(Sensors(tmp_path / "sys"), Board(tmp_path), None, TrustSettings())
    for at_s in range(70):
        seen = observer.observe(float(at_s))
    assert {z.fault for z in seen.zones} == {Fault.NONE}
    for folder in folders[:2]:
        write(folder, temp=raw)
    for at_s in range(70, 75):
        seen = observer.observe(float(at_s))
        faults = [z.fault for z in seen.zones]
        assert faults[2:] == [Fault.NONE] * 2 and Fault.NONE not in faults[:2]


def judged(trust: HostTrust, at_s: float, **celsius: float) -> dict[str, Fault]:
    readings = [Reading(Sensor(name, "", ""), value, Fault.NONE) for name, value in celsius.items()]
    faults = trust.judge(at_s, readings)
    return {r.sensor.name: fault for r, fault in zip(readings, faults, strict=True)}


def test_zones_that_come_and_go_freeze_no_other() -> None:
    """The cv zones of a Jetson are there only while their engines have power."""
    trust = HostTrust(TrustSettings())
    for at_s in range(0, 300, 2):
        off = at_s % 100 >= 70
        cv = -256.0 if off else 80.0
        faults = judged(trust, at_s, board=40.0, cpu=80.0, cv0=cv, cv1=cv, cv2=cv)
        healthy = ("board", "cpu") if off else tuple(faults)
        assert {faults[name] for name in healthy} == {Fault.NONE}, at_s


def test_a_frozen_zone_stays_frozen_when_another_goes() -> None:
    trust = HostTrust(TrustSettings())
    for at_s in range(100):
        warm = 60.0 + at_s / 5
        faults = judged(trust, at_s, stuck=60.0, a=warm, b=warm + 1, c=warm + 9, d=warm - 20)
    assert faults["stuck"] is Fault.FROZEN
    for at_s in range(100, 110):
        warm = 60.0 + at_s / 5
        faults = judged(trust, at_s, stuck=60.0, a=-256.0, b=warm + 1, c=0.0, d=warm - 20)
        assert faults["stuck"] is Fault.FROZEN and faults["b"] is Fault.NONE

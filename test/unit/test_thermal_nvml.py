"""GPUs through a stand-in for NVML: what counts as a zone, and which clock is a cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant
from shopfloor.thermal.board import Board, Throttle
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.nvml import Nvml
from shopfloor.thermal.rungs import Cause, LadderSettings, LadderState, Rung
from shopfloor.thermal.sensors import Sensors
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import Observer, Watchdog, WatchdogSettings

RUNGS = (Rung(0, "full", 30.0, 33.3, 1.0), Rung(1, "half rate", 15.0, 33.3, 0.5))


class NvmlError(Exception):
    pass


class NotSupported(NvmlError):
    pass


@dataclass
class Gpu:
    """None: this GPU does not support it."""

    name: str = "NVIDIA L4"
    celsius: float | None = 60.0
    clock_mhz: float | None = 2000.0
    load_percent: float | None = 95.0
    reasons: int | None = 0
    slowdown: float | None = 87.0
    gpu_max: float | None = None
    margin: float | None = None
    is_lost: bool = False


class FakeNvml:
    """As much of pynvml as is used."""

    NVMLError, NVMLError_NotSupported = NvmlError, NotSupported
    NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = 0
    NVML_TEMPERATURE_THRESHOLD_SHUTDOWN, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 0, 1
    NVML_TEMPERATURE_THRESHOLD_GPU_MAX = 3
    nvmlClocksThrottleReasonSwPowerCap = 0x04
    nvmlClocksThrottleReasonHwSlowdown = 0x08
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = gpus
        self.is_broken = False
        self.users = 0

    def nvmlInit(self) -> None:
        if self.is_broken:
            raise NvmlError("Driver/library version mismatch")
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        self._told(self.gpus[index], 0)
        return self.gpus[index]

    def nvmlDeviceGetName(self, gpu: Gpu) -> str:
        return gpu.name

    def nvmlDeviceGetTemperature(self, gpu: Gpu, _: int) -> float:
        return self._told(gpu, gpu.celsius)

    def nvmlDeviceGetTemperatureThreshold(self, gpu: Gpu, kind: int) -> float:
        return self._told(gpu, {0: 92.0, 1: gpu.slowdown, 3: gpu.gpu_max}[kind])

    def nvmlDeviceGetMarginTemperature(self, gpu: Gpu) -> float:
        return self._told(gpu, gpu.margin)

    def nvmlDeviceGetClockInfo(self, gpu: Gpu, _: int) -> float:
        return self._told(gpu, gpu.clock_mhz)

    def nvmlDeviceGetMaxClockInfo(self, gpu: Gpu, _: int) -> float:
        return self._told(gpu, 2000.0)

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> float:
        return self._told(gpu, 71_500)

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._told(gpu, gpu.load_percent))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: Gpu) -> float:
        return self._told(gpu, gpu.reasons)

    def _told(self, gpu: Gpu, value: float | None) -> float:
        if gpu.is_lost:
            raise NvmlError("GPU is lost")
        if value is None:
            raise NotSupported("Not Supported")
        return value


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    path = tmp_path / "version"
    path.touch()
    return path


def opened(driver: Path, *gpus: Gpu) -> Nvml:
    return Nvml(driver=driver, load=lambda: FakeNvml(*gpus))


def observer_of(root: Path, nvml: Nvml, *expected: str) -> Observer:
    sensors = Sensors(root / "sys", expected=expected)
    return Observer(sensors, Board(root), nvml, TrustSettings())


def settled(root: Path, nvml: Nvml) -> LadderState:
    """The ladder after 20 s."""
    observer = observer_of(root, nvml)
    watchdog = Watchdog(Ladder(RUNGS, LadderSettings()), WatchdogSettings())
    for i in range(80):
        verdict = watchdog.decide(i / 4, observer.observe(i / 4))
    return verdict.ladder


def test_nvml_limits_and_reasons(driver: Path) -> None:
    gpu = Gpu(celsius=81.0, clock_mhz=1000.0, load_percent=None, reasons=0x28)
    fake = FakeNvml(gpu)
    nvml = Nvml(driver=driver, load=lambda: fake)
    (seen,) = nvml.read()
    assert nvml.absent == "" and seen.temperature.celsius == 81.0
    sensor = seen.temperature.sensor
    assert (sensor.limit_celsius, sensor.critical_celsius) == (87.0, 92.0)
    assert seen.throttle == Throttle.THERMAL
    assert seen.clock_fraction == 0.5 and seen.power_w == 71.5 and math.isnan(seen.load)
    gpu.is_lost = True
    (seen,) = nvml.read()
    assert seen.temperature.fault is Fault.OFFLINE and seen.throttle is None
    nvml.close()
    assert fake.users == 0


@pytest.mark.parametrize(
    ("slowdown", "gpu_max", "margin", "limit"),
    [
        (93.0, 85.0, None, 85.0),  # a T4: software throttles before hardware does
        (93.0, None, None, 93.0),
        (None, None, 27.0, 87.0),
        (None, None, None, 82.0),
        (0.0, 0.0, None, 82.0),
    ],
)
def test_the_limit_is_where_throttling_begins(
    driver: Path,
    slowdown: float | None,
    gpu_max: float | None,
    margin: float | None,
    limit: float,
) -> None:
    gpu = Gpu(celsius=60.0, slowdown=slowdown, gpu_max=gpu_max, margin=margin)
    (seen,) = opened(driver, gpu).read()
    assert seen.temperature.sensor.limit_celsius == limit


@pytest.mark.parametrize("celsius", [None, 0.0])
def test_the_gpu_of_a_jetson_is_left_to_its_own_files(
    tmp_path: Path, driver: Path, celsius: float | None
) -> None:
    orin = Gpu("Orin (nvgpu)", celsius, clock_mhz=None, load_percent=0.0, reasons=None)
    nvml = opened(driver, orin)
    assert nvml.read() == [] and "Orin (nvgpu)" in nvml.absent
    BoardTree(tmp_path, ThermalPlant(BoardSpec()))
    seen = observer_of(tmp_path, nvml).observe(0.0)
    assert tuple(z.sensor.name for z in seen.zones) == ZONES
    assert seen.board.gpu_clock_fraction == pytest.approx(1.0) and seen.board.gpu_load > 0.8


def test_what_a_gpu_does_not_tell_replaces_nothing(tmp_path: Path, driver: Path) -> None:
    BoardTree(tmp_path, ThermalPlant(BoardSpec()))
    nvml = opened(driver, Gpu(clock_mhz=None, load_percent=None))
    board = observer_of(tmp_path, nvml).observe(0.0).board
    assert board.gpu_clock_fraction == pytest.approx(1.0) and board.gpu_load > 0.8


def test_the_clock_of_an_idle_gpu_hides_none_that_works(tmp_path: Path, driver: Path) -> None:
    idle, works = Gpu(clock_mhz=210.0, load_percent=0.0), Gpu(clock_mhz=1200.0, load_percent=99.0)
    nvml = opened(driver, idle, works, Gpu(clock_mhz=1900.0, load_percent=99.0))
    board = observer_of(tmp_path, nvml).observe(0.0).board
    assert (board.gpu_clock_fraction, board.gpu_load) == (0.6, 0.99)
    works.load_percent = 0.0
    board = observer_of(tmp_path, opened(driver, idle, works)).observe(0.0).board
    assert board.gpu_load == 0.0


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        (0x04, Cause.NONE),  # a power cap
        (0x02, Cause.NONE),  # a setting
        (0x08, Cause.CLOCKS),
        (0x88, Cause.CLOCKS),  # a power brake
        (0x0C, Cause.CLOCKS),
        (None, Cause.CLOCKS),
    ],
)
def test_a_card_at_its_power_cap_is_not_held_down(
    tmp_path: Path, driver: Path, reasons: int | None, cause: Cause
) -> None:
    state = settled(tmp_path, opened(driver, Gpu(clock_mhz=1200.0, reasons=reasons)))
    assert (state.cause, state.rung) == (cause, int(cause is Cause.CLOCKS))


def test_a_gpu_that_is_required_by_name_is_one_zone(tmp_path: Path, driver: Path) -> None:
    observer = observer_of(tmp_path, opened(driver, Gpu()), "NVIDIA L4 0")
    (zone,) = observer.observe(0.0).zones
    assert (zone.sensor.name, zone.fault) == ("NVIDIA L4 0", Fault.NONE)


def test_parameters_know_gpus_by_name(tmp_path: Path, driver: Path) -> None:
    display, card = Gpu("NVIDIA T400", clock_mhz=200.0), Gpu(clock_mhz=1900.0)
    limits = [("NVIDIA L4 *", 80.0)]
    sensors = Sensors(tmp_path / "sys", ignore=("*T400*",), limits=limits)
    nvml = opened(driver, display, card)
    seen = Observer(sensors, Board(tmp_path), nvml, TrustSettings()).observe(0.0)
    assert [(z.sensor.name, z.sensor.limit_celsius) for z in seen.zones] == [("NVIDIA L4 1", 80.0)]
    assert seen.board.gpu_clock_fraction == 0.95


def test_gpus_come_before_the_many_sensors_of_a_server(tmp_path: Path, driver: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("coretemp")
    for core in range(70):
        (folder / f"temp{core}_input").write_text("45000")
    zones = observer_of(tmp_path, opened(driver, Gpu(), Gpu())).observe(0.0).zones
    assert [z.sensor.name for z in zones[:2]] == ["NVIDIA L4 0", "NVIDIA L4 1"] and len(zones) == 72


def test_a_driver_that_comes_later_is_found(tmp_path: Path) -> None:
    driver, fake = tmp_path / "version", FakeNvml(Gpu())
    fake.is_broken = True
    nvml = Nvml(driver=driver, load=lambda: fake)
    assert "no NVIDIA driver" in nvml.absent
    observer = observer_of(tmp_path, nvml, "NVIDIA L4 0")
    assert [z.fault for z in observer.observe(0.0).zones] == [Fault.MISSING]
    driver.touch()
    observer.observe(10.1)
    assert "does not answer" in nvml.absent
    fake.is_broken = False
    assert [z.fault for z in observer.observe(20.2).zones] == [Fault.NONE]
    observer.observe(30.3)
    assert nvml.absent == "" and fake.users == 1
    nvml.close()
    observer.observe(40.4)
    assert fake.users == 0, "closed is closed"


def test_a_gpu_that_is_lost_at_the_start_hides_no_other(tmp_path: Path, driver: Path) -> None:
    nvml = opened(driver, Gpu(is_lost=True), Gpu())
    zones = observer_of(tmp_path, nvml).observe(0.0).zones
    assert [z.fault for z in zones] == [Fault.OFFLINE, Fault.NONE] and nvml.absent == ""
    fake = FakeNvml(Gpu(is_lost=True))
    nvml = Nvml(driver=driver, load=lambda: fake)
    assert nvml.absent == "NVML lists no GPU that answers" and fake.users == 0


def test_a_driver_without_its_binding_has_a_name(driver: Path) -> None:
    def missing() -> object:
        raise ImportError("No module named 'pynvml'")

    assert "not installed" in Nvml(driver=driver, load=missing).absent

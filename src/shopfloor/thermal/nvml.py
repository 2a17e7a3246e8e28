"""NVIDIA GPUs of servers through NVML. The driver is asked for only where there is one.

Facts: NVML API reference (nvmlDeviceGetTemperature, ...TemperatureThreshold, ...MarginTemperature,
...CurrentClocksThrottleReasons). `nvidia-ml-py` is NVIDIA's own binding.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shopfloor.thermal.board import BUSY, BoardReading, Throttle
from shopfloor.thermal.sensors import Reading, Sensor, below_critical
from shopfloor.thermal.sysfs import Fault

DRIVER = Path("/proc/driver/nvidia/version")

_REASONS = (
    ("nvmlClocksThrottleReasonSwThermalSlowdown", Throttle.THERMAL),
    ("nvmlClocksThrottleReasonHwThermalSlowdown", Throttle.THERMAL),
    ("nvmlClocksThrottleReasonSwPowerCap", Throttle.POWER),
    ("nvmlClocksThrottleReasonHwPowerBrakeSlowdown", Throttle.POWER),
    ("nvmlClocksThrottleReasonHwSlowdown", Throttle.OTHER),
)
_POWER_CAP = "nvmlClocksThrottleReasonSwPowerCap"
"""The one reason that is no trouble: cards of 70 W keep to it at half their highest clock."""


@dataclass(frozen=True)
class GpuReading:
    """One GPU now. power_w and clock_fraction NaN where the driver does not tell.

    is_held_down: False where it names no reason for its clock but a power cap or a setting.
    """

    temperature: Reading
    clock_fraction: float
    load: float
    power_w: float
    throttle: Throttle | None
    is_held_down: bool = True


class Nvml:
    """The GPUs of this host; `absent` says why there are none, empty where there are."""

    def __init__(
        self,
        *,
        driver: Path = DRIVER,
        load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
    ) -> None:
        self._driver = driver
        self._load = load
        self._nvml: Any = None
        self._gpus: list[tuple[Sensor, Any]] = []
        self._is_settled = False
        self.absent = ""
        self.discover()

    def discover(self) -> None:
        """Ask again while there is no answer: a driver may come later."""
        if not self._is_settled:
            self.absent = self._open()

    def _open(self) -> str:
        """Why there are no GPUs."""
        if not self._driver.exists():
            return f"no NVIDIA driver ({self._driver} is not there)"
        try:
            nvml = self._load()
        except ImportError as error:
            return f"nvidia-ml-py is not installed: {error}"
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            found = [_found(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            self._shut_down()
            return f"NVML does not answer: {error}"
        if all(handle is None for _, handle, _ in found):
            self._shut_down()
            return "NVML lists no GPU that answers"
        self._is_settled = True
        self._gpus = [(sensor, handle) for sensor, handle, has_sensor in found if has_sensor]
        if self._gpus:
            return ""
        names = ", ".join(sensor.name for sensor, _, _ in found)
        return f"NVML has no temperature of {names}"

    def close(self) -> None:
        """Give the driver back."""
        self._is_settled = True
        self._gpus = []
        self._shut_down()

    def _shut_down(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def read(self) -> list[GpuReading]:
        """Each GPU; one that fell off the bus is OFFLINE."""
        return [self._read(sensor, handle) for sensor, handle in self._gpus]

    def _read(self, sensor: Sensor, handle: Any) -> GpuReading:
        nvml = self._nvml
        if handle is None:
            lost = Reading(sensor, math.nan, Fault.OFFLINE)
            return GpuReading(lost, math.nan, math.nan, math.nan, None)
        try:
            celsius = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            reading = Reading(sensor, celsius, Fault.NONE)
        except nvml.NVMLError:
            reading = Reading(sensor, math.nan, Fault.OFFLINE)
        now = _number(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
        top = _number(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM)
        milliwatts = _number(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
        try:
            load = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
        except nvml.NVMLError:
            load = math.nan
        fraction = min(now / top, 1.0) if top else math.nan
        return GpuReading(reading, fraction, load, milliwatts / 1e3, *self._throttle(handle))

    def _throttle(self, handle: Any) -> tuple[Throttle | None, bool]:
        """The driver's flags, and whether the clock is held down by more than a power cap."""
        nvml = self._nvml
        try:
            mask = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        except nvml.NVMLError:
            return None, True
        flags, is_held_down = Throttle.NONE, False
        for name, flag in _REASONS:
            if mask & getattr(nvml, name, 0):
                flags |= flag
                is_held_down |= name != _POWER_CAP
        # A hardware slow-down is told again with its kind.
        if flags & (Throttle.THERMAL | Throttle.POWER):
            flags &= ~Throttle.OTHER
        return flags, is_held_down


def with_gpus(board: BoardReading, gpus: Sequence[GpuReading]) -> BoardReading:
    """The board with what NVML adds: all flags, power, and the clock of the slowest GPU at work.

    What the driver does not tell stays as the board has it.
    """
    if not gpus:
        return board
    throttle = board.throttle
    for gpu in gpus:
        if gpu.throttle is not None:
            throttle = gpu.throttle if throttle is None else throttle | gpu.throttle
    watts = [gpu.power_w for gpu in gpus if not math.isnan(gpu.power_w)]
    board = replace(
        board,
        power_w=board.power_w if not math.isnan(board.power_w) else sum(watts) or math.nan,
        throttle=throttle,
    )
    clocked = [gpu for gpu in gpus if not math.isnan(gpu.clock_fraction)]
    if not clocked:
        return board
    # The clock of an idle GPU is low anyhow.
    busy = [gpu for gpu in clocked if gpu.load >= BUSY]
    if busy:
        telling = min(busy, key=lambda gpu: (not gpu.is_held_down, gpu.clock_fraction))
    else:
        telling = max(clocked, key=lambda gpu: -1.0 if math.isnan(gpu.load) else gpu.load)
    return replace(
        board,
        gpu_clock_fraction=telling.clock_fraction,
        gpu_load=board.gpu_load if math.isnan(telling.load) else telling.load,
        gpu_held_down=telling.is_held_down,
    )


def _found(nvml: Any, index: int) -> tuple[Sensor, Any, bool]:
    """Sensor, handle, and whether it can be read: of a Jetson, NVML lists the GPU and no more."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError:
        # Lost before it could say its name: OFFLINE, and no reason to lose the others.
        return Sensor(f"NVIDIA GPU {index}", f"nvml:{index}", ""), None, True
    text = name.decode() if isinstance(name, bytes) else str(name)
    try:
        celsius = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    except nvml.NVMLError_NotSupported:
        celsius = 0.0
    except nvml.NVMLError:
        celsius = math.nan
    limits = _limits(nvml, handle, celsius)
    return Sensor(f"{text} {index}"[:64], f"nvml:{index}", "", *limits), handle, celsius != 0.0


def _limits(nvml: Any, handle: Any, celsius: float) -> tuple[float, float]:
    """Where it begins to throttle, and where it shuts down; NaN: the driver does not tell."""
    slowdown, software, shutdown = (
        _number(nvml, nvml.nvmlDeviceGetTemperatureThreshold, handle, kind)
        for kind in (
            nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
            nvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
            nvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
        )
    )
    known = [limit for limit in (slowdown, software) if limit > 0.0]
    if not known and hasattr(nvml, "nvmlDeviceGetMarginTemperature"):
        # What newer architectures tell instead: so many degrees are left now.
        known = [celsius + _number(nvml, nvml.nvmlDeviceGetMarginTemperature, handle)]
    limit = min(known, default=math.nan)
    return below_critical(shutdown) if math.isnan(limit) else limit, shutdown


def _number(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> float:
    try:
        return float(ask(*arguments))
    except nvml.NVMLError:
        return math.nan

"""NVIDIA GPUs of servers through NVML. The driver is asked for only where there is one.

Facts: NVML API reference (nvmlDeviceGetTemperature, ...TemperatureThreshold,
...CurrentClocksThrottleReasons). `nvidia-ml-py` is NVIDIA's own binding.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfloor.thermal.board import Throttle
from shopfloor.thermal.sensors import Reading, Sensor
from shopfloor.thermal.sysfs import Fault

DRIVER = Path("/proc/driver/nvidia/version")

_REASONS = (
    ("nvmlClocksThrottleReasonSwThermalSlowdown", Throttle.THERMAL),
    ("nvmlClocksThrottleReasonHwThermalSlowdown", Throttle.THERMAL),
    ("nvmlClocksThrottleReasonSwPowerCap", Throttle.POWER),
    ("nvmlClocksThrottleReasonHwPowerBrakeSlowdown", Throttle.POWER),
    ("nvmlClocksThrottleReasonHwSlowdown", Throttle.OTHER),
)


@dataclass(frozen=True)
class GpuReading:
    """One GPU now. power_w and clock_fraction NaN where the driver does not tell."""

    temperature: Reading
    clock_fraction: float
    load: float
    power_w: float
    throttle: Throttle | None


class Nvml:
    """The GPUs of this host; `absent` says why there are none, empty where there are."""

    def __init__(
        self,
        *,
        driver: Path = DRIVER,
        load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
    ) -> None:
        self._nvml: Any = None
        self._gpus: list[tuple[Sensor, Any]] = []
        self.absent = ""
        if not driver.exists():
            self.absent = f"no NVIDIA driver ({driver} is not there)"
            return
        try:
            nvml = load()
        except ImportError as error:
            self.absent = f"nvidia-ml-py is not installed: {error}"
            return
        try:
            nvml.nvmlInit()
            self._nvml = nvml
            self._gpus = [
                _found(nvml, index, nvml.nvmlDeviceGetHandleByIndex(index))
                for index in range(nvml.nvmlDeviceGetCount())
            ]
        except nvml.NVMLError as error:
            self.absent = f"NVML does not answer: {error}"
        if not self._gpus and not self.absent:
            self.absent = "NVML lists no GPU"

    def close(self) -> None:
        """Give the driver back."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None
            self._gpus = []

    def read(self) -> list[GpuReading]:
        """Each GPU; one that fell off the bus is OFFLINE."""
        return [self._read(sensor, handle) for sensor, handle in self._gpus]

    def _read(self, sensor: Sensor, handle: Any) -> GpuReading:
        nvml = self._nvml
        try:
            celsius = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            reading = Reading(sensor, celsius, Fault.NONE)
        except nvml.NVMLError:
            reading = Reading(sensor, math.nan, Fault.OFFLINE)
        now = self._number(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
        top = self._number(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM)
        milliwatts = self._number(nvml.nvmlDeviceGetPowerUsage, handle)
        try:
            load = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
        except nvml.NVMLError:
            load = math.nan
        return GpuReading(
            reading, min(now / top, 1.0) if top else math.nan, load, milliwatts / 1e3,
            self._throttle(handle),
        )  # fmt: skip

    def _number(self, ask: Callable[..., Any], *arguments: Any) -> float:
        try:
            return float(ask(*arguments))
        except self._nvml.NVMLError:
            return math.nan

    def _throttle(self, handle: Any) -> Throttle | None:
        nvml = self._nvml
        try:
            mask = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        except nvml.NVMLError:
            return None
        flags = Throttle.NONE
        for name, flag in _REASONS:
            if mask & getattr(nvml, name, 0):
                flags |= flag
        # A hardware slow-down is told again with its kind.
        if flags & (Throttle.THERMAL | Throttle.POWER):
            flags &= ~Throttle.OTHER
        return flags


def _found(nvml: Any, index: int, handle: Any) -> tuple[Sensor, Any]:
    name = nvml.nvmlDeviceGetName(handle)
    text = name.decode() if isinstance(name, bytes) else str(name)
    limits = []
    for kind in ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN", "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN"):
        try:
            celsius = nvml.nvmlDeviceGetTemperatureThreshold(handle, getattr(nvml, kind))
            limits.append(float(celsius))
        except nvml.NVMLError:
            limits.append(math.nan)
    return Sensor(f"{text} {index}"[:64], f"nvml:{index}", "", *limits), handle

"""A simulated board's sysfs: files as a Jetson's kernel shows them, and their faults.

    tree = BoardTree(folder, plant)          makes the files
    tree.update()                            after each step of the plant

Faults of a zone: offline (-256 C), zero, absurd (999 C), missing (the zone is gone), frozen (the
last value stays), hung (who reads it waits until the fault is over).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path

from shopfloor.sim.thermal_plant import ThermalPlant

ZONES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal", "board-thermal")
FAULT_KINDS = ("offline", "zero", "absurd", "missing", "frozen", "hung")
_CONSTANT = {"offline": "-256000", "zero": "0", "absurd": "999000"}
_COOLING = ("pwm-fan", "gpu-throttle", "hot-surface-alert")
_FAN_RPM = 4000.0
_TOP_CLOCK_HZ = 1_300_500_000
_TOP_CPU_KHZ = 2_201_600
_HOT_SURFACE_CELSIUS = 70.0
_POWER_MODES = {0: ("MAXN", -1, -1), 2: ("MODE_30W", 1_728_000, 612_000_000)}
"""Name, and highest clocks of CPU in kHz and GPU in Hz, -1: any."""


class BoardTree:
    """Writes a plant into files.

    power_mode: number of nvpmodel's. cpu_load: share of time that the one core works, between two
    updates. cpu_clock: share of its highest clock that the kernel allows it.
    resolution_celsius: step of the sensors; noise_celsius: their standard deviation. tachometer:
    whether the fan tells how fast it turns, beside how it is driven.
    """

    def __init__(
        self,
        folder: Path,
        plant: ThermalPlant,
        *,
        resolution_celsius: float = 0.03125,
        noise_celsius: float = 0.15,
        tachometer: bool = True,
        seed: int = 1,
    ) -> None:
        self._root = folder
        self._plant = plant
        self._resolution = resolution_celsius
        self._noise = noise_celsius
        self._tachometer = tachometer
        self._dice = random.Random(seed)
        self._offsets = {zone: self._dice.uniform(-1.5, 0.0) for zone in ZONES}
        self._faults: dict[str, str] = {}
        self._written: dict[Path, str] = {}
        self.over_current_events = 0
        self.power_mode = 0
        self.cpu_load, self.cpu_clock = 0.5, 1.0
        self._cpu_ticks = [0, 0]
        self._thermal = folder / "sys" / "class" / "thermal"
        self._hwmon = folder / "sys" / "class" / "hwmon"
        self._gpu = folder / "sys" / "class" / "devfreq" / "17000000.ga10b"
        self._cpu = folder / "sys" / "devices" / "system" / "cpu" / "cpufreq" / "policy0"
        self._make()
        self.update()

    def set_fault(self, zone: str, kind: str = "") -> None:
        """From now on; empty: none. Raises ValueError."""
        if zone not in ZONES or kind not in ("", *FAULT_KINDS):
            known = f"zones: {', '.join(ZONES)}; faults: {', '.join(FAULT_KINDS)}"
            raise ValueError(f"no fault '{kind}' of '{zone}'; {known}")
        folder = self._zone(zone)
        if self._faults.pop(zone, "") == "hung":
            self._end_hang(folder / "temp")
        if not folder.exists():
            self._make_zone(zone)
        if kind:
            self._faults[zone] = kind
        if kind == "missing":
            shutil.rmtree(folder)
        elif kind == "hung":
            (folder / "temp").unlink()
            os.mkfifo(folder / "temp")
        self.update()

    def update(self) -> None:
        """Write what has changed."""
        plant = self._plant
        for zone, celsius in self._temperatures().items():
            kind = self._faults.get(zone, "")
            if kind in ("missing", "hung", "frozen"):
                continue
            self._write(self._zone(zone) / "temp", _CONSTANT.get(kind) or self._sensed(celsius))
        self._write(self._thermal / "cooling_device1" / "cur_state", str(int(plant.is_throttled)))
        is_hot = plant.sink_celsius >= _HOT_SURFACE_CELSIUS
        self._write(self._thermal / "cooling_device2" / "cur_state", str(int(is_hot)))
        self._write_clocks()
        self._write(self._gpu / "device" / "load", str(round(1000 * plant.load)))
        self._write(self._hwmon / "hwmon0" / "curr1_input", str(round(plant.power_w / 19.0 * 1000)))
        self._write(self._hwmon / "hwmon1" / "pwm1", str(round(255 * plant.fan_drive)))
        if self._tachometer:
            self._write(self._hwmon / "hwmon3" / "rpm", str(round(_FAN_RPM * plant.fan)))
        self._write(self._hwmon / "hwmon2" / "oc1_event_cnt", str(self.over_current_events))
        status = self._root / "var" / "lib" / "nvpmodel" / "status"
        self._write(status, f"pmode:{self.power_mode:04d} fmode:quiet")

    def close(self) -> None:
        """Let go whoever waits for a hung sensor."""
        for zone, kind in self._faults.items():
            if kind == "hung":
                self._end_hang(self._zone(zone) / "temp")

    def _write_clocks(self) -> None:
        _, cpu_cap, gpu_cap = _POWER_MODES[self.power_mode]
        for path, clock, cap in (
            (self._cpu / "scaling_max_freq", self.cpu_clock * _TOP_CPU_KHZ, cpu_cap),
            (self._gpu / "cur_freq", self._plant.clock * _TOP_CLOCK_HZ, gpu_cap),
        ):
            self._write(path, str(int(min(clock, cap) if cap > 0 else clock)))
        busy = round(100 * self.cpu_load)
        self._cpu_ticks = [self._cpu_ticks[0] + busy, self._cpu_ticks[1] + 100 - busy]
        counts = "{} 0 0 {} 0 0 0 0 0 0".format(*self._cpu_ticks)
        self._write(self._root / "proc" / "stat", f"cpu  {counts}\ncpu0 {counts}\nintr 0")

    def _temperatures(self) -> dict[str, float]:
        plant, off = self._plant, self._offsets
        values = {zone: plant.die_celsius + off[zone] for zone in ZONES[:3]}
        values["tj-thermal"] = max(values.values())
        values["board-thermal"] = plant.sink_celsius + off["board-thermal"]
        return values

    def _sensed(self, celsius: float) -> str:
        noisy = celsius + self._dice.gauss(0.0, self._noise)
        return str(round(round(noisy / self._resolution) * self._resolution * 1000))

    def _zone(self, zone: str) -> Path:
        return self._thermal / f"thermal_zone{ZONES.index(zone)}"

    def _make(self) -> None:
        for zone in ZONES:
            self._make_zone(zone)
        for number, kind in enumerate(_COOLING):
            self._write(self._thermal / f"cooling_device{number}" / "type", kind)
            self._write(self._thermal / f"cooling_device{number}" / "cur_state", "0")
        for number, name in enumerate(("ina3221", "pwmfan", "soctherm_oc", "pwm_tach")):
            self._write(self._hwmon / f"hwmon{number}" / "name", name)
        self._write(self._hwmon / "hwmon0" / "in1_label", "VDD_IN")
        self._write(self._hwmon / "hwmon0" / "in1_input", "19000")
        self._write(self._gpu / "available_frequencies", f"306000000 {_TOP_CLOCK_HZ}")
        self._write(self._cpu / "cpuinfo_max_freq", str(_TOP_CPU_KHZ))
        modes = [
            f"< POWER_MODEL ID={number} NAME={name} >\nCPU_A78_0 MAX_FREQ {cpu_khz}\n"
            f"GPU MIN_FREQ 0\nGPU MAX_FREQ {gpu_hz}\n"
            for number, (name, cpu_khz, gpu_hz) in _POWER_MODES.items()
        ]
        self._write(self._root / "etc" / "nvpmodel.conf", "\n".join(modes))

    def _make_zone(self, zone: str) -> None:
        folder = self._zone(zone)
        for name in [path for path in self._written if path.parent == folder]:
            del self._written[name]
        if zone != "board-thermal":  # which has no trip point
            self._make_trips(folder)
        self._write(folder / "type", zone)  # the last, as readers go by it

    def _make_trips(self, folder: Path) -> None:
        spec = self._plant.spec
        trips = (
            ("critical", spec.critical_celsius),
            ("passive", spec.trip_celsius),
            ("passive", _HOT_SURFACE_CELSIUS),
        )
        for number, (kind, celsius) in enumerate(trips):
            self._write(folder / f"trip_point_{number}_type", kind)
            self._write(folder / f"trip_point_{number}_temp", str(round(celsius * 1000)))
        for number, (device, trip) in enumerate(((1, 1), (2, 2))):
            self._write(folder / f"cdev{number}_trip_point", str(trip))
            link = folder / f"cdev{number}"
            if not link.is_symlink():
                link.symlink_to(Path("..", f"cooling_device{device}"))

    def _write(self, path: Path, text: str) -> None:
        """In place, as a reader may come at any time: a short write is seen whole or not at all."""
        if self._written.get(path) == text:
            return
        known = path in self._written
        self._written[path] = text
        if not known:
            path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, f"{text}\n".ljust(16).encode(), 0)
        finally:
            os.close(fd)

    def _end_hang(self, path: Path) -> None:
        """A plain file again, and an answer to whoever waits at the old one."""
        waiting = None
        with contextlib.suppress(OSError):
            waiting = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        path.unlink()
        self._written.pop(path, None)
        if waiting is not None:
            os.write(waiting, b"-256000\n")
            os.close(waiting)

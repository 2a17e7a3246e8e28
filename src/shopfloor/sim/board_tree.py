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
_FAN_RPM = 4000.0
_TOP_CLOCK_HZ = 1_300_500_000
_POWER_MODES = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"


class BoardTree:
    """Writes a plant into files.

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
        self._thermal = folder / "sys" / "class" / "thermal"
        self._hwmon = folder / "sys" / "class" / "hwmon"
        self._gpu = folder / "sys" / "class" / "devfreq" / "17000000.ga10b"
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
        self._write(self._gpu / "cur_freq", str(int(plant.clock * _TOP_CLOCK_HZ)))
        self._write(self._gpu / "device" / "load", str(round(1000 * plant.load)))
        self._write(self._hwmon / "hwmon0" / "curr1_input", str(round(plant.power_w / 19.0 * 1000)))
        self._write(self._hwmon / "hwmon1" / "pwm1", str(round(255 * plant.fan_drive)))
        if self._tachometer:
            self._write(self._hwmon / "hwmon3" / "rpm", str(round(_FAN_RPM * plant.fan)))
        self._write(self._hwmon / "hwmon2" / "oc1_event_cnt", str(self.over_current_events))
        status = self._root / "var" / "lib" / "nvpmodel" / "status"
        self._write(status, f"pmode:{self.power_mode:04d}")

    def close(self) -> None:
        """Let go whoever waits for a hung sensor."""
        for zone, kind in self._faults.items():
            if kind == "hung":
                self._end_hang(self._zone(zone) / "temp")

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
        for number, kind in enumerate(("pwm-fan", "gpu-throttle")):
            self._write(self._thermal / f"cooling_device{number}" / "type", kind)
            self._write(self._thermal / f"cooling_device{number}" / "cur_state", "0")
        for number, name in enumerate(("ina3221", "pwmfan", "soctherm_oc", "pwm_tach")):
            self._write(self._hwmon / f"hwmon{number}" / "name", name)
        self._write(self._hwmon / "hwmon0" / "in1_label", "VDD_IN")
        self._write(self._hwmon / "hwmon0" / "in1_input", "19000")
        self._write(self._gpu / "available_frequencies", f"306000000 {_TOP_CLOCK_HZ}")
        self._write(self._root / "etc" / "nvpmodel.conf", _POWER_MODES)

    def _make_zone(self, zone: str) -> None:
        folder, spec = self._zone(zone), self._plant.spec
        trips = {"critical": spec.critical_celsius}
        if zone != "board-thermal":
            trips["passive"] = spec.trip_celsius
        for name in [path for path in self._written if path.parent == folder]:
            del self._written[name]
        self._write(folder / "type", zone)
        for number, (kind, celsius) in enumerate(trips.items()):
            self._write(folder / f"trip_point_{number}_type", kind)
            self._write(folder / f"trip_point_{number}_temp", str(round(celsius * 1000)))

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

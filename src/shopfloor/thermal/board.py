"""What else the kernel tells about a board: clocks, over-current, fan, power, power mode, cooling.

Jetsons are read where NVIDIA's documentation says that they show it (Jetson Linux Developer Guide,
"Platform Power and Performance"): `oc*_event_cnt` and the INA3221 rails under hwmon, the fan under
`pwmfan`, the mode in nvpmodel's status file. No package of theirs is needed. A tachometer is
`fan1_input` beside the fan's `pwm1`, or `rpm` in a folder of its own on NVIDIA's kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from shopfloor.thermal import power_mode
from shopfloor.thermal.cpu_load import CpuLoad
from shopfloor.thermal.sysfs import Fault, numbered, read_number, read_text

BUSY = 0.8
"""From this share of load on, a processor should run at its highest clock."""

_GPU_DEVICES = ("*gpu*", "*.gv11b", "*.ga10b", "*.gb10b", "*.gp10b", "*.gm20b")
_WHOLE_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "SYS5V0")
_NO_BRAKES = ("fan", "powerclamp", "tcc offset", "alert", "lcd")
"""Cooling devices that work more, idle at -1, hold a setting, only tell, or are a display."""

_FAN_TURNS_FROM = 15
"""Of 255. A fan that is driven less need not turn; Jetsons show 1 when idle."""


class Throttle(IntFlag):
    """ThermalState.THROTTLE_*."""

    NONE = 0
    THERMAL = 1
    POWER = 2
    OVER_CURRENT = 4
    OTHER = 8


@dataclass(frozen=True)
class BoardReading:
    """NaN, None or empty: this board does not tell, or it cannot be read.

    clock fractions: 0..1 of the highest clock that the power mode allows. cpu_load: 0..1 of the
    busiest core, known where CPU clocks are held down. gpu_load: 0..1. gpu_held_down: False where
    the driver names nothing but a power cap or a setting for its clock. fan_percent: of its full
    speed, as it is driven, but 0 where a tachometer says that it stands still. fan_stands: it does,
    though it is driven.
    """

    cpu_clock_fraction: float = math.nan
    cpu_load: float = math.nan
    gpu_clock_fraction: float = math.nan
    gpu_load: float = math.nan
    gpu_held_down: bool = True
    over_current_events: int | None = None
    fan_percent: float = math.nan
    fan_stands: bool = False
    power_w: float = math.nan
    power_mode: str = ""
    throttle: Throttle | None = None
    slowed_by: str = ""


class Board:
    """Finds the attributes once (`discover`) and reads them as often as asked."""

    def __init__(self, root: Path) -> None:
        """root: "/" but in tests and simulations."""
        self._sys = root / "sys"
        self._mode_status = root / "var" / "lib" / "nvpmodel" / "status"
        self._mode_table = root / "etc" / "nvpmodel.conf"
        self._throttle_counts: dict[Path, float] = {}
        self._cpu_load = CpuLoad(root / "proc" / "stat")
        self.discover()

    def discover(self) -> None:
        """Look for attributes that came with a driver."""
        cpu = self._sys / "devices" / "system" / "cpu"
        self._cpu_clocks = [
            (folder / "scaling_max_freq", folder / "cpuinfo_max_freq")
            for folder in numbered(cpu / "cpufreq", "policy[0-9]*")
        ]
        counters = numbered(cpu, "cpu[0-9]*/thermal_throttle/package_throttle_count")
        self._throttle_files = counters[:1]  # the same at each core of a package
        self._gpus = self._find_gpus()
        hwmons = numbered(self._sys / "class" / "hwmon", "hwmon[0-9]*")
        self._over_current = [p for h in hwmons for p in numbered(h, "oc[0-9]*_event_cnt")]
        fans = [h / "pwm1" for h in hwmons if read_text(h / "name") == "pwmfan"]
        self._fan = next(iter(fans), None)
        tachometers = [h / "rpm" for h in hwmons]
        if self._fan is not None:
            tachometers.insert(0, self._fan.with_name("fan1_input"))
        self._tachometer = next((path for path in tachometers if path.exists()), None)
        self._rails = _find_rails([h for h in hwmons if read_text(h / "name") == "ina3221"])
        self._cooling = [
            (read_text(folder / "type"), folder)
            for folder in numbered(self._sys / "class" / "thermal", "cooling_device[0-9]*")
            if _slows(read_text(folder / "type"))
        ]
        self._modes = power_mode.read_table(read_text(self._mode_table))

    def read(self) -> BoardReading:
        """All of it, now."""
        mode = power_mode.active(read_text(self._mode_status), self._modes)
        cpu_clock = self._cpu_fraction(mode.cpu_khz)
        throttle, slowed_by = self._throttle()
        gpu_clock, gpu_load = self._gpu(mode.gpu_hz)
        fan_percent, fan_stands = self._fan_speed()
        return BoardReading(
            cpu_clock_fraction=cpu_clock,
            cpu_load=self._cpu_load.read() if cpu_clock < 1.0 else math.nan,
            gpu_clock_fraction=gpu_clock,
            gpu_load=gpu_load,
            over_current_events=self._events(),
            fan_percent=fan_percent,
            fan_stands=fan_stands,
            power_w=self._power_w(),
            power_mode=mode.name[:32],
            throttle=throttle,
            slowed_by=slowed_by,
        )

    def _find_gpus(self) -> list[Path]:
        folder = self._sys / "class" / "devfreq"
        return [path for pattern in _GPU_DEVICES for path in numbered(folder, pattern)][:1]

    def _cpu_fraction(self, cap_khz: float) -> float:
        """Slowest cluster's allowed clock; the present one is low when there is nothing to do."""
        fractions = []
        for allowed, highest in self._cpu_clocks:
            top = min(read_number(highest).number, cap_khz)
            if top > 0:
                fractions.append(min(read_number(allowed).number / top, 1.0))
        known = [f for f in fractions if not math.isnan(f)]
        return min(known, default=math.nan)

    def _gpu(self, cap_hz: float) -> tuple[float, float]:
        """Clock as a share of the highest, and load. An idle clock that is low is no throttle."""
        if not self._gpus:
            return math.nan, math.nan
        folder = self._gpus[0]
        rates = [int(text) for text in read_text(folder / "available_frequencies").split()]
        top = min(max(rates, default=0) or read_number(folder / "max_freq").number, cap_hz)
        load = read_number(folder / "device" / "load").number / 1000.0
        now = read_number(folder / "cur_freq").number
        return (min(now / top, 1.0) if top > 0 else math.nan), load

    def _events(self) -> int | None:
        counts = [read_number(path) for path in self._over_current]
        known = [int(value.number) for value in counts if value.fault is Fault.NONE]
        return sum(known) if known else None

    def _fan_speed(self) -> tuple[float, bool]:
        """Per cent of full speed, and whether it stands still although it is driven."""
        if self._fan is None:
            return math.nan, False
        driven = read_number(self._fan).number
        turns = self._tachometer is None or read_number(self._tachometer).number != 0.0
        return (driven / 2.55, False) if turns else (0.0, driven >= _FAN_TURNS_FROM)

    def _power_w(self) -> float:
        watts = 0.0
        for volts, amperes in self._rails:
            watts += read_number(volts).number * read_number(amperes).number / 1e6
        return watts if self._rails else math.nan

    def _throttle(self) -> tuple[Throttle | None, str]:
        """What slows the board now; None where this board has nothing that would tell."""
        if not self._cooling and not self._throttle_files:
            return None, ""
        flags, words = Throttle.NONE, []
        for kind, folder in self._cooling:
            state = read_number(folder / "cur_state").number
            if state > 0:
                flags |= Throttle.THERMAL
                words.append(f"cooling device {kind} at {state:g}")
        for path in self._throttle_files:
            count = read_number(path).number
            before = self._throttle_counts.get(path, count)
            if count > before:
                flags |= Throttle.THERMAL
                words.append(f"{count - before:g} thermal throttle events of the CPU")
            if not math.isnan(count):
                self._throttle_counts[path] = count
        return flags, ", ".join(words)


def _slows(kind: str) -> bool:
    """Whether a cooling device that is engaged means less work."""
    return bool(kind) and not any(word in kind.lower() for word in _NO_BRAKES)


def _find_rails(hwmons: list[Path]) -> list[tuple[Path, Path]]:
    """Voltage and current of the rail that feeds the board, else of all rails."""
    rails: dict[str, tuple[Path, Path]] = {}
    for folder in hwmons:
        for label in numbered(folder, "in[0-9]*_label"):
            name, number = read_text(label), label.name[2:].removesuffix("_label")
            amperes = folder / f"curr{number}_input"
            if name and name != "NC" and "sum" not in name.lower() and amperes.exists():
                rails[name] = folder / f"in{number}_input", amperes
    for whole in _WHOLE_BOARD_RAILS:
        if whole in rails:
            return [rails[whole]]
    return list(rails.values())

"""Parameters of the thermal watchdog."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import ParameterProblem, param
from shopfloor.thermal.rungs import LadderSettings, Rung
from shopfloor.thermal.sensors import parse_limit

MAX_RUNGS = 16


@dataclass(frozen=True)
class ThermalWatchdogParameters(CommandParameters):
    """Where the sensors are, which rungs there are, and how carefully it steps."""

    system_root: str = param(
        "/",
        "Folder with sys/ (and nvpmodel's files): / on a real host, another one for a simulated "
        "board; relative: in the state folder.",
    )
    nvml: bool = param(True, "Ask NVIDIA's driver for the GPUs of a server, where there is one.")
    sample_period_s: float = param(
        0.125, "Time between two readings of the sensors.", unit="s", ge=0.05, le=0.5
    )
    ignore_zones: tuple[str, ...] = param(
        ("PMIC-Die*", "iwlwifi*"),
        "Sensors that are left out, with * and ?. Some report a constant, or are off by design.",
    )
    required_zones: tuple[str, ...] = param(
        (),
        "Sensors (with * and ?) without which full speed is not safe: of each of these one must be "
        "believed. Empty: any one is enough.",
    )
    zone_limits: tuple[str, ...] = param(
        (),
        "Temperature at which throttling begins, as ZONE=CELSIUS with * and ?, instead of the trip "
        "point that the kernel names.",
    )
    default_limit_celsius: float = param(
        85.0,
        "Limit of all sensors on a host where neither the kernel nor zone_limits has one for any; "
        "0: they are only watched. Beside a sensor with a limit, those without are only watched. A "
        "sensor of which only the critical point is known has a limit 10 C below it.",
        unit="C",
        ge=0.0,
        le=150.0,
    )
    rung_names: tuple[str, ...] = param(
        ("full", "half rate", "hold"),
        f"The ladder's rungs, rung 0 (full performance) first; at most {MAX_RUNGS}. The inspectors "
        "of the host have the same.",
    )
    rung_fps: tuple[float, ...] = param(
        (30.0, 15.0, 0.0), "Frames per second that each rung promises; 0: none.", unit="Hz", ge=0.0
    )
    rung_p99_ms: tuple[float, ...] = param(
        (33.0, 33.0, 0.0),
        "Inference time that 99 of 100 frames keep at each rung; 0: no promise.",
        unit="ms",
        ge=0.0,
    )
    rung_loads: tuple[float, ...] = param(
        (1.0, 0.5, 0.0),
        "Load of the accelerator at each rung as a share of that at rung 0: frames per second "
        "times inference time.",
        ge=0.0,
        le=1.0,
    )
    guard_celsius: float = param(
        2.0, "The ladder keeps this far below each limit.", unit="C", ge=0.5, le=20.0
    )
    act_ahead_s: float = param(
        45.0,
        "A step down is announced when the guard is forecast to be reached within this time.",
        unit="s",
        ge=15.0,
        le=300.0,
    )
    notice_s: float = param(
        12.0,
        "From the announcement of a step down to its coming into force, except in an emergency.",
        unit="s",
        ge=10.0,
        le=60.0,
    )
    dwell_s: float = param(
        30.0, "Least time between two steps, except in an emergency.", unit="s", ge=30.0, le=600.0
    )
    recover_margin_celsius: float = param(
        2.0,
        "A step up is taken where the rung above is expected to settle this far below the guard.",
        unit="C",
        ge=1.0,
        le=30.0,
    )
    recover_hold_s: float = param(
        60.0,
        "For so long there must have been room for the rung above.",
        unit="s",
        ge=5.0,
        le=3600.0,
    )
    rise_celsius: float = param(
        40.0,
        "Degrees that full load is worth, until the first step has taught the board's own figure.",
        unit="C",
        ge=5.0,
        le=120.0,
    )
    lost_rung: int = param(
        1, "Rung at which the host works while its temperatures are not known.", ge=0, le=15
    )
    expected_power_mode: str = param(
        "", "Power mode of a Jetson that full speed needs, for example MAXN; empty: any."
    )
    slow_rung: int = param(
        1, "Highest rung while clocks are held down or another power mode is set.", ge=0, le=15
    )
    min_clock_fraction: float = param(
        0.9,
        "Clocks that are held below this share of what the power mode allows, under load, are a "
        "cause to step down.",
        ge=0.1,
        le=1.0,
    )
    frozen_peers_celsius: float = param(
        10.0,
        "A sensor that stands still while the median of the others goes this far is FROZEN.",
        unit="C",
        ge=3.0,
        le=60.0,
    )
    learn_board: bool = param(
        True,
        "Learn the board's time constants from the steps of the ladder, and keep them in the state "
        "folder. Off: each forecast is that of an unknown board.",
    )
    inspectors: tuple[str, ...] = param(
        (),
        "Stations whose inference times count; empty: those of every inspector on this host.",
    )
    override_max_s: float = param(
        3600.0, "Longest time for which a rung can be pinned.", unit="s", ge=1.0, le=86_400.0
    )
    disk_folder: str = param("/", "Folder on the disk whose fill level is reported.")

    def rungs(self) -> tuple[Rung, ...]:
        """The ladder; `problems` says where the lists do not fit each other."""
        rows = zip(self.rung_names, self.rung_fps, self.rung_p99_ms, self.rung_loads, strict=True)
        return tuple(Rung(index, *row) for index, row in enumerate(rows))

    def ladder_settings(self) -> LadderSettings:
        """What of this the ladder needs."""
        return LadderSettings(
            guard_celsius=self.guard_celsius,
            act_ahead_s=self.act_ahead_s,
            notice_s=self.notice_s,
            dwell_s=self.dwell_s,
            recover_margin_celsius=self.recover_margin_celsius,
            recover_hold_s=self.recover_hold_s,
            rise_celsius=self.rise_celsius,
            lost_rung=self.lost_rung,
            slow_rung=self.slow_rung,
        )

    def problems(self) -> list[ParameterProblem]:
        """Lists of different length, names twice, loads that do not fall, limits of no form."""
        found = super().problems()
        count = len(self.rung_names)
        if not 1 <= count <= MAX_RUNGS:
            message = f"{count} rungs; allowed: 1 to {MAX_RUNGS}"
            found.append(ParameterProblem("rung_names", message))
        if len(set(self.rung_names)) != count or not all(
            1 <= len(name.encode()) <= 64 for name in self.rung_names
        ):
            message = f"{list(self.rung_names)}; allowed: each once, 1 to 64 bytes"
            found.append(ParameterProblem("rung_names", message))
        for key in ("rung_fps", "rung_p99_ms", "rung_loads"):
            length = len(getattr(self, key))
            if length != count:
                message = f"{length} values; allowed: one for each of the {count} rung_names"
                found.append(ParameterProblem(key, message))
        loads = self.rung_loads
        if any(below >= above for above, below in pairwise(loads)):
            message = f"{list(loads)}; allowed: each rung less than the one above"
            found.append(ParameterProblem("rung_loads", message))
        for key in ("lost_rung", "slow_rung"):
            if getattr(self, key) >= count:
                message = f"{getattr(self, key)}; allowed: 0 to {count - 1}"
                found.append(ParameterProblem(key, message))
        if count > 1 and self.lost_rung == 0:
            message = "0 is full speed, which is not safe with temperatures that are not known"
            found.append(ParameterProblem("lost_rung", message))
        if self.act_ahead_s <= self.notice_s:
            message = f"{self.act_ahead_s:g}; allowed: more than notice_s, {self.notice_s:g}"
            found.append(ParameterProblem("act_ahead_s", message))
        for text in self.zone_limits:
            try:
                parse_limit(text)
            except ValueError as error:
                found.append(ParameterProblem("zone_limits", str(error)))
        return found

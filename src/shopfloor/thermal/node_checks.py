"""What thermal_watchdog says in /diagnostics, from its last verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from shopfloor.plant.host_load import HostUsage
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.thermal.nvml import Nvml
from shopfloor.thermal.rungs import Cause, Rung
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.watchdog import Verdict, WatchdogSettings, ZoneLevel

_FULL_PERCENT = 95.0


def temperature(verdict: Verdict | None, nvml: Nvml | None) -> Status:
    """The zones: which is at its limit, on its way there, or not known."""
    if verdict is None:
        return Status(Level.STALE, "not read yet")
    levels = {z.sensor.name: z.level(WatchdogSettings.horizon_s) for z in verdict.zones}
    values: dict[str, object] = {
        zone.sensor.name: f"{zone.celsius:.1f} C"
        if zone.fault is Fault.NONE
        else f"UNKNOWN: {zone.fault.name}"
        for zone in verdict.zones
    }
    values |= {f"{zone.sensor.name} board": zone.board for zone in verdict.zones if zone.board}
    if nvml is not None:
        values["NVML"] = nvml.absent or "answers"
    if verdict.sensors_lost:
        return Status(Level.ERROR, verdict.sensors_lost, values)
    hot = [name for name, level in levels.items() if level >= ZoneLevel.HOT]
    if hot:
        return Status(Level.ERROR, f"at the limit: {', '.join(hot)}", values)
    unknown = [z for z in verdict.zones if z.fault is not Fault.NONE]
    if unknown:
        text = ", ".join(f"{z.sensor.name} {z.fault.name}" for z in unknown)
        return Status(Level.WARN, f"not known: {text}", values)
    warm = [name for name, level in levels.items() if level is ZoneLevel.WARM]
    if warm:
        return Status(Level.WARN, f"limit forecast: {', '.join(warm)}", values)
    deciding = verdict.deciding
    assert deciding is not None
    text = f"{deciding.sensor.name} {deciding.celsius:.1f} C"
    return Status(Level.OK, f"{text}, {deciding.headroom_celsius:.1f} C to its limit", values)


def ladder(verdict: Verdict | None, rungs: Sequence[Rung]) -> Status:
    """The rung, why, and what it guarantees beside what is measured."""
    if verdict is None:
        return Status(Level.STALE, "nothing decided yet")
    state = verdict.ladder
    rung = rungs[state.rung]
    values: dict[str, object] = {
        "rung": f"{rung.index} {rung.name}",
        "cause": state.cause.name,
        "guaranteed fps": rung.fps,
        "guaranteed p99 ms": rung.p99_ms,
        "measured fps": verdict.fps,
        "measured p99 ms": verdict.p99_ms,
        "steps down": state.steps_down,
        "steps up": state.steps_up,
    }
    text = f"{rung.name}: {state.text}"
    if state.next_rung != state.rung:
        due_s = state.next_at_s - verdict.at_s
        text = f"{rungs[state.next_rung].name} in {due_s:.0f} s: {state.text}"
        return Status(Level.WARN, text, values)
    well = state.rung == 0 and state.cause in (Cause.NONE, Cause.OVERRIDE)
    return Status(Level.OK if well else Level.WARN, text, values)


def host(verdict: Verdict | None, load: HostUsage | None, disk_folder: str) -> Status:
    """Load, power and fan of the computer. disk_folder: on the disk that counts."""
    if load is None or verdict is None:
        return Status(Level.STALE, "not read yet")
    board = verdict.board
    values: dict[str, object] = {
        **asdict(load),
        "power mode": board.power_mode or "not known",
        "power W": board.power_w,
        "fan %": board.fan_percent,
        "over-current events": "not known"
        if board.over_current_events is None
        else board.over_current_events,
        "throttle": "not known" if board.throttle is None else board.throttle.name or "none",
    }
    full = [
        f"{name} {percent:.0f} % full"
        for name, percent in (
            ("disk", load.disk_used_percent),
            ("memory", load.memory_used_percent),
        )
        if percent >= _FULL_PERCENT
    ]
    if full:
        return Status(Level.WARN, ", ".join(full), values)
    if board.fan_stands:
        return Status(Level.WARN, "the fan stands still although it is driven", values)
    if math.isnan(load.disk_used_percent):
        return Status(Level.WARN, f"no disk at {disk_folder}", values)
    return Status(Level.OK, f"CPU {load.cpu_percent:.0f} %", values)

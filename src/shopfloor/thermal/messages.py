"""What the watchdog says, as messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import Temperature
from shopfloor_msgs.msg import HostLoad, ThermalState, ThermalZone

from shopfloor.thermal.rungs import Rung
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.watchdog import Verdict, Zone

_TEXT_BYTES = 254
_NAME_BYTES = 64
_SOURCE_BYTES = 128
MAX_ZONES = 64


def clip(text: str, size: int = _TEXT_BYTES) -> str:
    """The text as far as its field holds it."""
    return text.encode()[:size].decode(errors="ignore")


def thermal_state(
    verdict: Verdict,
    rungs: tuple[Rung, ...],
    *,
    host: str,
    stamp: Callable[[float], Any],
    horizon_s: float,
    load: HostLoad,
) -> ThermalState:
    """stamp: a time on the watchdog's steady clock as a message; infinity as 0."""
    state, board, now_s = verdict.ladder, verdict.board, verdict.at_s
    rung, coming = rungs[state.rung], rungs[state.next_rung]
    deciding, override = verdict.deciding, state.override
    times = [zone.seconds_to_limit for zone in verdict.zones if zone.fault is Fault.NONE]
    known = [seconds for seconds in times if not math.isnan(seconds)]
    message = ThermalState(
        host=clip(host, _NAME_BYTES),
        rung=rung.index,
        rung_count=len(rungs),
        rung_name=rung.name,
        next_rung=coming.index,
        next_rung_stamp=stamp(state.next_at_s),
        rung_since=stamp(state.since_s),
        steps_down=state.steps_down,
        steps_up=state.steps_up,
        cause=int(state.cause),
        cause_text=clip(state.text),
        guaranteed_fps=rung.fps,
        guaranteed_p99_ms=rung.p99_ms or math.nan,
        next_guaranteed_fps=coming.fps,
        next_guaranteed_p99_ms=coming.p99_ms or math.nan,
        measured_fps=verdict.fps,
        measured_p99_ms=verdict.p99_ms,
        zones=[_zone(zone, now_s, horizon_s) for zone in verdict.zones[:MAX_ZONES]],
        board_temperature_celsius=deciding.celsius if deciding is not None else math.nan,
        headroom_celsius=deciding.headroom_celsius if deciding is not None else math.nan,
        seconds_to_limit=min(known, default=math.nan),
        throttle_flags=int(board.throttle or 0),
        throttle_known=board.throttle is not None,
        cpu_clock_fraction=board.cpu_clock_fraction,
        gpu_clock_fraction=board.gpu_clock_fraction,
        over_current_events=board.over_current_events or 0,
        fan_percent=board.fan_percent,
        power_w=board.power_w,
        power_mode=clip(board.power_mode, 32),
        load=load,
    )
    message.header.frame_id = message.host
    message.header.stamp = stamp(now_s)
    if override is not None:
        message.override_by = clip(override.by, _NAME_BYTES)
        message.override_reason = clip(override.reason)
        message.override_until = stamp(override.until_s)
    return message


def _zone(zone: Zone, now_s: float, horizon_s: float) -> ThermalZone:
    sensor, forecast = zone.sensor, zone.forecast
    return ThermalZone(
        name=clip(sensor.name, _NAME_BYTES),
        source=clip(sensor.source, _SOURCE_BYTES),
        level=int(zone.level(horizon_s)),
        fault=int(zone.fault),
        temperature_celsius=zone.celsius,
        age_ms=(now_s - zone.at_s) * 1e3,
        limit_celsius=sensor.limit_celsius,
        critical_celsius=sensor.critical_celsius,
        headroom_celsius=zone.headroom_celsius,
        slope_celsius_per_min=60.0 * forecast.slope_per_s if forecast is not None else math.nan,
        settling_celsius=forecast.settling if forecast is not None else math.nan,
        seconds_to_limit=zone.seconds_to_limit,
        confidence=forecast.confidence if forecast is not None else 0.0,
    )


def temperature(zone: Zone, stamp: Any) -> Temperature:
    """One zone for rqt_plot; NaN while it cannot be believed."""
    message = Temperature(temperature=zone.celsius, variance=0.0)
    message.header.stamp = stamp
    message.header.frame_id = zone.sensor.name
    return message

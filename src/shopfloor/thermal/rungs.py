"""What the ladder is made of, what it is told and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from shopfloor.thermal.forecast import Forecast


class Cause(IntEnum):
    """Why the present rung: ThermalState.CAUSE_*."""

    UNKNOWN = 0
    NONE = 1
    THERMAL = 2
    OVER_CURRENT = 3
    CLOCKS = 4
    POWER_MODE = 5
    LATENCY = 6
    OVERRIDE = 7
    RECOVERING = 8


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder.

    fps, p99_ms: what it promises; 0: nothing. load: of the accelerator, as a share of rung 0's.
    """

    index: int
    name: str
    fps: float
    p99_ms: float
    load: float


@dataclass(frozen=True)
class LadderSettings:
    """See ThermalWatchdogParameters for each meaning."""

    guard_celsius: float = 2.0
    act_ahead_s: float = 45.0
    min_confidence: float = 0.5
    notice_s: float = 12.0
    dwell_s: float = 30.0
    emergency_dwell_s: float = 10.0
    recover_margin_celsius: float = 2.0
    recover_hold_s: float = 60.0
    rise_celsius: float = 40.0
    lost_rung: int = 1
    slow_rung: int = 1
    hold_after_event_s: float = 120.0


@dataclass(frozen=True)
class ZoneOutlook:
    """A zone that can be believed; limit NaN: only watched, it decides nothing."""

    name: str
    celsius: float
    limit_celsius: float
    forecast: Forecast | None = None


@dataclass(frozen=True)
class Evidence:
    """What is known now.

    sensors_lost: why the sensors cannot carry full speed, empty: they can. throttled: what slows
    the board down, in words. over_current: the board counted new events. fan_stands: it does,
    though it is driven. slow_clocks, power_mode, latency: what is wrong, in words, and empty where
    nothing is. fps: frames that were processed a second; NaN: not known.
    """

    zones: Sequence[ZoneOutlook] = ()
    sensors_lost: str = ""
    throttled: str = ""
    over_current: bool = False
    fan_stands: bool = False
    slow_clocks: str = ""
    power_mode: str = ""
    latency: str = ""
    fps: float = math.nan


@dataclass(frozen=True)
class Override:
    """A rung that a person pinned."""

    rung: int
    until_s: float
    by: str
    reason: str


@dataclass
class LadderState:
    """What the ladder says; `since_s` and `next_at_s` on the clock of `decide`."""

    rung: int = 0
    since_s: float = -math.inf
    next_rung: int = 0
    next_at_s: float = math.inf
    cause: Cause = Cause.NONE
    text: str = "full performance"
    steps_down: int = 0
    steps_up: int = 0
    override: Override | None = None

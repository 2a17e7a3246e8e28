"""The watchdog without ROS: readings become zones that are believed or not, and a rung.

Two halves, as devices may hang: `Observer` reads and belongs to a worker; `Watchdog` decides from
the latest observation, knows how old it is, and never waits. Seconds of a steady clock throughout.
"""

from __future__ import annotations

import fnmatch
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from shopfloor.thermal.board import BUSY, Board, BoardReading, Throttle
from shopfloor.thermal.forecast import Forecast, Trace
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.latency import LatencyWindow, RateCounter
from shopfloor.thermal.learning import BoardMemory, Learner
from shopfloor.thermal.nvml import Nvml, with_gpus
from shopfloor.thermal.rungs import Evidence, LadderState, ZoneOutlook
from shopfloor.thermal.sensors import Reading, Sensor, Sensors
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import HostTrust, TrustSettings, median

CRITICAL_WITHIN_CELSIUS = 3.0
_BOARD_PERIOD_S = 0.45
_RESCAN_S = 10.0
_FORECAST_PERIOD_S = 1.9
_FAR_PERIOD_S = 7.9
_NEAR_CELSIUS = 12.0
_LEFT_CELSIUS = 2.0
"""A zone that is far from its limit, or has none, and keeps to its forecast needs no fresh one."""

_LATENCY_HOLD_S = 3.0
_CLOCKS_HOLD_S = 2.0
_FAN_HOLD_S = 1.5
"""A fan that is switched on takes a moment to turn."""

_OVER_CURRENT_SHOWN_S = 5.0


class ZoneLevel(IntEnum):
    """ThermalZone.LEVEL_*."""

    UNKNOWN = 0
    OK = 1
    WARM = 2
    HOT = 3
    CRITICAL = 4


@dataclass(frozen=True)
class Zone:
    """A sensor as it is seen now.

    celsius: the last reading, NaN where `fault` is one; at_s: its time. median_celsius: of the last
    three, which a single wild value does not move. board: what is known of it, for people.
    """

    sensor: Sensor
    celsius: float
    fault: Fault
    at_s: float
    median_celsius: float = math.nan
    forecast: Forecast | None = None
    board: str = ""

    @property
    def headroom_celsius(self) -> float:
        """To the limit, negative above it; NaN: not known."""
        return self.sensor.limit_celsius - self.celsius

    @property
    def seconds_to_limit(self) -> float:
        """0 when reached, infinity when not foreseen, NaN: not known."""
        if math.isnan(self.headroom_celsius):
            return math.nan
        if self.headroom_celsius <= 0.0:
            return 0.0
        return math.nan if self.forecast is None else self.forecast.seconds_to(
            self.sensor.limit_celsius
        )  # fmt: skip

    def level(self, horizon_s: float) -> ZoneLevel:
        """What a person should make of it."""
        if self.fault is not Fault.NONE or math.isnan(self.celsius):
            return ZoneLevel.UNKNOWN
        if self.celsius >= self.sensor.critical_celsius - CRITICAL_WITHIN_CELSIUS:
            return ZoneLevel.CRITICAL
        if self.celsius >= self.sensor.limit_celsius:
            return ZoneLevel.HOT
        return ZoneLevel.WARM if self.seconds_to_limit <= horizon_s else ZoneLevel.OK


@dataclass(frozen=True)
class Observation:
    """Everything that was read, at `at_s`."""

    at_s: float
    zones: tuple[Zone, ...]
    board: BoardReading


class Observer:
    """Reads and judges; one thread at a time."""

    def __init__(
        self,
        sensors: Sensors,
        board: Board,
        nvml: Nvml | None,
        trust: TrustSettings,
        memories: dict[str, BoardMemory] | None = None,
    ) -> None:
        """memories: of each zone, learnt further from now on; None: nothing is learnt."""
        self.memories = memories
        self._learners: dict[str, Learner] = {}
        self._boards: dict[str, str] = {}
        self._has_learnt = False
        self._sensors = sensors
        self._board = board
        self._nvml = nvml
        self._trust = HostTrust(trust)
        self._traces: dict[str, Trace] = {}
        self._forecasts: dict[str, tuple[float, Forecast | None]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._reading = BoardReading()
        self._board_at_s = -math.inf
        self._scanned_at_s = -math.inf
        self._load_changed = False

    def load_changed(self) -> None:
        """The rung changed: forecasts know of it with the next observation. From any thread."""
        self._load_changed = True

    def observe(self, now_s: float) -> Observation:
        """Read everything that is due."""
        if self._load_changed:
            self._load_changed = False
            for trace in self._traces.values():
                trace.load_changed(now_s)
            for learner in self._learners.values():
                learner.load_changed(now_s)
            self._forecasts.clear()
        rescan_s = _RESCAN_S if self._sensors.sensors else 1.0
        if now_s - self._scanned_at_s >= rescan_s:
            self._scanned_at_s = now_s
            self._sensors.discover()
            self._board.discover()
            if self._nvml is not None:
                self._nvml.discover()
        found = self._nvml.read() if self._nvml is not None else []
        gpus = [gpu for gpu in found if not self._sensors.ignores(gpu.temperature.sensor.name)]
        # First, as messages hold so many zones; a GPU that is required by name is no second zone.
        readings = [
            replace(gpu.temperature, sensor=self._sensors.limited(gpu.temperature.sensor))
            for gpu in gpus
        ]
        gpu_names = {reading.sensor.name for reading in readings}
        readings += [r for r in self._sensors.read() if r.sensor.name not in gpu_names]
        if now_s - self._board_at_s >= _BOARD_PERIOD_S:
            self._board_at_s = now_s
            self._reading = with_gpus(self._board.read(), gpus)
        faults = self._trust.judge(now_s, readings)
        zones = [self._zone(now_s, r, f) for r, f in zip(readings, faults, strict=True)]
        self._learn()
        return Observation(now_s, tuple(zones), self._reading)

    def _zone(self, now_s: float, reading: Reading, fault: Fault) -> Zone:
        name = reading.sensor.name
        if name not in self._traces:
            self._traces[name] = Trace()
            if self.memories is not None:
                memory = self.memories.setdefault(name, BoardMemory())
                self._learners[name] = Learner(memory)
                self._know(name, memory)
        if fault is not Fault.NONE:
            return Zone(reading.sensor, math.nan, fault, now_s)
        trace = self._traces[name]
        fan, learner = self._reading.fan_percent / 100.0, self._learners.get(name)
        trace.add(now_s, reading.celsius, fan)
        if learner is not None:
            learner.add(now_s, reading.celsius, fan)
        at_s, forecast = self._forecasts.get(name, (-math.inf, None))
        if now_s - at_s >= _forecast_period_s(reading, forecast):
            stepped_s = trace.step_at_s
            forecast = trace.forecast(now_s)
            if learner is not None and trace.step_at_s != stepped_s:
                learner.disturbed(now_s)
            self._forecasts[name] = now_s, forecast
        recent = self._recent.setdefault(name, deque(maxlen=3))
        recent.append(reading.celsius)
        celsius, board = reading.celsius, self._boards.get(name, "")
        return Zone(reading.sensor, celsius, Fault.NONE, now_s, median(recent), forecast, board)

    def take_learnt(self) -> bool:
        """Whether `memories` have changed since the last call."""
        has_learnt, self._has_learnt = self._has_learnt, False
        return has_learnt

    def _learn(self) -> None:
        """A part of what waits: the next reading is due soon."""
        for name, learner in self._learners.items():
            if learner.has_work:
                if learner.work():
                    self._has_learnt = True
                    self._know(name, learner.memory)
                return

    def _know(self, name: str, memory: BoardMemory) -> None:
        self._traces[name].models, self._boards[name] = memory.models(), str(memory)


def _forecast_period_s(reading: Reading, forecast: Forecast | None) -> float:
    limit, celsius = reading.sensor.limit_celsius, reading.celsius
    near = forecast is None or abs(celsius - forecast.temperature) > _LEFT_CELSIUS
    near = near or (celsius > limit - _NEAR_CELSIUS)
    return _FORECAST_PERIOD_S if near else _FAR_PERIOD_S


@dataclass(frozen=True)
class WatchdogSettings:
    """See ThermalWatchdogParameters for each meaning."""

    required_zones: tuple[str, ...] = ()
    stale_after_s: float = 0.7
    horizon_s: float = 120.0
    min_clock_fraction: float = 0.9
    expected_power_mode: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the watchdog says now."""

    at_s: float
    zones: tuple[Zone, ...]
    board: BoardReading
    ladder: LadderState
    deciding: Zone | None
    sensors_lost: str
    p99_ms: float
    fps: float


class Watchdog:
    """Decides from the latest observation."""

    def __init__(self, ladder: Ladder, settings: WatchdogSettings) -> None:
        self.ladder = ladder
        self.latency = LatencyWindow()
        self.rate = RateCounter()
        self._settings = settings
        self._events: int | None = None
        self._event_s = -math.inf
        self._slow_since_s: float | None = None
        self._fan_stands_since_s: float | None = None

    def decide(self, now_s: float, seen: Observation | None) -> Verdict:
        """The rung from what was seen last; an observation that is too old counts as none."""
        settings = self._settings
        zones = seen.zones if seen is not None else ()
        board = seen.board if seen is not None else BoardReading()
        if seen is None or now_s - seen.at_s > settings.stale_after_s:
            zones = tuple(_stale(zone) for zone in zones)
            board = BoardReading()
        lost = self._lost(zones) if seen is not None else "the sensors have not answered yet"
        p99_ms, fps = self.latency.p99_ms(now_s), self.rate.fps(now_s)
        rung = self.ladder.state.rung
        evidence = Evidence(
            zones=[
                ZoneOutlook(z.sensor.name, z.median_celsius, z.sensor.limit_celsius, z.forecast)
                for z in zones
                if z.fault is Fault.NONE
            ],
            sensors_lost=lost,
            throttled=_throttled(board),
            over_current=self._over_current(now_s, board),
            fan_stands=self._fan_stands(now_s, board),
            slow_clocks=self._slow_clocks(now_s, board),
            power_mode=self._power_mode(board),
            latency=self._latency(now_s, p99_ms),
            fps=fps,
        )
        state = self.ladder.decide(now_s, evidence)
        if state.rung != rung:
            self.latency.clear()
        return Verdict(now_s, zones, board, state, _deciding(zones), lost, p99_ms, fps)

    def _lost(self, zones: Sequence[Zone]) -> str:
        """Why the sensors cannot carry full speed; empty: they can."""
        # Beside a zone with a limit one without decides nothing, so it carries nothing either.
        deciding = [z for z in zones if not math.isnan(z.sensor.limit_celsius)] or zones
        if all(z.fault is not Fault.NONE for z in deciding):
            faults = ", ".join(f"{z.sensor.name} {z.fault.name}" for z in deciding[:4])
            return f"no temperature can be believed: {faults or 'no sensor found'}"
        good = [z.sensor.name for z in zones if z.fault is Fault.NONE]
        for pattern in self._settings.required_zones:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in good):
                return f"no temperature of the required zone {pattern}"
        return ""

    def _over_current(self, now_s: float, board: BoardReading) -> bool:
        events = board.over_current_events
        if events is not None:
            if self._events is not None and events > self._events:
                self._event_s = now_s
            self._events = events
        throttled = board.throttle is not None and Throttle.OVER_CURRENT in board.throttle
        return throttled or now_s - self._event_s < _OVER_CURRENT_SHOWN_S

    def _fan_stands(self, now_s: float, board: BoardReading) -> bool:
        if not board.fan_stands:
            self._fan_stands_since_s = None
            return False
        if self._fan_stands_since_s is None:
            self._fan_stands_since_s = now_s
        return now_s - self._fan_stands_since_s >= _FAN_HOLD_S

    def _slow_clocks(self, now_s: float, board: BoardReading) -> str:
        least = self._settings.min_clock_fraction
        words = ""
        if board.cpu_clock_fraction < least and board.cpu_load >= BUSY:
            words = f"CPU clocks held at {100 * board.cpu_clock_fraction:.0f} %"
        elif board.gpu_clock_fraction < least and board.gpu_load >= BUSY and board.gpu_held_down:
            words = f"GPU at {100 * board.gpu_clock_fraction:.0f} % of its clock under load"
        if not words:
            self._slow_since_s = None
            return ""
        if self._slow_since_s is None:
            self._slow_since_s = now_s
        return words if now_s - self._slow_since_s >= _CLOCKS_HOLD_S else ""

    def _power_mode(self, board: BoardReading) -> str:
        expected = self._settings.expected_power_mode
        if not expected or not board.power_mode or board.power_mode == expected:
            return ""
        return f"power mode {board.power_mode}, expected {expected}"

    def _latency(self, now_s: float, p99_ms: float) -> str:
        promised_ms = self.ladder.rungs[self.ladder.state.rung].p99_ms
        if self.latency.broken_for_s(now_s, p99_ms, promised_ms) < _LATENCY_HOLD_S:
            return ""
        return f"p99 {p99_ms:.0f} ms, promised {promised_ms:g} ms"


def _stale(zone: Zone) -> Zone:
    fault = Fault.STALE if zone.fault is Fault.NONE else zone.fault
    return replace(zone, celsius=math.nan, fault=fault, forecast=None)


def _deciding(zones: Sequence[Zone]) -> Zone | None:
    """The zone with the least headroom; without any limit the hottest."""
    good = [zone for zone in zones if zone.fault is Fault.NONE]
    limited = [zone for zone in good if not math.isnan(zone.headroom_celsius)]
    if limited:
        return min(limited, key=lambda zone: zone.headroom_celsius)
    return max(good, key=lambda zone: zone.celsius, default=None)


def _throttled(board: BoardReading) -> str:
    flags = board.throttle or Throttle.NONE
    if Throttle.THERMAL in flags:
        return board.slowed_by or "the driver reports a thermal slow-down"
    return ""

"""The state of everything that is monitored: streams, speeds, health and alerts. Needs no ROS."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path

from shopfloor.vibration.alerts import AlertBook, work_order
from shopfloor.vibration.analysis import Speed, SpeedSource, WindowFeatures
from shopfloor.vibration.baseline import BaselineAction, BaselineState, checked_bin
from shopfloor.vibration.clock import ClockLimits
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.health import Health, HealthLimits, SensorHealth, Tier
from shopfloor.vibration.machines import Machine
from shopfloor.vibration.signal import Block, Defect, Status, Window
from shopfloor.vibration.windows import SensorStream


@dataclass(frozen=True)
class Settings:
    """How machines are monitored."""

    window_s: float
    bands_hz: tuple[tuple[float, float], ...]
    clock: ClockLimits
    health: HealthLimits
    diagnosis: DiagnosisLimits
    baseline_folder: Path | None
    silent_s: float
    speed_max_age_s: float
    max_sensors: int


@dataclass
class Sensor:
    """One sensor: its stream, its health, and when it was last heard (steady time)."""

    machine_id: str
    stream: SensorStream
    health: SensorHealth
    heard_ns: int
    latest: Health | None = None
    is_silent: bool = False
    windows: int = 0


@dataclass(frozen=True)
class Report:
    """What is to be said of a machine now. sensor_id: the one that has most to say."""

    machine_id: str
    sensor_id: str
    health: Health
    book: AlertBook
    work_order: str


class BlockRefused(ValueError):
    """A block of one sensor more than there may be, or of a sensor that is another machine's."""


class Monitoring:
    """Keeps what is known between blocks."""

    def __init__(self, settings: Settings, machines: dict[str, Machine]) -> None:
        self.settings, self.machines = settings, machines
        self.sensors: dict[str, Sensor] = {}
        self.books: dict[str, AlertBook] = {}
        self.defects: Counter[str] = Counter()
        self.windows = 0
        self.unknown_windows = 0
        self.missing: dict[str, tuple[str, Health]] = {}
        self._expected = {name: m.machine_id for m in machines.values() for name in m.sensors}
        self._expected_since_ns: int | None = None
        self._speeds: dict[str, deque[tuple[int, float, SpeedSource]]] = {}

    def add(self, block: Block, steady_ns: int) -> list[Window]:
        """Take in a block; the windows that it ended. Raises BlockRefused."""
        sensor = self.sensors.get(block.sensor_id)
        if sensor is None or sensor.machine_id != block.machine_id:
            if sensor is not None and not sensor.is_silent:
                # Taken in turns, neither machine would ever fill a window.
                raise BlockRefused(
                    f"sensor '{block.sensor_id}' of '{block.machine_id}' is heard from "
                    f"'{sensor.machine_id}' too: a sensor's id is unique in the plant"
                )
            sensor = self._new_sensor(block, steady_ns)
        sensor.heard_ns, sensor.is_silent = steady_ns, False
        before = sensor.stream.counts.copy()
        windows = sensor.stream.add(block)
        self.defects.update(sensor.stream.counts - before)
        return windows

    def _new_sensor(self, block: Block, steady_ns: int) -> Sensor:
        settings = self.settings
        if len(self.sensors) >= settings.max_sensors and block.sensor_id not in self.sensors:
            raise BlockRefused(
                f"sensor '{block.sensor_id}' of '{block.machine_id}': already "
                f"{settings.max_sensors} sensors (max_sensors)"
            )
        sensor = Sensor(
            block.machine_id,
            SensorStream(settings.window_s, settings.clock),
            SensorHealth(
                block.machine_id,
                block.sensor_id,
                settings.health,
                settings.diagnosis,
                settings.baseline_folder,
            ),
            steady_ns,
        )
        self.sensors[block.sensor_id] = sensor
        self._expected.pop(block.sensor_id, None)
        self.missing.pop(block.sensor_id, None)
        return sensor

    def hear_speed(self, machine_id: str, stamp_ns: int, rpm: float, source: int) -> None:
        """A tachometer's word. Raises ValueError where it is none."""
        if not (math.isfinite(rpm) and rpm >= 0):
            raise ValueError(f"speed of '{machine_id}' is {rpm} rpm")
        if machine_id not in self._speeds and len(self._speeds) >= self.settings.max_sensors:
            raise ValueError(f"speed of '{machine_id}': too many machines")
        known = source if source in set(SpeedSource) else SpeedSource.UNKNOWN
        self._speeds.setdefault(machine_id, deque(maxlen=64)).append(
            (stamp_ns, rpm, SpeedSource(known))
        )

    def speed(self, window: Window) -> Speed:
        """Shaft speed in a window: the word nearest to its middle, else the name plate's."""
        samples = window.data.shape[1]
        middle_ns = window.stamp_ns + round(samples / window.sample_rate_hz * 5e8)
        heard = self._speeds.get(window.machine_id, ())
        best = min(heard, key=lambda word: abs(word[0] - middle_ns), default=None)
        if best is not None and abs(best[0] - middle_ns) <= self.settings.speed_max_age_s * 1e9:
            return Speed(best[1], best[2])
        machine = self.machines.get(window.machine_id)
        if machine is not None and math.isfinite(machine.nominal_rpm):
            return Speed(machine.nominal_rpm, SpeedSource.NOMINAL)
        return Speed()

    def judge(self, features: WindowFeatures, now_ns: int) -> Report:
        """Take in the features of a window; what to say of its machine."""
        window = features.window
        sensor = self.sensors[window.sensor_id]
        self.windows += 1
        sensor.windows += 1
        if features.quality.status is Status.UNKNOWN:
            self.unknown_windows += 1
        # What the clock found was counted per block, when it came.
        signal_defects = features.quality.defects & ~window.clock.defects
        self.defects.update(d.name or "" for d in Defect if signal_defects & d)
        sensor.latest = sensor.health.update(features, self.settings.bands_hz)
        return self.report(window.machine_id, now_ns)

    def silences(self, steady_ns: int, now_ns: int) -> list[Report]:
        """Reports of machines of which a sensor has just fallen silent, or was never heard."""
        fallen = self._not_heard(steady_ns)
        for name, sensor in self.sensors.items():
            quiet_s = (steady_ns - sensor.heard_ns) / 1e9
            if quiet_s > self.settings.silent_s and not sensor.is_silent:
                sensor.is_silent = True
                reason = f"{name}: no blocks for {quiet_s:.1f} s"
                sensor.latest = sensor.health.silent(reason)
                fallen.append(sensor.machine_id)
        return [self.report(machine, now_ns) for machine in dict.fromkeys(fallen)]

    def _not_heard(self, steady_ns: int) -> list[str]:
        """The machines of sensors in the machines file that have been waited for long enough."""
        if self._expected_since_ns is None:
            self._expected_since_ns = steady_ns
        quiet_s = (steady_ns - self._expected_since_ns) / 1e9
        if quiet_s <= self.settings.silent_s:
            return []
        fallen = []
        for name, machine_id in self._expected.items():
            health = SensorHealth(machine_id, name, self.settings.health)
            self.missing[name] = machine_id, health.silent(f"{name}: no block yet")
            fallen.append(machine_id)
        self._expected.clear()
        return fallen

    def report(self, machine_id: str, now_ns: int) -> Report:
        """The worst of a machine's sensors; UNKNOWN hides a NORMAL, and is hidden by a change."""
        found = [
            (name, s.latest)
            for name, s in self.sensors.items()
            if s.machine_id == machine_id and s.latest is not None
        ]
        found += [(name, health) for name, (of, health) in self.missing.items() if of == machine_id]

        def weight(item: tuple[str, Health]) -> float:
            tier = item[1].tier
            return 1.5 if tier is Tier.UNKNOWN else float(tier)

        name, health = max(found, key=weight)
        book = self.books.setdefault(machine_id, AlertBook(machine_id))
        cause = f"{name}: {health.diagnosis.fault.label}"
        tier = book.update(health.tier, cause, now_ns)
        if tier is not health.tier:
            silenced = "; ".join(book.silenced(now_ns))
            health = replace(health, tier=tier, reason=f"{health.reason} (silenced: {silenced})")
        draft = ""
        if health.tier is Tier.WORK_ORDER:
            findings = [c.text for c in health.contributions]
            draft = work_order(machine_id, name, health.reason, findings)
        return Report(machine_id, name, health, book, draft)

    def of_machine(self, machine_id: str) -> list[Sensor]:
        """The sensors of a machine. Raises KeyError where none was heard yet."""
        sensors = [s for s in self.sensors.values() if s.machine_id == machine_id]
        if not sensors:
            raise KeyError(machine_id)
        return sensors

    def baseline_state(self, machine_id: str, bin_name: str = "") -> BaselineState:
        """The least of a machine's sensors, in a bin or each one's present bin; UNKNOWN: none."""
        sensors = [s for s in self.sensors.values() if s.machine_id == machine_id]
        states = [sensor.health.state(bin_name)[0] for sensor in sensors]
        return min(states, default=BaselineState.UNKNOWN)

    def change_baseline(
        self, machine_id: str, action: BaselineAction, bin_name: str = "", windows: int = 0
    ) -> int:
        """Learn, freeze or reset on all sensors of a machine or on none; fewest windows learned.

        Raises KeyError where no sensor of the machine was heard yet, ValueError on a bin that is
        none, RuntimeError where one of the sensors has too little to freeze.
        """
        healths = [sensor.health for sensor in self.of_machine(machine_id)]
        if bin_name:
            checked_bin(bin_name, self.settings.health.speed_bin_rpm)
        if action is BaselineAction.FREEZE:
            try:
                for health in healths:
                    health.freezable(bin_name)
            except ValueError as error:
                raise RuntimeError(str(error)) from error
        for health in healths:
            if action is BaselineAction.LEARN:
                health.learn(bin_name, windows)
            elif action is BaselineAction.FREEZE:
                health.freeze(bin_name)
            else:
                health.reset(bin_name)
        return min(health.state(bin_name)[1] for health in healths)

"""Whether a sensor's value can be believed. What cannot is named with its fault, and never OK.

Frozen is the hard one, as a temperature may well stand still. Two things tell it:
- a sensor whose value changed with nearly every sample and does so no more: it is frozen as soon as
  that is less likely than one in a million, which takes five or six samples;
- a coarse sensor that stands still while the board around it goes somewhere else.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shopfloor.thermal.sensors import Reading
from shopfloor.thermal.sysfs import Fault

OFFLINE_BELOW_CELSIUS = -100.0
"""Drivers of switched-off sensors report -256 or -274 degrees."""

PHYSICAL_CELSIUS = (-40.0, 150.0)
_FROZEN_LOG_CHANCE = math.log(1e-6)
_MEMORY = 480
"""Samples from which a sensor's liveliness is known."""

_LIVELY = 0.85
"""From this share of samples that differ from the one before, standing still means something."""


@dataclass(frozen=True)
class TrustSettings:
    """jump_celsius: from one sample to the next no board heats or cools by more.

    jump_settle_s: a value after a jump is believed when it has stayed for so long.
    frozen_peers_celsius: a zone is frozen when the median of its peers went this far away since its
    last change. frozen_peers_s: but not before this time.
    """

    jump_celsius: float = 40.0
    jump_settle_s: float = 2.0
    frozen_peers_celsius: float = 10.0
    frozen_peers_s: float = 60.0


class ZoneTrust:
    """Judges the readings of one zone as they come."""

    def __init__(self, settings: TrustSettings) -> None:
        self._settings = settings
        self._changes: deque[bool] = deque(maxlen=_MEMORY)
        self._last: float | None = None
        self._lively = 0
        self._same = 0
        self._changed_at_s = -math.inf
        self._peers_at_change = math.nan
        self._suspect: tuple[float, float] | None = None  # value and time of a jump

    def judge(self, now_s: float, reading: Reading, peers_celsius: float) -> Fault:
        """The fault of this reading, NONE where it can be believed.

        peers_celsius: median of the other zones' values, NaN where there are none.
        """
        fault = self.admit(now_s, reading)
        if fault is Fault.NONE and self.is_frozen(now_s, reading.celsius, peers_celsius):
            return Fault.FROZEN
        return fault

    def admit(self, now_s: float, reading: Reading) -> Fault:
        """The fault that this reading shows by itself, without the board around it."""
        if reading.fault is not Fault.NONE:
            return reading.fault
        value = reading.celsius
        low, high = PHYSICAL_CELSIUS
        if value <= OFFLINE_BELOW_CELSIUS or value == 0.0:
            return Fault.OFFLINE
        if not low <= value <= high:
            return Fault.ABSURD
        if self._jumped(now_s, value):
            return Fault.ABSURD
        return Fault.NONE

    def shift_peers(self, celsius: float) -> None:
        """The peers' median moved by this much only because some of them came or went."""
        if not math.isnan(celsius):
            self._peers_at_change += celsius

    def _jumped(self, now_s: float, value: float) -> bool:
        settings, last = self._settings, self._last
        if last is None or abs(value - last) <= settings.jump_celsius:
            self._suspect = None
            return False
        if self._suspect is None or abs(value - self._suspect[0]) > settings.jump_celsius:
            self._suspect = (value, now_s)
        if now_s - self._suspect[1] < settings.jump_settle_s:
            return True
        self._suspect = None
        return False

    def is_frozen(self, now_s: float, value: float, peers_celsius: float) -> bool:
        """Take in a value that `admit` let pass: does it stand still though it should not?"""
        changed = value != self._last
        if changed or self._last is None:
            if self._last is not None:
                for changed_then in (*([False] * min(self._same, 16)), True):
                    if len(self._changes) == _MEMORY:
                        self._lively -= self._changes[0]
                    self._changes.append(changed_then)
                    self._lively += changed_then
            self._same = 0
            self._last, self._changed_at_s = value, now_s
            self._peers_at_change = peers_celsius
            return False
        self._same += 1
        count = len(self._changes)
        if count >= 60:
            share = (self._lively + 0.5) / (count + 1.0)
            if share >= _LIVELY and self._same * math.log1p(-share) < _FROZEN_LOG_CHANCE:
                return True
        moved = abs(peers_celsius - self._peers_at_change)
        waited_s = now_s - self._changed_at_s
        settings = self._settings
        return moved >= settings.frozen_peers_celsius and waited_s >= settings.frozen_peers_s


class HostTrust:
    """Judges all zones of a host: what a faulty one reads tells nothing of the others."""

    def __init__(self, settings: TrustSettings) -> None:
        self._settings = settings
        self._zones: dict[str, ZoneTrust] = {}
        self._before: dict[str, float] = {}

    def judge(self, now_s: float, readings: Sequence[Reading]) -> list[Fault]:
        """The fault of each reading, NONE where it can be believed; each name once."""
        for reading in readings:
            if reading.sensor.name not in self._zones:
                self._zones[reading.sensor.name] = ZoneTrust(self._settings)
        zones = [self._zones[reading.sensor.name] for reading in readings]
        faults = [z.admit(now_s, r) for z, r in zip(zones, readings, strict=True)]
        values = {
            reading.sensor.name: reading.celsius
            for reading, fault in zip(readings, faults, strict=True)
            if fault is Fault.NONE
        }
        self._follow(values)
        for i, reading in enumerate(readings):
            around = peers(values, reading.sensor.name)
            if faults[i] is Fault.NONE and zones[i].is_frozen(now_s, reading.celsius, around):
                faults[i] = Fault.FROZEN
        return faults

    def _follow(self, values: dict[str, float]) -> None:
        """A zone that comes or goes moves the others' median, and nothing froze by that."""
        before, self._before = self._before, values
        if before.keys() == values.keys():
            return
        stayed = before.keys() & values.keys()
        then, now = ({name: of[name] for name in stayed} for of in (before, values))
        for name, zone in self._zones.items():
            gone = peers(then, name) - peers(before, name)
            came = peers(values, name) - peers(now, name)
            zone.shift_peers(gone + came)


def peers(values: Mapping[str, float], name: str) -> float:
    """Median of all other zones' values; NaN where there is none."""
    others = [celsius for zone, celsius in values.items() if zone != name]
    return median(others) if others else math.nan


def median(values: Iterable[float]) -> float:
    """The middle one, or the mean of the two in the middle; `statistics` would take 1 MB."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0

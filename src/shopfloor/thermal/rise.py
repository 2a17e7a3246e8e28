"""What a board's load is worth in degrees: learnt from the steps of the ladder, zone by zone.

A ladder runs for months, so nothing here is for ever: a lesson counts only while frames are worked
on, moves what is known by no more than a factor of two, and the extra room after a step up that
failed is given back, by a step up that held or by a quiet time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shopfloor.thermal.rungs import ZoneOutlook

LEARN_AFTER_S = 180.0
"""A step is judged so long after it, when its zones stand still; after four times that no more."""

STILL_CELSIUS_PER_S = 0.006
_LEFT_CELSIUS = 3.0
"""A temperature this far off its forecast has left it."""

REGRET_S = 900.0
FORGIVE_S = 6 * 3600.0
_EXTRA_CELSIUS = 2.0
_EXTRA_MAX_CELSIUS = 10.0
_RISE_CELSIUS = (5.0, 120.0)

_WORK_S = 60.0
_AT_WORK = 0.8
"""The line is at work where frames came for this share of the last time, weighted by its age: on
one that stands a step moves no heat, and would teach that the load is worth nothing."""


@dataclass
class _Step:
    """A step whose effect is not known yet."""

    at_s: float
    load_before: float
    load_after: float
    settled_before: dict[str, float]


@dataclass
class _Zone:
    rise: float
    extra: float = 0.0
    is_learnt: bool = False

    def learn(self, rise: float) -> None:
        """One lesson; a single one is never believed by more than a factor of two."""
        low, high = _RISE_CELSIUS
        low, high = max(self.rise / 2.0, low), min(self.rise * 2.0, high)
        rise = min(max(rise, low), high)
        self.rise = (self.rise + rise) / 2.0 if self.is_learnt else rise
        self.is_learnt = True


class Rise:
    """Degrees between no load and full load, and the extra room after a step up that failed."""

    def __init__(self, default_celsius: float) -> None:
        self._default = default_celsius
        self._zones: dict[str, _Zone] = {}
        self._step: _Step | None = None
        self._up_at_s = -math.inf
        self._up_holds = False
        self._regretted_s = math.inf
        self._work = 0.0
        self._seen_s = math.inf

    def of(self, zone: str) -> float:
        """Degrees that full load is worth at this zone."""
        return self._of(zone).rise

    def extra(self, zone: str) -> float:
        """Degrees of room that steps up of before showed to be missing."""
        return self._of(zone).extra

    def stepped(
        self,
        now_s: float,
        load_before: float,
        load_after: float,
        zones: Sequence[ZoneOutlook],
        *,
        by_person: bool = False,
    ) -> None:
        """The ladder moved. by_person: a pinned rung says nothing about the ladder's own steps."""
        at_work = self._work >= _AT_WORK
        settled_before = {z.name: settled(z) for z in zones} if at_work else {}
        self._step = _Step(now_s, load_before, load_after, settled_before)
        self._up_holds = load_after > load_before and not by_person
        if load_after > load_before:
            self._up_at_s = -math.inf if by_person else now_s

    def regret(self, now_s: float, zones: Sequence[ZoneOutlook]) -> None:
        """Heat asks for a step down: where one up was a short while ago, it was too early."""
        if now_s - self._up_at_s < REGRET_S:
            self._regretted_s = now_s
            for zone in map(self._of, (zone.name for zone in zones)):
                zone.extra = min(zone.extra + _EXTRA_CELSIUS, _EXTRA_MAX_CELSIUS)

    def learn(self, now_s: float, zones: Sequence[ZoneOutlook], *, works: bool) -> None:
        """From the last step, when its zones have settled. works: frames are being processed."""
        passed_s = max(now_s - self._seen_s, 0.0)
        self._work += (works - self._work) * -math.expm1(-passed_s / _WORK_S)
        self._seen_s = now_s
        self._forgive(now_s)
        step = self._step
        if step is None or now_s - step.at_s < LEARN_AFTER_S:
            return
        change = step.load_before - step.load_after
        for zone in zones if abs(change) > 0.02 and self._work >= _AT_WORK else ():
            before, forecast = step.settled_before.get(zone.name), zone.forecast
            if before is None or forecast is None:
                continue
            if abs(forecast.slope_per_s) > STILL_CELSIUS_PER_S:
                continue
            self._of(zone.name).learn((before - settled(zone)) / change)
            del step.settled_before[zone.name]
        if not step.settled_before or now_s - step.at_s > 4 * LEARN_AFTER_S:
            self._step = None

    def _forgive(self, now_s: float) -> None:
        """A step up that held gives room back; so does time, as too much room leads to no steps."""
        held = self._up_holds and now_s - self._up_at_s >= REGRET_S
        if held:
            self._up_holds = False
        elif now_s - self._regretted_s >= FORGIVE_S:
            self._regretted_s = now_s
        else:
            return
        for zone in self._zones.values():
            zone.extra = max(zone.extra - _EXTRA_CELSIUS, 0.0)

    def _of(self, zone: str) -> _Zone:
        return self._zones.setdefault(zone, _Zone(self._default))


def settled(zone: ZoneOutlook) -> float:
    """Where the zone will be with the present load: as forecast where that is certain."""
    forecast = zone.forecast
    if forecast is None or forecast.confidence < 0.6:
        return zone.celsius
    if abs(forecast.temperature - zone.celsius) > _LEFT_CELSIUS:
        return zone.celsius
    later = min(forecast.settling, zone.celsius + 30.0)
    return later if later > forecast.temperature else forecast.at(300.0)

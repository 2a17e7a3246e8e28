"""What a board's load is worth in degrees: learnt from the steps of the ladder, zone by zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shopfloor.thermal.rungs import ZoneOutlook

LEARN_AFTER_S = 180.0
"""A step is judged so long after it, when its zones stand still; after four times that no more."""

STILL_CELSIUS_PER_S = 0.006
_LEFT_CELSIUS = 3.0
"""A temperature this far off its forecast has left it."""

_REGRET_S = 900.0
_EXTRA_CELSIUS = 2.0
_EXTRA_MAX_CELSIUS = 10.0
_RISE_CELSIUS = (5.0, 120.0)


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


class Rise:
    """Degrees between no load and full load, and the extra room after a step up that failed."""

    def __init__(self, default_celsius: float) -> None:
        self._default = default_celsius
        self._zones: dict[str, _Zone] = {}
        self._step: _Step | None = None
        self._up_at_s = -_REGRET_S

    def of(self, zone: str) -> float:
        """Degrees that full load is worth at this zone."""
        return self._of(zone).rise

    def extra(self, zone: str) -> float:
        """Degrees of room that steps up of before showed to be missing."""
        return self._of(zone).extra

    def stepped(
        self, now_s: float, load_before: float, load_after: float, zones: Sequence[ZoneOutlook]
    ) -> None:
        """The ladder moved."""
        self._step = _Step(now_s, load_before, load_after, {z.name: settled(z) for z in zones})
        if load_after > load_before:
            self._up_at_s = now_s

    def regret(self, now_s: float, zones: Sequence[ZoneOutlook]) -> None:
        """Heat asks for a step down: where one up was a short while ago, it was too early."""
        if now_s - self._up_at_s < _REGRET_S:
            for zone in map(self._of, (zone.name for zone in zones)):
                zone.extra = min(zone.extra + _EXTRA_CELSIUS, _EXTRA_MAX_CELSIUS)

    def learn(self, now_s: float, zones: Sequence[ZoneOutlook]) -> None:
        """From the last step, when its zones have settled."""
        step = self._step
        if step is None or now_s - step.at_s < LEARN_AFTER_S:
            return
        change = step.load_before - step.load_after
        for zone in zones if abs(change) > 0.02 else ():
            before, forecast = step.settled_before.get(zone.name), zone.forecast
            if before is None or forecast is None:
                continue
            if abs(forecast.slope_per_s) > STILL_CELSIUS_PER_S:
                continue
            low, high = _RISE_CELSIUS
            rise = min(max((before - settled(zone)) / change, low), high)
            known = self._of(zone.name)
            known.rise = (known.rise + rise) / 2.0 if known.is_learnt else rise
            known.is_learnt = True
            del step.settled_before[zone.name]
        if not step.settled_before or now_s - step.at_s > 4 * LEARN_AFTER_S:
            self._step = None

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

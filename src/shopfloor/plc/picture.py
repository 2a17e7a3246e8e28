"""The cyclic picture: what the PLC reads each cycle, and whether the PLC is still there. Pure.

Nothing here is an event: a lost or repeated cycle does no harm, as each holds all that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from shopfloor.plc.conditions import RUNG_UNKNOWN
from shopfloor.plc.mapping import PlcMapping, Point
from shopfloor.plc.values import Kind, Value, to_plc

HEARTBEAT_WRAP = 2**32


class Link(IntEnum):
    """PlcPicture.LINK_*."""

    UNKNOWN = 0
    OK = 1
    STALLED = 2
    DOWN = 3


class HeartbeatWatch:
    """Watches a counter that the other side moves. Times: nanoseconds of a steady clock."""

    def __init__(self, timeout_ms: float) -> None:
        self._timeout_ns = timeout_ms * 1e6
        self.value = 0
        self._read = False
        self._changed_ns: int | None = None
        self._connected = False

    def seen(self, value: int, now_ns: int) -> None:
        """The counter as read; the first reading is no sign of life, a change is."""
        if self._read and value != self.value:
            self._changed_ns = now_ns
        self._read, self.value = True, value

    def connected(self, connected: bool) -> None:
        """Whether a PLC is connected at all."""
        self._connected = connected

    def age_ms(self, now_ns: int) -> float:
        """Since the counter moved; NaN: never."""
        return float("nan") if self._changed_ns is None else (now_ns - self._changed_ns) / 1e6

    def link(self, now_ns: int) -> Link:
        """How the link is."""
        if self._changed_ns is None:
            return Link.UNKNOWN if self._connected else Link.DOWN
        if now_ns - self._changed_ns <= self._timeout_ns:
            return Link.OK
        return Link.STALLED if self._connected else Link.DOWN


@dataclass(frozen=True)
class Bridge:
    """Values that are the bridge's own, as `bridge.FIELD` in the mapping."""

    graph_heartbeat: int
    safe_state: bool
    link: int
    cycle: int
    rung: int = RUNG_UNKNOWN
    rung_known: bool = False
    maintenance_tier: int = 0
    maintenance_known: bool = False
    plan_version: int = 0
    plan_known: bool = False


_UNKNOWN: dict[Kind, Value] = {
    Kind.STRING: "",
    Kind.FLOAT32: float("nan"),
    Kind.FLOAT64: float("nan"),
    Kind.BOOL: False,
}


class Picture:
    """Builds the values of all points from the latest messages."""

    def __init__(self, mapping: PlcMapping) -> None:
        self._points = mapping.points
        self.broken: dict[str, str] = {}
        """Points that cannot be read, and why: a field that the message does not have."""

    def values(self, latest: Mapping[str, Any], bridge: Bridge) -> dict[str, Value]:
        """Each point's value; what has not come yet is 0, empty, false or NaN."""
        sources = {**latest, "bridge": bridge}
        return {point.name: self._value(point, sources) for point in self._points}

    def _value(self, point: Point, sources: Mapping[str, Any]) -> Value:
        found = sources.get(point.key)
        if found is None:
            return _UNKNOWN.get(point.kind, 0)
        try:
            for name in point.path:
                found = getattr(found, name)
            return to_plc(point.kind, found, point.length, point.scale)
        except (AttributeError, TypeError, ValueError) as error:
            self.broken[point.name] = f"{point.key}.{'.'.join(point.path)}: {error}"
            return _UNKNOWN.get(point.kind, 0)


class Verdicts:
    """The latest verdicts, newest first, each part once."""

    SIZE = 16

    def __init__(self) -> None:
        self.latest: list[Any] = []
        self.count = 0

    def add(self, part_id: str, verdict: Any) -> None:
        """A part's verdict, or its next revision."""
        others = [v for v in self.latest if v.part_id != part_id]
        self.latest = [verdict, *others][: self.SIZE]
        self.count = (self.count + 1) % HEARTBEAT_WRAP

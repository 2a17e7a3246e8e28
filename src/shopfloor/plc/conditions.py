"""What a PLC has to know of hosts, machines and plan, in three numbers that may be unknown. Pure.

What is bad is told as soon as one says it; that all is well, only where all have said so lately.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RUNG_UNKNOWN = 255
TIER_UNKNOWN = 0
TIER_NORMAL = 1
_CDR_HEAD = 4


@dataclass(frozen=True)
class Known:
    """The numbers, and whether all who were asked have told theirs.

    rung: highest ladder rung of the hosts, 0 full performance, RUNG_UNKNOWN.
    maintenance_tier: highest MachineHealth.TIER_* of the machines. plan_version: in force, 0 none.
    """

    rung: int = RUNG_UNKNOWN
    rung_known: bool = False
    maintenance_tier: int = TIER_UNKNOWN
    maintenance_known: bool = False
    plan_version: int = 0
    plan_known: bool = False


class _Latest:
    """The latest number of each source; times: nanoseconds of a steady clock."""

    def __init__(self, names: Sequence[str], silent_s: float) -> None:
        self._silent_ns = silent_s * 1e9
        self._heard: dict[str, tuple[int, int] | None] = dict.fromkeys(names)

    def hear(self, name: str, value: int, now_ns: int) -> None:
        self._heard[name] = (value, now_ns)

    def _told(self, now_ns: int, unknown: int) -> list[int]:
        """Without those who are silent, or do not know it themselves."""
        return [
            heard[0]
            for heard in self._heard.values()
            if heard is not None and now_ns - heard[1] <= self._silent_ns and heard[0] != unknown
        ]

    def worst(self, now_ns: int, unknown: int, well: int) -> tuple[int, bool]:
        """The highest number, `unknown` where nothing bad is told; whether all have told one."""
        told = self._told(now_ns, unknown)
        complete = bool(self._heard) and len(told) == len(self._heard)
        highest = max(told, default=well)
        return (highest if complete or highest > well else unknown), complete


class Conditions:
    """Gathers what the line's hosts, machines and scheduler say."""

    def __init__(
        self,
        hosts: Sequence[str],
        machines: Sequence[str],
        *,
        thermal_silent_s: float,
        health_silent_s: float,
    ) -> None:
        self._rungs = _Latest(hosts, thermal_silent_s)
        self._tiers = _Latest(machines, health_silent_s)
        self._plan_version: int | None = None

    def thermal(self, host: str, rung: int, now_ns: int) -> None:
        """A host's rung."""
        self._rungs.hear(host, rung, now_ns)

    def health(self, machine: str, tier: int, now_ns: int) -> None:
        """A machine's tier."""
        self._tiers.hear(machine, tier, now_ns)

    def plan(self, cdr: bytes) -> None:
        """The plan in force, as it came. Raises ValueError where it is none."""
        self._plan_version = plan_version(cdr)

    def known(self, now_ns: int, has_scheduler: Callable[[], bool]) -> Known:
        """The numbers now. A plan stands until the next: it is known while its scheduler is."""
        plan = self._plan_version if self._plan_version is not None and has_scheduler() else None
        return Known(
            *self._rungs.worst(now_ns, RUNG_UNKNOWN, 0),
            *self._tiers.worst(now_ns, TIER_UNKNOWN, TIER_NORMAL),
            plan or 0,
            plan is not None,
        )


def plan_version(cdr: bytes) -> int:
    """Version of a serialised Plan, without the rest of it: a plan may have megabytes.

    CDR (OMG DDS-XTYPES 1.3, 7.4.1): after four bytes a header with stamp (8 bytes) and text, then
    the version, aligned to 8. Raises ValueError.
    """
    try:
        order = "<" if cdr[1] & 1 else ">"
        (length,) = struct.unpack_from(f"{order}I", cdr, _CDR_HEAD + 8)
        at = -(-(12 + length) // 8) * 8
        (version,) = struct.unpack_from(f"{order}Q", cdr, _CDR_HEAD + at)
    except (IndexError, struct.error) as error:
        raise ValueError(f"{len(cdr)} bytes are no plan: {error}") from None
    return int(version)

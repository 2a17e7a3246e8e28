"""Severity zones A to D of ISO 20816-3 from a table file whose every value carries its source."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from pathlib import Path

import yaml


class Zone(enum.IntEnum):
    """The values of AxisFeatures.ZONE_*."""

    UNKNOWN = 0
    A = 1
    B = 2
    C = 3
    D = 4


@dataclass(frozen=True)
class ZoneLimits:
    """Velocity RMS 10-1000 Hz in mm/s at the boundaries A/B, B/C and C/D, and their sources."""

    group: str
    foundation: str
    ab_mm_s: float
    bc_mm_s: float
    cd_mm_s: float
    sources: tuple[str, str, str]

    def zone(self, velocity_rms_mm_s: float) -> Zone:
        """Zone of a velocity; a value on a boundary belongs to the better zone, NaN to none."""
        if math.isnan(velocity_rms_mm_s):
            return Zone.UNKNOWN
        limits = (self.ab_mm_s, self.bc_mm_s, self.cd_mm_s)
        return Zone(1 + sum(velocity_rms_mm_s > limit for limit in limits))


def load_zone_table(path: Path) -> dict[tuple[str, str], ZoneLimits]:
    """(group, foundation) to limits. Raises ValueError naming file, row and what is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        sources, rows = content["sources"], content["zones"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a zone table: {error!r}") from error
    table: dict[tuple[str, str], ZoneLimits] = {}
    for number, row in enumerate(rows, 1):
        try:
            limits = _row(row, sources)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: zones row {number}: {error}") from error
        key = (limits.group, limits.foundation)
        if key in table:
            raise ValueError(f"{path}: zones row {number}: {key} comes twice")
        table[key] = limits
    return table


def _row(row: dict[str, object], sources: dict[str, str]) -> ZoneLimits:
    values: list[float] = []
    cited: list[str] = []
    for boundary in ("ab", "bc", "cd"):
        cell = row[boundary]
        if not isinstance(cell, dict) or not {"mm_s", "source"} <= cell.keys():
            raise ValueError(f"{boundary} needs mm_s and source, got {cell!r}")
        if cell["source"] not in sources:
            raise ValueError(f"{boundary} cites '{cell['source']}', which is not under sources")
        values.append(float(cell["mm_s"]))
        cited.append(str(cell["source"]))
    if not 0 < values[0] < values[1] < values[2]:
        raise ValueError(f"boundaries must rise: {values}")
    return ZoneLimits(
        group=str(row["group"]),
        foundation=str(row["foundation"]),
        ab_mm_s=values[0],
        bc_mm_s=values[1],
        cd_mm_s=values[2],
        sources=(cited[0], cited[1], cited[2]),
    )

"""The machines file: what is monitored, with bearing, nominal speed and severity class.

machines:
  pump_1:
    nominal_rpm: 1480
    iso: {group: 2, foundation: rigid}
    bearing: {balls: 9, ball_mm: 7.94, pitch_mm: 39.04, contact_degrees: 0}
    sensors: [pump_1_de]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shopfloor.vibration.bearing import BearingOrders

_KEYS = {"nominal_rpm", "iso", "bearing", "sensors"}
_GEOMETRY = {"balls", "ball_mm", "pitch_mm", "contact_degrees"}
_ORDERS = {"bpfo", "bpfi", "bsf", "ftf"}


@dataclass(frozen=True)
class Machine:
    """One machine. `zone_key`: (group, foundation) in the zone table, None: no severity."""

    machine_id: str
    nominal_rpm: float = math.nan
    bearing: BearingOrders | None = None
    zone_key: tuple[str, str] | None = None
    sensors: tuple[str, ...] = ()


def load_machines(path: Path) -> dict[str, Machine]:
    """Machine id to machine. Raises ValueError naming file, machine and what is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = content["machines"]
        items = rows.items()
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a machines file: {error!r}") from error
    machines: dict[str, Machine] = {}
    owner: dict[str, str] = {}
    for name, row in items:
        try:
            machines[str(name)] = _machine(str(name), row or {})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: machine '{name}': {error}") from error
        for sensor in machines[str(name)].sensors:
            if owner.setdefault(sensor, str(name)) != str(name):
                text = f"sensor '{sensor}' is {owner[sensor]}'s already"
                raise ValueError(f"{path}: machine '{name}': {text}")
    return machines


def _machine(name: str, row: dict[str, Any]) -> Machine:
    _known(row, _KEYS, "")
    nominal = float(row.get("nominal_rpm", math.nan))
    if nominal <= 0:
        raise ValueError(f"nominal_rpm {nominal:g} must be positive")
    iso = row.get("iso")
    if iso is not None and set(iso) != {"group", "foundation"}:
        raise ValueError(f"iso needs group and foundation, got {iso!r}")
    return Machine(
        name,
        nominal,
        bearing_orders(row["bearing"]) if row.get("bearing") else None,
        (str(iso["group"]), str(iso["foundation"])) if iso else None,
        tuple(map(str, row.get("sensors", ()))),
    )


def bearing_orders(row: dict[str, Any]) -> BearingOrders:
    """From balls, ball_mm, pitch_mm and contact_degrees, or from bpfo, bpfi, bsf and ftf.

    Raises ValueError naming what is missing, unknown or impossible.
    """
    if row.keys() >= _ORDERS:
        _known(row, _ORDERS, "bearing ")
        return BearingOrders(**{key: float(row[key]) for key in _ORDERS})
    _known(row, _GEOMETRY, "bearing ")
    missing = {"balls", "ball_mm", "pitch_mm"} - row.keys()
    if missing:
        raise ValueError(f"bearing needs {', '.join(sorted(missing))} or all of bpfo, bpfi, "
                         "bsf, ftf")  # fmt: skip
    return BearingOrders.from_geometry(
        int(row["balls"]),
        float(row["ball_mm"]),
        float(row["pitch_mm"]),
        float(row.get("contact_degrees", 0.0)),
    )


def _known(row: dict[str, Any], keys: set[str], what: str) -> None:
    unknown = set(row) - keys
    if unknown:
        raise ValueError(f"unknown {what}key {', '.join(sorted(map(str, unknown)))}; "
                         f"known: {', '.join(sorted(keys))}")  # fmt: skip

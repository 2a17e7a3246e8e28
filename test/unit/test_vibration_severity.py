"""The shipped zone table: every value and its source; and what a wrong table says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shopfloor.ros.paths import share_folder
from shopfloor.vibration.machines import load_machines
from shopfloor.vibration.severity import Zone, load_zone_table

TABLE = share_folder() / "config" / "vibration" / "iso20816_3_zones.yaml"


@pytest.mark.parametrize(
    ("group", "foundation", "limits"),
    [
        ("1", "rigid", (2.3, 4.5, 7.1)),
        ("1", "flexible", (3.5, 7.1, 11.0)),
        ("2", "rigid", (1.4, 2.8, 4.5)),
        ("2", "flexible", (2.3, 4.5, 7.1)),
    ],
)
def test_every_value_and_its_source(
    group: str, foundation: str, limits: tuple[float, float, float]
) -> None:
    row = load_zone_table(TABLE)[group, foundation]
    assert (row.ab_mm_s, row.bc_mm_s, row.cd_mm_s) == limits
    assert all(row.sources)
    for limit, better, worse in zip(limits, "ABC", "BCD", strict=True):
        assert row.zone(limit) is Zone[better]
        assert row.zone(limit + 0.01) is Zone[worse]
    assert row.zone(math.nan) is Zone.UNKNOWN


def test_the_table_has_no_other_rows() -> None:
    assert len(load_zone_table(TABLE)) == 4


GOOD = """
sources: {s: somewhere}
zones:
  - {group: 1, foundation: rigid, ab: {mm_s: 1, source: s}, bc: {mm_s: 2, source: s},
     cd: {mm_s: 3, source: s}}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: s}, bc", "source: t}, bc", "not under sources"),
        ("mm_s: 2", "mm_s: 5", "must rise"),
        ("ab: {mm_s: 1, source: s}", "ab: 1", "needs mm_s and source"),
        ("zones:", "zone:", "not a zone table"),
        ("rigid, ab", "rigid, xx: 1, a", "row 1"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "zones.yaml"
    path.write_text(GOOD, "utf-8")
    assert load_zone_table(path)
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=message):
        load_zone_table(path)


def test_the_shipped_machines_file_loads() -> None:
    machine = load_machines(share_folder() / "config" / "vibration" / "machines.yaml")["pump_1"]
    assert machine.bearing is not None
    assert machine.zone_key in load_zone_table(TABLE)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{nominal: 3}", "unknown key nominal"),
        ("{nominal_rpm: -5}", "must be positive"),
        ("{bearing: {balls: 9}}", "bearing needs ball_mm, pitch_mm"),
        ("{bearing: {balls: 9, ball_mm: 50, pitch_mm: 40}}", "not possible"),
        ("{iso: {group: 2}}", "iso needs"),
    ],
)
def test_a_wrong_machine_is_refused_with_its_name(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "machines.yaml"
    path.write_text(f"machines: {{m1: {row}}}", "utf-8")
    with pytest.raises(ValueError, match=f"m1.*{message}"):
        load_machines(path)

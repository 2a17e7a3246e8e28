"""The golden bag through today's nodes: its outputs again, twice the same, and a change is found.

Nothing here depends on time: a replay in lock-step takes as long as it takes. Where a change of the
code changes outputs on purpose, `make_golden.py` makes the bag anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_command import LIMIT_S, replay

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

BAG = Path(__file__).resolve().parent / "golden" / "line"
pytestmark = pytest.mark.timeout(LIMIT_S + 20.0)
CHANGES = {"/line_1/hosts/golden/thermal", "/line_1/line/state"}
"""States that come by a timer: a golden day has few changes of them."""


def test_todays_nodes_give_the_outputs_of_the_bag_and_the_same_ones_twice(tmp_path: Path) -> None:
    found = replay(BAG, tmp_path, "--compare", "--twice")
    assert found.code == 0, found.output
    assert found.data["differences"] == []
    compared = found.data["compared"]
    assert compared["/line_1/inspection/result"] == 12
    assert compared["/line_1/parts/verdict"] > 12, "no part was refined"
    assert compared["/line_1/vibration/features"] > 50
    assert {topic for topic, count in compared.items() if count} == {
        *CHANGES,
        "/line_1/inspection/detail",
        "/line_1/inspection/result",
        "/line_1/inspection/suspects",
        "/line_1/machines/pump_1/health",
        "/line_1/parts/reject",
        "/line_1/parts/verdict",
        "/line_1/vibration/features",
    }
    assert f"the two runs are equal on all {len(compared)} topics" in found.output


def test_a_planted_threshold_of_the_inspector_is_found_at_its_part(tmp_path: Path) -> None:
    # Part 8 fails with 0.55 at the model's own threshold of 0.41; the others are far from 0.6.
    found = replay(
        BAG,
        tmp_path,
        "--compare",
        *("--nodes", "station_inspector,quality_gate"),
        *("--set", "station_inspector.fail_threshold=0.6"),
    )
    assert found.code == 1, found.output
    verdicts = {d for d in found.differences() if d[2] == "verdict"}
    assert verdicts == {
        ("station_inspector", "golden-000008", "verdict"),
        ("quality_gate", "golden-000008", "verdict"),
    }
    assert ("station_inspector", "golden-000001", "fail_threshold") in found.differences()
    rows = [line for line in found.output.splitlines() if "golden-000008" in line]
    assert any("station_inspector" in row and "verdict" in row for row in rows), found.output


@pytest.mark.parametrize(
    ("node", "setting", "part", "fields"),
    [
        ("thermal_watchdog", "guard_celsius=12.0", "golden", {"rung", "next_rung", "cause"}),
        ("vibration_monitor", "persistence_windows=12", "pump_1", {"tier"}),
    ],
)
def test_a_planted_threshold_is_found_in_the_states_of_its_node(
    tmp_path: Path, node: str, setting: str, part: str, fields: set[str]
) -> None:
    found = replay(BAG, tmp_path, "--compare", "--nodes", node, "--set", f"{node}.{setting}")
    assert found.code == 1, found.output
    differences = found.differences()
    assert {(name, what) for name, what, _ in differences} == {(node, part)}
    assert fields & {field for _, _, field in differences}

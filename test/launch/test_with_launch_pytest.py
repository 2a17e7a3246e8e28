"""The plant under launch_pytest, as ROS 2 packages are tested; skipped where it is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("launch_pytest", reason="ROS 2's `launch_pytest` is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "graph")]
import launch_pytest
from harness import ACTIVE, Graph
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_pytest.actions import ReadyToTest
from test_plant_launch import FILE, PLANT, domain


@launch_pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[LaunchDescription, dict[str, int]]:
    """The plant's launch file, and the exit codes of its processes by name."""
    file = tmp_path / "plant.yaml"
    file.write_text(PLANT.replace("LIMIT", "0"), "utf-8")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ended: dict[str, int] = {}

    def on_exit(event: object, _: object) -> None:
        ended[event.process_name] = event.returncode  # type: ignore[attr-defined]

    arguments = [("plant", str(file)), ("domain_id", domain().partition(":=")[2])]
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(FILE)), launch_arguments=arguments
    )
    handler = RegisterEventHandler(OnProcessExit(on_exit=on_exit))
    return LaunchDescription([handler, include, ReadyToTest()]), ended


@pytest.mark.launch(fixture=line)
def test_its_nodes_become_active_and_end_clean(
    line: tuple[LaunchDescription, dict[str, int]], tmp_path: Path
) -> Iterator[None]:
    graph = Graph(int(domain().partition(":=")[2]), tmp_path)
    try:
        graph.until_state("/line_1/gate", ACTIVE)
    finally:
        graph.close()
    assert not line[1], "nothing has ended by itself"
    yield  # the launch is shut down
    assert len(line[1]) == 2 and set(line[1].values()) == {0}

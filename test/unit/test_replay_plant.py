"""The plant of a replay: nothing of the real one is read, written or called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.specs import ProcessSpec
from shopfloor.replay.board_files import Boards
from shopfloor.replay.plant_of_bag import ReplayError, choose, replay_specs, settings
from shopfloor.replay.stepped_processes import begin_with_state, free_domain

PLANT = """\
plant: trial
domain_id: 61
discovery: server
discovery_servers: [10.0.0.1:11811]
security: {keystore: /etc/shopfloor/keystore, strategy: Enforce}
hosts:
  edge: {hostname: edge, role: edge}
  server: {hostname: server, role: server}
cells:
  line_1:
    nodes:
      eye_1: {type: inspector, parameters: {camera: cam_1}}
      eye_2: {type: inspector, parameters: {camera: cam_2}}
      heat_edge: {type: thermal_watchdog}
      heat_server: {type: thermal_watchdog}
      pump: {type: vibration_monitor, parameters: {baseline_folder: /var/lib/shopfloor/baselines}}
processes:
  edge: {host: edge, nodes: [eye_1, eye_2, heat_edge]}
  server: {host: server, nodes: [heat_server, pump]}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    path = tmp_path / "plant.yaml"
    path.write_text(PLANT, "utf-8")
    return load_plant(path)


def specs(plant: Plant, boards: Boards, *topics: str) -> list[ProcessSpec]:
    return replay_specs(plant, choose(plant, ()), topics, {}, boards)


def parameters(made: list[ProcessSpec]) -> dict[str, dict[str, Any]]:
    return {
        name.rpartition("/")[2]: content["ros__parameters"]
        for spec in made
        for name, content in yaml.safe_load(spec.parameters).items()
    }


def test_it_needs_neither_the_keys_nor_the_servers_of_the_plant(
    plant: Plant, tmp_path: Path
) -> None:
    for spec in specs(plant, Boards(tmp_path / "board")):
        assert "--enclave" not in spec.arguments
        assert not any(name.startswith("ROS_SECURITY") for name in spec.environment)
        assert spec.environment["ROS_DISCOVERY_SERVER"] == ""
        assert spec.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_each_inspector_takes_what_the_bag_has_of_its_own_camera(
    plant: Plant, tmp_path: Path
) -> None:
    topics = ("/line_1/cam_1/image_raw", "/line_1/cam_2/image_raw/compressed")
    found = parameters(specs(plant, Boards(tmp_path / "board"), *topics))
    assert (found["eye_1"]["road"], found["eye_2"]["road"]) == ("image", "compressed")


def test_what_the_plant_has_learned_is_not_touched(plant: Plant, tmp_path: Path) -> None:
    found = parameters(specs(plant, Boards(tmp_path / "board")))
    assert found["pump"]["baseline_folder"] == ""


def test_each_host_has_its_own_board(plant: Plant, tmp_path: Path) -> None:
    boards = Boards(tmp_path / "board")
    found = parameters(specs(plant, boards))
    roots = [Path(found[name]["system_root"]) for name in ("heat_edge", "heat_server")]
    assert len(set(roots)) == 2 and boards.hosts == {"edge", "server"}

    class Zone:
        name, limit_celsius, critical_celsius = "cpu", 90.0, 100.0

        def __init__(self, celsius: float) -> None:
            self.temperature_celsius = celsius

    class State:
        def __init__(self, host: str, celsius: float) -> None:
            self.host, self.zones = host, [Zone(celsius)]

    assert boards.update(State("edge", 71.0)) == "edge"
    assert boards.update(State("server", 42.0)) == "server"
    assert boards.update(State("../elsewhere", 1.0)) == ""
    texts = [(root / "sys/class/thermal/thermal_zone0/temp").read_text() for root in roots]
    assert texts == ["71000\n", "42000\n"]


def test_it_never_takes_the_domain_of_the_plant() -> None:
    with free_domain() as first, free_domain(first + 1) as second:
        assert second > first + 1


def test_it_begins_with_the_state_of_the_plants_domain(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "domain_20" / "line_1.pump"
    kept.mkdir(parents=True)
    (kept / "baseline").write_text("learned")
    for source in (tmp_path / "state", tmp_path / "state" / "domain_20"):
        target = tmp_path / f"of_{source.name}"
        begin_with_state(source, 20, target / "replay", 60)
        assert (target / "replay/domain_60/line_1.pump/baseline").read_text() == "learned"
    with pytest.raises(ReplayError, match="no state of the plant's domain 7, it has domain_20"):
        begin_with_state(tmp_path / "state", 7, tmp_path / "other", 60)
    with pytest.raises(ReplayError, match="it has nothing"):
        begin_with_state(tmp_path / "absent", 20, tmp_path / "other", 60)


def test_a_value_that_is_no_yaml_is_named() -> None:
    assert settings(["gate.deadline_ms=3"]) == {"gate": {"deadline_ms": 3}}
    with pytest.raises(ReplayError, match=r"--set gate.x=\[: no YAML value"):
        settings(["gate.x=["])

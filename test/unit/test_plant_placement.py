"""Placement on hosts, and what the runners get out of it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from shopfloor.plant.checks import check_plant
from shopfloor.plant.environment import IMAGE_SEGMENT_BYTES, SMALL_SEGMENT_BYTES
from shopfloor.plant.nodes import NODE_TYPES, load, node_type
from shopfloor.plant.placement import need_problems, placement_problems, select, this_host
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.problems import PlantError
from shopfloor.plant.specs import make_specs, shared_memory_warning

TEXT = """\
plant: trial
domain_id: 12
hosts:
  jetson: {hostname: "jetson-?", role: edge, capabilities: [camera]}
  server: {machine_id: 0123456789abcdef0123456789abcdef, role: server}
cells:
  line_1:
    nodes:
      camera_1: {type: camera, parameters: {source: v4l2, address: "0", rate_hz: 10}}
      gate: {type: quality_gate, parameters: {line: "on"}, remaps: {inspection/result: results}}
      manager: {type: line_manager}
  line_2:
    namespace: /hall_2/line_2
    nodes:
      gate: {type: quality_gate}
      recorder: {type: recorder}
processes:
  vision: {host: jetson, nodes: [camera_1, line_1/gate], env: {OMP_NUM_THREADS: "2"}}
  manager: {host: jetson, nodes: [manager]}
  office: {host: server, nodes: [recorder, line_2/gate], essential: false}
"""


def plant_of(folder: Path, text: str = TEXT) -> Plant:
    path = folder / "plant.yaml"
    path.write_text(text, "utf-8")
    return load_plant(path)


def messages(problems: list) -> str:  # type: ignore[type-arg]
    return "\n".join(map(str, problems))


def test_this_host_by_name_pattern_and_machine_id(tmp_path: Path) -> None:
    plant = plant_of(tmp_path)
    assert this_host(plant, "jetson-3", "f" * 32).name == "jetson"
    assert this_host(plant, "anything", "0123456789abcdef" * 2).name == "server"
    with pytest.raises(PlantError, match="none of the hosts: its hostname is 'laptop'"):
        this_host(plant, "laptop", "f" * 32)


def test_a_machine_id_beats_a_name_and_a_name_beats_a_pattern(tmp_path: Path) -> None:
    text = TEXT.replace(
        "hosts:\n", 'hosts:\n  any: {hostname: "*"}\n  laptop: {hostname: laptop}\n'
    )
    plant = plant_of(tmp_path, text)
    assert this_host(plant, "laptop", "0123456789abcdef" * 2).name == "server"
    assert this_host(plant, "laptop", "f" * 32).name == "laptop"
    assert this_host(plant, "laptop.factory.example", "f" * 32).name == "laptop"
    assert this_host(plant, "other", "f" * 32).name == "any"
    with pytest.raises(PlantError, match="fits more than one host: any, jetson"):
        this_host(plant, "jetson-1", "f" * 32)


def test_select_by_host_and_node(tmp_path: Path) -> None:
    plant = plant_of(tmp_path)
    assert [p.name for p in select(plant, "server")] == ["office"]
    assert [p.name for p in select(plant, "all")] == ["vision", "manager", "office"]
    cut = select(plant, "all", ["recorder", "/line_1/gate"])
    assert [(p.name, p.nodes) for p in cut] == [
        ("vision", ("line_1/gate",)),
        ("office", ("line_2/recorder",)),
    ]
    assert len(select(plant, "all", ["gate"])) == 2
    with pytest.raises(PlantError, match="no host 'sever'; did you mean 'server'"):
        select(plant, "sever")
    with pytest.raises(PlantError, match="no node 'recoder' to run here; did you mean 'recorder'"):
        select(plant, "server", ["recoder"])
    with pytest.raises(PlantError, match="no node 'camera_1' to run here"):
        select(plant, "server", ["camera_1"])


def test_twice_nowhere_unknown_and_ambiguous_are_all_told(tmp_path: Path) -> None:
    text = TEXT.replace("nodes: [camera_1, line_1/gate]", "nodes: [camera_1, camera_1, gate, x]")
    text = text.replace("host: server", "host: sever")
    found = messages(placement_problems(plant_of(tmp_path, text)))
    assert (
        "plant.yaml:18: processes.vision.nodes[1]: the node 'line_1/camera_1' is already" in found
    )
    assert (
        "nodes[2]: more than one cell has a node 'gate'; allowed: line_1/gate, line_2/gate" in found
    )
    assert "nodes[3]: no node 'x'; known: line_1/camera_1" in found
    assert "plant.yaml:10: cells.line_1.nodes.gate: is in no process" in found
    assert "processes.office.host: no host 'sever'; did you mean 'server'? allowed" in found


def test_one_line_manager_a_host(tmp_path: Path) -> None:
    text = TEXT.replace(
        "manager: {type: line_manager}",
        "manager: {type: line_manager}\n      boss: {type: line_manager}",
    )
    text = text.replace("nodes: [manager]", "nodes: [manager, boss]")
    found = messages(placement_problems(plant_of(tmp_path, text)))
    assert "'jetson' has the line manager 'line_1/manager' already; allowed: one" in found
    text = text.replace("nodes: [manager, boss]", "nodes: [manager]").replace(
        "[recorder,", "[boss, recorder,"
    )
    assert placement_problems(plant_of(tmp_path, text)) == []


def test_a_host_without_any_process_is_told(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, TEXT.replace("hosts:\n", "hosts:\n  spare: {hostname: spare}\n"))
    with pytest.raises(PlantError, match="nothing is placed on the host 'spare'"):
        select(plant, "spare")


def test_missing_capability_names_node_and_host(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, TEXT.replace(", capabilities: [camera]", ""))
    found = messages(need_problems(plant, select(plant, "all")))
    assert (
        "plant.yaml:9: cells.line_1.nodes.camera_1.parameters.source: 'v4l2' needs a host" in found
    )
    assert "with 'camera', and 'jetson' has none" in found
    with pytest.raises(PlantError, match="needs a host with 'camera'"):
        check_plant(plant)


def test_missing_model_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TEXT.replace(
        "recorder: {type: recorder}", "recorder: {type: inspector, parameters: {model: no/1}}"
    )
    plant = plant_of(tmp_path, text)
    (tmp_path / "models" / "no" / "2").mkdir(parents=True)
    (tmp_path / "models" / "no" / "2" / "model.yaml").touch()
    monkeypatch.setenv("SHOPFLOOR_MODELS", str(tmp_path / "models"))
    with pytest.raises(PlantError, match=r"parameters\.model: no model 'no/1'.*there are: no/2"):
        make_specs(plant, "server")
    plant = plant_of(tmp_path, text.replace("no/1", "no/2"))
    with pytest.raises(PlantError, match=r"model folder .*no/2 has no model\.onnx"):
        make_specs(plant, "server")
    assert make_specs(plant, "jetson")  # the other host does not need it


def test_specs_carry_everything(tmp_path: Path) -> None:
    vision, manager = make_specs(plant_of(tmp_path), "jetson", log_level="debug")
    assert vision.environment["ROS_DOMAIN_ID"] == "12"
    assert vision.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert vision.environment["OMP_NUM_THREADS"] == "2"
    assert manager.environment["OMP_NUM_THREADS"] == "1"
    assert Path(vision.environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    command = " ".join(vision.command("FILE"))
    assert "-m shopfloor.plant.group --node camera:/line_1/camera_1" in command
    assert "--ros-args --log-level debug --remap gate:inspection/result:=results" in command
    assert command.endswith("--params-file FILE")
    values = yaml.safe_load(vision.parameters)
    camera = values["/line_1/camera_1"]["ros__parameters"]
    assert camera["rate_hz"] == 10.0 and type(camera["rate_hz"]) is float
    assert camera["address"] == "0"
    assert camera["host_name"] == "jetson"
    assert camera["autostart"] is False
    gate = values["/line_1/gate"]["ros__parameters"]
    assert gate["line"] == "on"
    assert '"line": "on"' in vision.parameters, "rcl would read on as true"


def test_the_line_manager_gets_its_nodes_in_order_of_activation(tmp_path: Path) -> None:
    _, manager = make_specs(plant_of(tmp_path), "jetson")
    values = yaml.safe_load(manager.parameters)["/line_1/manager"]["ros__parameters"]
    assert values["nodes"] == ["/line_1/gate", "/line_1/camera_1"]
    assert values["node_types"] == ["quality_gate", "camera"]
    assert values["groups"] == ["vision", "vision"]
    assert values["essential"] == [True, True]
    assert values["role"] == "edge"
    assert "autostart" not in values


def test_without_a_manager_on_the_host_nodes_start_by_themselves(tmp_path: Path) -> None:
    (office,) = make_specs(plant_of(tmp_path), "server")
    assert "autostart" not in office.parameters
    cut = make_specs(plant_of(tmp_path), "jetson", ["camera_1"])
    assert "autostart" not in cut[0].parameters


def test_domain_and_discovery(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path, TEXT.replace("domain_id: 12\n", "discovery: static\npeers: [a, 10.0.0.2]\n")
    )
    (office,) = make_specs(plant, "server")
    assert "ROS_DOMAIN_ID" not in office.environment
    assert office.environment["ROS_STATIC_PEERS"] == "a;10.0.0.2"
    (office,) = make_specs(plant, "server", domain_id=3)
    assert office.environment["ROS_DOMAIN_ID"] == "3"
    plant = plant_of(tmp_path, TEXT.replace("domain_id: 12\n", "discovery: subnet\n"))
    assert make_specs(plant, "server")[0].environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


def test_only_processes_with_images_take_large_segments(tmp_path: Path) -> None:
    vision, manager = make_specs(plant_of(tmp_path), "jetson")
    for spec, file, size in (
        (vision, "fastdds.xml", IMAGE_SEGMENT_BYTES),
        (manager, "fastdds_small.xml", SMALL_SEGMENT_BYTES),
    ):
        for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
            path = Path(spec.environment[variable])
            assert path.name == file
        assert f"<segment_size>{size}</segment_size>" in path.read_text()
        assert ElementTree.parse(path).getroot() is not None


def test_too_little_shared_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = make_specs(plant_of(tmp_path), "jetson")
    assert "cannot be used" in shared_memory_warning(specs, str(tmp_path / "none"))
    for free, expected in ((68 * 2**20, ""), (68 * 2**20 - 1, "has 67 MiB free .* need 68 MiB")):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert re.match(f".*{expected}", shared_memory_warning(specs))
        assert bool(shared_memory_warning(specs)) is bool(expected)


@pytest.mark.parametrize("name", sorted(NODE_TYPES))
def test_every_type_of_the_table_has_parameters_without_ros(name: str) -> None:
    parameters = load(node_type(name).parameters)
    row = node_type(name)
    fields = parameters.__dataclass_fields__
    for parameter in [need.parameter for need in row.needs] + [row.model_parameter]:
        assert not parameter or parameter in fields


def test_listeners_become_active_before_speakers() -> None:
    from shopfloor.ros.interfaces import INTERFACES, Kind

    # The watchdog needs some inference times, not the first ones, and its rung comes first. The
    # simulated floor follows what was decided (the belt, the board's heat) long after.
    loops = {
        ("inspection_result", "thermal_watchdog"),
        ("reject_command", "line_simulator"),
        ("thermal_state", "line_simulator"),
    }
    for row in INTERFACES:
        for speaker in row.servers if row.kind is Kind.TOPIC else ():
            for listener in row.clients:
                if (row.key, listener) in loops:
                    continue
                if speaker in NODE_TYPES and "line_manager" not in (speaker, listener):
                    assert NODE_TYPES[listener].stage < NODE_TYPES[speaker].stage, row.key


def test_an_inspector_knows_the_rungs_of_its_watchdog(tmp_path: Path) -> None:
    text = TEXT.replace("      manager:", "      eye: {type: inspector}\n      manager:").replace(
        "      manager:",
        "      heat: {type: thermal_watchdog, parameters: {RUNGS}}\n      manager:",
    )
    text = text.replace("nodes: [manager]", "nodes: [manager, eye, heat]")
    usual = plant_of(tmp_path, text.replace("{RUNGS}", "{}"))
    assert need_problems(usual, usual.processes.values()) == []
    rungs = "rung_names: [full, hold], rung_fps: [1, 0], rung_p99_ms: [9, 0], rung_loads: [1, 0]"
    other = plant_of(tmp_path, text.replace("RUNGS", rungs))
    (problem,) = need_problems(other, other.processes.values())
    assert "rung_names" in problem.message and "line_1/heat" in problem.message

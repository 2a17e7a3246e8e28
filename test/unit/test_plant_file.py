"""The plant file: every mistake is found at once, with its line, its key and the cure."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from shopfloor.plant.paths import config_folder, find_plant_file
from shopfloor.plant.plant_file import load_plant
from shopfloor.plant.problems import PlantError

GOOD = """\
plant: trial
hosts:
  edge: {hostname: "*", role: single, capabilities: [camera]}
cells:
  line_1:
    nodes:
      gate: {type: quality_gate, parameters: {deadline_ms: 500}}
      camera_1: {type: camera, parameters: {source: folder, address: /pictures}}
processes:
  vision: {host: edge, nodes: [gate, camera_1]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plant.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(PlantError) as caught:
        load_plant(write(folder, text))
    return [f"{p.line}: {p.where}: {p.message}" for p in caught.value.problems]


def test_a_good_file_becomes_frozen_data(tmp_path: Path) -> None:
    plant = load_plant(write(tmp_path, GOOD))
    assert plant.name == "trial"
    assert plant.domain_id is None
    assert plant.discovery == "localhost"
    assert plant.processes["vision"].nodes == ("line_1/gate", "line_1/camera_1")
    assert plant.processes["vision"].restart.when == "on_failure"
    assert plant.nodes["line_1/gate"].full_name == "/line_1/gate"
    assert plant.nodes["line_1/gate"].value("deadline_ms") == 500
    assert plant.nodes["line_1/gate"].value("remember_s") == 30.0
    assert plant.nodes["line_1/gate"].value("no_such_parameter") is None


@pytest.mark.parametrize("path", sorted(config_folder().glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_plant_files_are_good(path: Path) -> None:
    assert load_plant(path).nodes


def test_all_mistakes_come_at_once_with_line_and_cure(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """\
        plant: Trial
        domain_id: 500
        discovry: subnet
        hosts:
          edge: {hostname: "*", capabilities: [gpus]}
        cells:
          line_1:
            nodes:
              gate: {type: quality_gate, parameters: {deadline_ms: soon, deadlin_ms: 3}}
              camera_1: {type: camara}
        processes:
          vision: {host: edge, nodes: gate}
        """,
    )
    text = "\n".join(found)
    assert [int(line.partition(":")[0]) for line in found] == [1, 2, 3, 5, 9, 9, 10, 12]
    assert '1: plant: "Trial" does not fit; allowed: Lower-case letters' in text
    assert "2: domain_id: 500 is out of range; allowed: 0 to 101" in text
    assert "3: discovry: unknown key; did you mean 'discovery'? allowed: cells, discovery" in text
    assert "\"gpus\" is not allowed; did you mean 'gpu'? allowed: camera, gpu" in text
    assert (
        "parameters.deadline_ms: 'soon' is not allowed; allowed: float from 1 to 600000 ms" in text
    )
    assert "parameters.deadlin_ms: unknown parameter; did you mean 'deadline_ms'?" in text
    assert "nodes.camera_1.type: 'camara' is no node type; did you mean 'camera'?" in text
    assert '12: processes.vision.nodes: "gate" is not allowed; allowed: a list' in text


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("plant: trial", "plant: 7"))
    with pytest.raises(PlantError) as caught:
        load_plant(path)
    assert str(caught.value) == f"{path}:1: plant: 7 is not allowed; allowed: text"


def test_duplicate_keys_are_refused_and_both_lines_named(tmp_path: Path) -> None:
    text = GOOD + "processes:\n  other: {host: edge, nodes: [gate]}\n"
    assert problems(tmp_path, text) == ["11: processes: is there twice; first in line 9"]


def test_duplicate_parameter_in_flow_style_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("deadline_ms: 500", "deadline_ms: 500, deadline_ms: 600")
    assert "deadline_ms: is there twice" in problems(tmp_path, text)[0]


def test_tabs_are_named_with_their_lines(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("      gate:", "\t  gate:"))
    assert found == ["7: : a tab indents this line; allowed: spaces"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "nothing (an empty value) is not allowed; allowed: a mapping"),
        ("just words", '"just words" is not allowed; allowed: a mapping'),
        ("- a\n- b\n", "allowed: a mapping"),
        ("plant: [unclosed\n", "no valid YAML"),
        ("plant: a\n---\nplant: b\n", "expected a single document"),
        (
            "plant: !!python/object:os.system {}\n",
            "the tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("a: &a [*a]\n", "an alias contains itself"),
        ("plant: 2024-01-01\n", "was read as a date; put it in quotes"),
        ("on: 1\n", "the key 'on' is no text (YAML reads True); put it in quotes"),
        ("? [a, b]\n: 1\n", "a list or mapping is no key; allowed: text"),
        ("plant: \x07\n", "is not allowed"),
        ("a: *nowhere\n", "undefined alias"),
    ],
)
def test_broken_yaml_is_told_not_raised(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(problems(tmp_path, text))


def test_an_alias_bomb_ends_early(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "more than 50000 values" in problems(tmp_path, text)[0]


def test_deep_nesting_ends_early(tmp_path: Path) -> None:
    assert "nested deeper" in problems(tmp_path, "a: " + "[" * 50 + "]" * 50)[0]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "plant.yaml"
    path.write_bytes(b"plant: a\nhosts: \xff\xfe\n")
    with pytest.raises(PlantError, match=r"plant\.yaml:2: is not UTF-8 text"):
        load_plant(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PlantError, match="there is no such file"):
        load_plant(tmp_path / "none.yaml")
    with pytest.raises(PlantError, match="cannot be read"):
        load_plant(tmp_path)


def test_merge_keys_and_aliases_are_usable_for_equal_cells(tmp_path: Path) -> None:
    plant = load_plant(
        write(
            tmp_path,
            """\
            plant: trial
            hosts: {edge: {hostname: "*"}}
            cells:
              cell_1: &cell
                nodes:
                  gate: &gate {type: quality_gate, parameters: {deadline_ms: 5}}
                  gate_2: {<<: *gate, parameters: {deadline_ms: 6}}
              cell_2: *cell
            processes:
              one: {host: edge, nodes: [cell_1/gate, cell_1/gate_2]}
              two: {host: edge, nodes: [cell_2/gate, cell_2/gate_2]}
            """,
        )
    )
    assert plant.nodes["cell_2/gate_2"].full_name == "/cell_2/gate_2"
    assert plant.nodes["cell_2/gate_2"].value("deadline_ms") == 6


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('hostname: "*"', "machine_id: abc", "does not fit; allowed: Content of /etc/machine-id"),
        ('hostname: "*", ', "", "is not recognisable; allowed: one of hostname"),
        ("edge: {", "auto: {", "'auto' is no name for this; allowed: Letters, digits"),
        ("camera_1: {", "Camera-1: {", "'Camera-1' is no name for this; allowed: Lower-case"),
        ("plant: trial", "plant: trial\ndiscovery: static", "add the key 'peers'"),
        ("plant: trial", "plant: trial\npeers: [10.0.0.2]", "not used with discovery: localhost"),
        ("deadline_ms: 500", "deadline_ms: true", "True is not allowed"),
        ("deadline_ms: 500", "deadline_ms: .nan", "nan is not allowed"),
        ("deadline_ms: 500", "deadline_ms: {a: 1}", "a mapping is not allowed"),
        ("deadline_ms: 500", "cameras: [a, 3]", "3 is not allowed; allowed: str"),
        ("deadline_ms: 500", "cameras: []", "cannot carry an empty list"),
        ("deadline_ms: 500", "cameras: camera_1", "'camera_1' is not allowed; allowed: str[]"),
        ("source: folder", "source: foldr", "'foldr' is not allowed; allowed: one of 'folder'"),
        ("nodes: [gate, camera_1]}", "nodes: []}", "is empty; allowed: at least one entry"),
        ("nodes: [gate, camera_1]}", "nodes: [gate, camera_1], env: {A: 1}}", "allowed: text"),
        (
            "nodes: [gate, camera_1]}",
            "nodes: [gate, camera_1], env: {ROS_DOMAIN_ID: '3'}}",
            "is set for the whole plant",
        ),
        (
            "nodes: [gate, camera_1]}",
            "nodes: [gate, camera_1], restart: {when: sometimes}}",
            "allowed: always, on_failure, never",
        ),
        ("host: edge, ", "", "the key 'host' is missing"),
        ("    nodes:\n      gate", "    namespace: line\n    nodes:\n      gate", "does not fit"),
    ],
)
def test_wrong_values(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in "\n".join(problems(tmp_path, GOOD.replace(old, new)))


def test_two_cells_of_one_namespace_cannot_share_a_name(tmp_path: Path) -> None:
    text = GOOD.replace(
        "processes:",
        "  line_2:\n    namespace: /line_1\n    nodes: {gate: {type: recorder}}\nprocesses:",
    )
    assert "the node /line_1/gate is there twice; first in line 7" in problems(tmp_path, text)[0]


def test_plant_files_are_found_by_name_and_path(tmp_path: Path) -> None:
    assert find_plant_file("demo") == config_folder() / "demo.yaml"
    assert find_plant_file(str(write(tmp_path, GOOD))) == tmp_path / "plant.yaml"
    with pytest.raises(FileNotFoundError, match=r"no plant file 'dem'.*demo"):
        find_plant_file("dem")

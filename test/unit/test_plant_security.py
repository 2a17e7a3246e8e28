"""SROS 2 policies: the schema of sros2, and no right that the interface table does not give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from shopfloor.plant import cli
from shopfloor.plant.endpoints import endpoints
from shopfloor.plant.paths import config_folder
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.problems import PlantError
from shopfloor.plant.security import enclave, policy_xml, rights_of
from shopfloor.plant.specs import make_specs
from shopfloor.ros.interfaces import Kind

PLANTS = sorted(config_folder().glob("*.yaml"))

# policy.xsd of sros2 0.13, as far as it says anything: element -> attributes, then children.
SCHEMA = {
    "policy": ({"version"}, {"enclaves"}),
    "enclaves": (set(), {"enclave"}),
    "enclave": ({"path"}, {"profiles"}),
    "profiles": (set(), {"profile"}),
    "profile": ({"ns", "node"}, {"topics", "services", "actions"}),
    "topics": ({"publish", "subscribe"}, {"topic"}),
    "services": ({"reply", "request"}, {"service"}),
    "actions": ({"call", "execute"}, {"action"}),
    "topic": (set(), set()),
    "service": (set(), set()),
    "action": (set(), set()),
}
RULES = ("topics", "services", "actions")
FULL_NAME = re.compile(r"(/([A-Za-z_][A-Za-z0-9_]*|\*))+")


def violations(element: ElementTree.Element) -> Iterator[str]:
    """What the schema does not allow."""
    attributes, children = SCHEMA.get(element.tag, (set(), set()))
    if element.tag not in SCHEMA:
        yield f"<{element.tag}> is no element of a policy"
    if set(element.attrib) - attributes:
        yield f"<{element.tag}> has {sorted(element.attrib)}"
    if element.tag in RULES:
        if list(element.attrib.values()) != ["ALLOW"]:
            yield f"<{element.tag}> has {element.attrib}; allowed: one, ALLOW"
    elif set(element.attrib) != attributes:
        yield f"<{element.tag}> lacks {sorted(attributes - set(element.attrib))}"
    if children and element.tag != "profile" and not len(element):
        yield f"<{element.tag}> is empty"
    if not children and not FULL_NAME.fullmatch(element.text or ""):
        yield f"<{element.tag}> is {element.text!r}; allowed: a full name"
    for child in element:
        if child.tag not in children:
            yield f"<{child.tag}> is in <{element.tag}>"
        yield from violations(child)


@pytest.mark.parametrize("path", PLANTS, ids=lambda path: path.stem)
def test_policies_keep_to_the_schema_and_name_every_node_once(path: Path, tmp_path: Path) -> None:
    assert cli.main(["security", "--plant", str(path), "--output", str(tmp_path)]) == 0
    root = ElementTree.fromstring((tmp_path / "policy.xml").read_text("utf-8"))
    assert root.attrib == {"version": "0.2.0"}
    assert list(violations(root)) == []
    plant = load_plant(path)
    profiles = [(p.attrib["ns"], p.attrib["node"]) for p in root.iter("profile")]
    assert sorted(profiles) == sorted((n.namespace, n.name) for n in plant.nodes.values())
    assert len({e.attrib["path"] for e in root.iter("enclave")}) == len(plant.processes)


def test_a_policy_that_breaks_the_schema_is_found() -> None:
    good = policy_xml(load_plant(config_folder() / "plant.yaml"))
    for old, new in (
        ("<topic>/rosout</topic>", "<topic>rosout</topic>"),
        ('publish="ALLOW"', 'publish="MAYBE"'),
        (' node="board_camera"', ""),
        ("<actions", "<deeds"),
        ("<topic>/rosout</topic>", "<service>/rosout</service>"),
    ):
        assert old in good
        broken = good.replace(old, new).replace("</actions>", "</actions>")
        if "<deeds" in broken:
            broken = broken.replace("</actions>", "</deeds>")
        assert list(violations(ElementTree.fromstring(broken))), new


def test_least_privilege_node_by_node() -> None:
    plant = load_plant(config_folder() / "plant.yaml")
    ends = endpoints(plant)
    of = {
        rights.node.name: rights
        for process in plant.processes.values()
        for rights in rights_of(plant, process, ends)
    }
    verdict, image = "/line_1/parts/verdict", "/line_1/board_camera/image_raw"
    publishers = {name for name, one in of.items() if one.allows(Kind.TOPIC, True, verdict)}
    assert publishers == {"quality_gate"}
    assert not of["board_camera"].allows(Kind.TOPIC, False, image)
    assert of["board_inspector"].allows(Kind.TOPIC, False, image)
    callers = {
        name
        for name, one in of.items()
        if one.allows(Kind.SERVICE, False, "/line_1/board_camera/change_state")
    }
    assert callers == {"jetson_manager"}, "the server's manager has nothing to do with the Jetson"
    assert not of["jetson_manager"].allows(
        Kind.SERVICE, False, "/line_1/board_camera/set_parameters"
    )
    assert of["scheduler"].allows(Kind.ACTION, True, "/line_1/plan_schedule")
    feedback = "/line_1/plan_schedule/_action/feedback"
    assert of["recorder"].allows(Kind.TOPIC, False, feedback)
    assert not of["recorder"].allows(Kind.ACTION, False, "/line_1/plan_schedule"), "it never calls"
    assert not of["board_inspector"].allows(Kind.TOPIC, True, "/line_1/hosts/jetson_1/thermal"), (
        "only the watchdog says how hot it is"
    )
    # No right on everything: what is open is one level of a name.
    for one in of.values():
        assert not any(one.allows(Kind.TOPIC, True, name) for name in ("/x", "/line_1/x/y"))
        assert all("*" not in name.split("/")[1] for names in one.names.values() for name in names)


@pytest.mark.parametrize("what", ["none", "contents"])
def test_events_of_services_are_granted_where_they_are_on(what: str, tmp_path: Path) -> None:
    path = tmp_path / "plant.yaml"
    text = f"gate: {{type: quality_gate, parameters: {{service_events: {what}}}}}"
    path.write_text(
        "plant: p\nhosts:\n  here: {hostname: '*', role: single}\n"
        f"cells:\n  c:\n    nodes:\n      {text}\n"
        "processes:\n  all: {host: here, nodes: [gate]}\n"
    )
    found = {end.name: end.serves for end in endpoints(load_plant(path)) if "/_" in end.name}
    assert found == ({} if what == "none" else {"/c/parts/override/_service_event": True})


def test_line_managers_of_all_hosts_hear_each_other() -> None:
    plant = load_plant(config_folder() / "plant_cells.yaml")
    heard = {
        (end.node.name, end.name)
        for end in endpoints(plant)
        if end.row.key == "heartbeat" and not end.serves
    }
    assert ("edge_manager", "/plant/heartbeat") in heard
    assert {("server_manager", f"/cell_{n}/heartbeat") for n in (1, 2, 3, 4)} <= heard


SECURE = "security: {keystore: /etc/shopfloor/keystore}\nhosts:"


def secured(folder: Path, text: str = SECURE) -> Plant:
    path = folder / "plant.yaml"
    path.write_text((config_folder() / "plant.yaml").read_text("utf-8").replace("hosts:", text, 1))
    return load_plant(path)


def test_processes_start_in_their_enclaves(tmp_path: Path) -> None:
    plant = secured(tmp_path)
    (vision, *_) = make_specs(plant, "jetson_1")
    command = vision.command("FILE")
    assert command[command.index("--enclave") + 1] == "/example_plant/jetson_1/vision"
    assert command.index("--enclave") > command.index("--ros-args")
    assert vision.environment["ROS_SECURITY_ENABLE"] == "true"
    assert vision.environment["ROS_SECURITY_STRATEGY"] == "Enforce"
    assert vision.environment["ROS_SECURITY_KEYSTORE"] == "/etc/shopfloor/keystore"
    for process in plant.processes.values():
        assert re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", enclave(plant, process))
    (vision, *_) = make_specs(load_plant(config_folder() / "plant.yaml"), "jetson_1")
    assert "--enclave" not in vision.arguments
    assert not any("SECURITY" in name for name in vision.environment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("security: {}\nhosts:", "the key 'keystore' is missing"),
        ("security: {keystore: relative}\nhosts:", "security.keystore"),
        ("security: {keystore: /k, strategy: enforce}\nhosts:", "did you mean 'Enforce'"),
    ],
)
def test_wrong_security_settings(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(PlantError, match=expected):
        secured(tmp_path, text)


def test_the_environment_cannot_contradict_the_plant(tmp_path: Path) -> None:
    content = yaml.safe_load((config_folder() / "plant.yaml").read_text("utf-8"))
    content["processes"]["vision"]["env"] = {"ROS_SECURITY_ENABLE": "false"}
    path = tmp_path / "plant.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(PlantError, match="ROS_SECURITY_ENABLE"):
        load_plant(path)

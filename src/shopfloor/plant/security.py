"""SROS 2 policies of a plant: what each node may publish, hear, serve and call, and nothing else.

The names come from the same endpoints that the check compares. One enclave is one process, as the
nodes of a process share its DDS participant; the profiles in it are its nodes. The schema is
policy.xsd of sros2, version 0.2.0; DDS matches `*` in names like fnmatch(3).

    ros2 security create_keystore KEYSTORE
    ros2 security generate_artifacts -k KEYSTORE -p policy.xml
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from xml.etree import ElementTree

from shopfloor.plant.endpoints import Endpoint, endpoints
from shopfloor.plant.plant_file import Node, Plant, Process
from shopfloor.ros.interfaces import Kind

VERSION = "0.2.0"

_PARAMETER_SERVICES = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "get_type_description",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
)
_LIFECYCLE_SERVICES = (
    "change_state",
    "get_available_states",
    "get_available_transitions",
    "get_state",
    "get_transition_graph",
)
_PUBLISHED_BY_ALL = ("/rosout", "/parameter_events")

_QUALIFIERS = {
    (Kind.TOPIC, True): ("topics", "publish"),
    (Kind.TOPIC, False): ("topics", "subscribe"),
    (Kind.SERVICE, True): ("services", "reply"),
    (Kind.SERVICE, False): ("services", "request"),
    (Kind.ACTION, True): ("actions", "execute"),
    (Kind.ACTION, False): ("actions", "call"),
}


@dataclass
class Rights:
    """What one node may do: (`topics`, `publish`) and such -> full names, `*` in some."""

    node: Node
    names: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def allows(self, kind: Kind, serves: bool, name: str) -> bool:
        """Whether the node may have such an end under `name`."""
        granted = self.names.get(_QUALIFIERS[kind, serves], ())
        return any(fnmatchcase(name, pattern) for pattern in granted)


def enclave(plant: Plant, process: Process) -> str:
    """The enclave of a process, for `--enclave` and the keystore."""
    return f"/{plant.name}/{process.host.replace('-', '_')}/{process.name}"


def rights_of(plant: Plant, process: Process, ends: Iterable[Endpoint]) -> list[Rights]:
    """The rights of each node of a process."""
    found = {key: Rights(plant.nodes[key]) for key in process.nodes}
    for end in ends:
        if end.node.key in found:
            found[end.node.key].names[_QUALIFIERS[end.row.kind, end.serves]].add(end.name)
    for rights in found.values():
        _add_what_every_node_has(rights)
        if not rights.node.row.managed:
            _add_what_a_line_manager_asks(plant, process.host, rights)
    return list(found.values())


def policy_xml(plant: Plant) -> str:
    """The policy of the whole plant, for `ros2 security generate_artifacts`."""
    root = ElementTree.Element("policy", version=VERSION)
    enclaves = ElementTree.SubElement(root, "enclaves")
    ends = endpoints(plant)
    for process in plant.processes.values():
        one = ElementTree.SubElement(enclaves, "enclave", path=enclave(plant, process))
        profiles = ElementTree.SubElement(one, "profiles")
        for rights in rights_of(plant, process, ends):
            _add_profile(profiles, rights)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_profile(profiles: ElementTree.Element, rights: Rights) -> None:
    node = rights.node
    profile = ElementTree.SubElement(profiles, "profile", ns=node.namespace, node=node.name)
    for (kind, action), names in sorted(rights.names.items()):
        rule = ElementTree.SubElement(profile, kind, {action: "ALLOW"})
        for name in sorted(names):
            ElementTree.SubElement(rule, kind[:-1]).text = name


def _add_what_every_node_has(rights: Rights) -> None:
    own = rights.node.full_name
    rights.names["topics", "publish"] |= {*_PUBLISHED_BY_ALL, f"{own}/transition_event"}
    services = (*_PARAMETER_SERVICES, *_LIFECYCLE_SERVICES)
    rights.names["services", "reply"] |= {f"{own}/{name}" for name in services}


def _add_what_a_line_manager_asks(plant: Plant, host: str, rights: Rights) -> None:
    """It takes the managed nodes of its host from state to state, and no others."""
    for process in plant.processes.values():
        if process.host == host:
            rights.names["services", "request"] |= {
                f"{plant.nodes[key].full_name}/change_state"
                for key in process.nodes
                if plant.nodes[key].row.managed
            }

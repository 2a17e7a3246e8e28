"""The command line of the executable `group`: which nodes one process runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shopfloor.plant.nodes import NODE_TYPES, load, node_type


@dataclass(frozen=True)
class NodeArgument:
    """A `--node`: type, name, and the namespace where the name was a full one."""

    type: str
    name: str
    namespace: str | None


def node_argument(text: str) -> NodeArgument:
    """Parse TYPE:NAME; raises argparse.ArgumentTypeError naming what is allowed."""
    type_, colon, full_name = text.partition(":")
    namespace, _, name = full_name.rpartition("/")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not TYPE:NAME, for example camera:camera_1")
    try:
        node_type(type_)
    except KeyError as error:
        raise argparse.ArgumentTypeError(str(error.args[0])) from None
    return NodeArgument(type_, name, namespace or None)


def parse(arguments: Sequence[str]) -> list[NodeArgument]:
    """The nodes of a command line (without the program's name); exits with 2 on a wrong one."""
    own = list(arguments)
    if "--ros-args" in own:
        own = own[: own.index("--ros-args")]
    parser = argparse.ArgumentParser(
        prog="group",
        description="Run several nodes in one process. ROS arguments follow after --ros-args.",
        epilog="node types: " + "; ".join(f"{t.name}: {t.meaning}" for t in NODE_TYPES.values()),
    )
    parser.add_argument(
        "--node",
        action="append",
        required=True,
        type=node_argument,
        metavar="TYPE:NAME",
        help="a node to run; repeat for more; the first one's callbacks come first",
    )
    nodes: list[NodeArgument] = parser.parse_args(own).node
    for index, node in enumerate(nodes):
        if any((node.name, node.namespace) == (n.name, n.namespace) for n in nodes[:index]):
            parser.error(f"two nodes are called '{node.name}'; a name is used once in a namespace")
    return nodes


def factory(node: NodeArgument) -> Callable[[], Any]:
    """What makes the node; the class is imported now. Raises ImportError or AttributeError."""
    cls = load(node_type(node.type).node)
    if node.namespace is None:
        return partial(cls, node.name)
    return partial(cls, node.name, namespace=node.namespace)

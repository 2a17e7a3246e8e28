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


@dataclass(frozen=True)
class GroupArguments:
    """The command line. lock_step_ns: ROS time at which a replay begins that drives these nodes.

    nice: how far the process stands back where cores are short.
    """

    nodes: tuple[NodeArgument, ...]
    lock_step_ns: int | None
    pictures: bool
    nice: int = 0


def parse(arguments: Sequence[str]) -> GroupArguments:
    """A command line (without the program's name); exits with 2 on a wrong one."""
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
    parser.add_argument(
        "--lock-step",
        type=int,
        metavar="NS",
        help="the nodes do nothing but what a replay asks for; it begins at this ROS time",
    )
    parser.add_argument(
        "--pictures", action="store_true", help="with --lock-step: make annotated pictures too"
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        choices=range(20),
        metavar="N",
        help="stand back where cores are short: 0 not at all to 19",
    )
    args = parser.parse_args(own)
    nodes: list[NodeArgument] = args.node
    for index, node in enumerate(nodes):
        if any((node.name, node.namespace) == (n.name, n.namespace) for n in nodes[:index]):
            parser.error(f"two nodes are called '{node.name}'; a name is used once in a namespace")
    return GroupArguments(tuple(nodes), args.lock_step, args.pictures, args.nice)


def factory(node: NodeArgument, **arguments: Any) -> Callable[[], Any]:
    """What makes the node; the class is imported now. Raises ImportError or AttributeError.

    arguments: further ones of the node's class.
    """
    cls = load(node_type(node.type).node)
    if node.namespace is None:
        return partial(cls, node.name, **arguments)
    return partial(cls, node.name, namespace=node.namespace, **arguments)

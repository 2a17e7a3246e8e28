"""Executable `group`: several nodes in one process, so that frames go by reference.

    group --node camera:board_camera --node inspector:/cell_1/board_inspector \\
          --ros-args --params-file FILE

A NAME with slashes is a full name, namespace included; all other settings are ROS arguments.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shopfloor.plant.group_arguments import GroupArguments


def main() -> int:
    """Run the nodes of the command line until a signal; returns the exit code."""
    # The imports below take a second: SIGINT meanwhile ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from shopfloor.plant.group_arguments import factory, parse
    from shopfloor.plant.niceness import stand_back
    from shopfloor.plant.parent import end_with_parent

    end_with_parent()
    arguments = parse(sys.argv[1:])
    stand_back(arguments.nice)  # before there are threads: they inherit it
    factories = []
    for node in arguments.nodes:
        try:
            factories.append(factory(node, **_surroundings(arguments)))
        except (ImportError, AttributeError) as error:
            print(f"group: the node type '{node.type}' cannot be loaded: {error}", file=sys.stderr)
            return 2
    # After the command line: a wrong one is told without ROS, too.
    from shopfloor.ros.main import run_nodes

    return run_nodes(factories)


def _surroundings(arguments: GroupArguments) -> dict[str, Any]:
    """Arguments of a node's class: empty but in a replay."""
    if arguments.lock_step_ns is None:
        return {}
    from shopfloor.ros.lock_step import LockStep
    from shopfloor.ros.timing import stop_stage_clock

    stop_stage_clock()
    return {"lock_step": LockStep(arguments.lock_step_ns, arguments.pictures)}


if __name__ == "__main__":
    sys.exit(main())

"""Executable `group`: several nodes in one process, so that frames go by reference.

    group --node camera:board_camera --node inspector:/cell_1/board_inspector \\
          --ros-args --params-file FILE

A NAME with slashes is a full name, namespace included; all other settings are ROS arguments.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the nodes of the command line until a signal; returns the exit code."""
    # The imports below take a second: SIGINT meanwhile ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from shopfloor.plant.group_arguments import factory, parse
    from shopfloor.plant.parent import end_with_parent

    end_with_parent()
    nodes = parse(sys.argv[1:])
    factories = []
    for node in nodes:
        try:
            factories.append(factory(node))
        except (ImportError, AttributeError) as error:
            print(f"group: the node type '{node.type}' cannot be loaded: {error}", file=sys.stderr)
            return 2
    # After the command line: a wrong one is told without ROS, too.
    from shopfloor.ros.main import run_nodes

    return run_nodes(factories)


if __name__ == "__main__":
    sys.exit(main())

"""The one main of every executable: build nodes, spin, end clean on SIGINT and SIGTERM.

The loop is bounded: it looks at the stop flag ten times a second, and everything from rclpy.init on
is inside its `try`. (The textbook `rclpy.spin` hung in 4 of 74 runs when SIGTERM came at start-up.)
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from shopfloor.ros.network import EXIT_CODE, known_peers, network_of_this_process
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.notify import Watchdog, notify

SPIN_SLICE_S = 0.1

SWITCH_INTERVAL_S = 0.0005
"""How long a busy thread may keep the interpreter from another one: 5 ms by default, which a node
with a server's, camera's or engine's thread beside its executor pays at each hand-over."""

NodeFactory = Callable[[], ShopfloorNode]  # type: ignore[type-arg]


def make_executor() -> Executor:
    """The executor of a process, chosen here and nowhere else.

    SingleThreaded: EventsExecutor deadlocked at shutdown in a trial, MultiThreaded drops frames.
    """
    return SingleThreadedExecutor()


class StopFlag:
    """Set by SIGINT and SIGTERM; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def __bool__(self) -> bool:
        return self.signal != 0

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number


def watch_threads() -> list[str]:
    """A list that gets the name of each thread that an exception ends; the traceback is printed.

    A node without one of its threads would be alive in name only: its process has to end.
    """
    broken: list[str] = []

    def on_exception(arguments: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(arguments)
        if arguments.exc_type is not SystemExit:
            broken.append(arguments.thread.name if arguments.thread else "unknown")

    threading.excepthook = on_exception
    return broken


def first_stuck(nodes: Sequence[ShopfloorNode]) -> str:  # type: ignore[type-arg]
    """The first node with a worker that does not get on, and which one; empty where all do."""
    found = ((node.get_fully_qualified_name(), node.stuck()) for node in nodes)
    return next((f"{name}: {text}" for name, text in found if text), "")


def run_nodes(factories: Sequence[NodeFactory], args: Sequence[str] | None = None) -> int:
    """Run the nodes in one executor until a signal; returns the exit code.

    args: command line with the program's name first, `sys.argv` by default.
    0 after a signal; 1 when a thread ended by an exception; 2 when a node or the middleware cannot
    be made; 75 when the way to other hosts opened after the start. The reason is on stderr. Where a
    worker did not end, the process ends here with that code.
    """
    nodes: list[ShopfloorNode] = []  # type: ignore[type-arg]
    code = _run(factories, args, nodes)
    if any(node.left_behind for node in nodes):
        # Native code that comes back to a Python which is shutting down aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(
    factories: Sequence[NodeFactory],
    args: Sequence[str] | None,
    nodes: list[ShopfloorNode],  # type: ignore[type-arg]
) -> int:
    """`run_nodes`; the nodes that it makes are added to `nodes`."""
    faulthandler.enable()  # who is aborted because it hangs says where
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = StopFlag()
    broken = watch_threads()
    executor: Executor | None = None
    network = network_of_this_process()
    try:
        if missing := network.wait(lambda: stop):
            _say(f"starts without other hosts, and starts again when there is a way: {missing}")
            if peers := os.environ.get("ROS_STATIC_PEERS"):
                os.environ["ROS_STATIC_PEERS"] = ";".join(known_peers(peers.split(";")))
        rclpy.init(
            args=list(args) if args is not None else sys.argv,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        executor = make_executor()
        for factory in factories:
            if stop:
                return 0
            nodes.append(factory())
            executor.add_node(nodes[-1])
        watchdog = Watchdog()
        notify("READY=1")
        while not stop and not broken and not network.opened and rclpy.ok():
            if stuck := first_stuck(nodes):
                watchdog.withhold(stuck)
            else:
                watchdog.alive()
            try:
                executor.spin_once(timeout_sec=SPIN_SLICE_S)
            except Exception:  # one callback's failure must not end the other nodes
                traceback.print_exc()
        if network.opened and not stop and not broken:
            _say("there is a way to the other hosts now: starts again")
            return EXIT_CODE
        return 1 if broken else 0
    except Exception as error:
        _say(f"cannot start: {type(error).__name__}: {error}")
        return 2
    finally:
        notify("STOPPING=1")
        for node in reversed(nodes):
            node.close()
            node.destroy_node()
        if executor is not None:
            executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()


def _say(text: str) -> None:
    print(f"{sys.argv[0]}: {text}", file=sys.stderr)


def run_node(factory: NodeFactory) -> int:
    """Run one node as its own process; what each node's `main` calls."""
    return run_nodes([factory])

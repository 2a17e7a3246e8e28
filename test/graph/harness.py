"""Graph tests: real processes and DDS on a private domain, waiting on events, never on sleeps."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from shopfloor.plant.environment import transport_environment
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import subscription_qos

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0
"""How long an event may take before a test fails; an event that comes ends the wait at once."""

CONFIGURE = Transition.TRANSITION_CONFIGURE
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
CLEANUP = Transition.TRANSITION_CLEANUP
UNCONFIGURED = State.PRIMARY_STATE_UNCONFIGURED
INACTIVE = State.PRIMARY_STATE_INACTIVE
ACTIVE = State.PRIMARY_STATE_ACTIVE


_LEADS_TO = {
    CONFIGURE: INACTIVE,
    ACTIVATE: ACTIVE,
    DEACTIVATE: INACTIVE,
    CLEANUP: UNCONFIGURED,
}


class Child:
    """A process under test: its output line by line, and an end that is certain."""

    def __init__(self, command: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.command = command
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
            cwd=cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new.put(line.rstrip("\n"))
        self._new.put(None)

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "\n".join(self.lines)

    def wait_line(self, pattern: str, timeout_s: float = LIMIT_S) -> str:
        """The next line that matches; fails with the whole output."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line matches {pattern!r} in:\n{self.output}")
            if re.search(pattern, line):
                return line

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = LIMIT_S) -> int:
        """Exit code; fails when the process does not end."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} does not end:\n{self.output}") from None
        self._reader.join(2.0)
        return code

    def end(self) -> None:
        """Kill the whole process group, whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Graph:
    """A private ROS domain: processes in it, and a node of the test's own."""

    def __init__(self, domain_id: int, folder: Path) -> None:
        self.domain_id = domain_id
        self.folder = folder
        self.environment = {
            **transport_environment(),
            "ROS_DOMAIN_ID": str(domain_id),
            "SHOPFLOOR_STATE_DIR": str(folder / "state"),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "log"),
            "PYTHONUNBUFFERED": "1",
            "RCUTILS_COLORIZED_OUTPUT": "0",
            "NO_COLOR": "1",
        }
        self._children: list[Child] = []
        # The test's own node talks as the product does: a stock profile loses larger images.
        os.environ.update(transport_environment())
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self.node = Node("tester", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def close(self) -> None:
        """End every process and the test's node."""
        for child in self._children:
            child.end()
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
        """Start `python ARGUMENTS` in this domain."""
        child = Child(
            [sys.executable, *arguments], {**self.environment, **(env or {})}, self.folder
        )
        self._children.append(child)
        return child

    def start(self, *nodes: str, parameters: Mapping[str, object] | None = None) -> Child:
        """Start one process with `TYPE:NAME` nodes; `parameters` go to all of them."""
        arguments = ["-m", "shopfloor.plant.group"]
        for node in nodes:
            arguments += ["--node", node]
        arguments += ["--ros-args"]
        for key, value in (parameters or {}).items():
            text = str(value).lower() if isinstance(value, bool) else value
            arguments += ["-p", f"{key}:={text}"]
        return self.python(*arguments)

    def until(self, predicate: Callable[[], Any], what: str, timeout_s: float = LIMIT_S) -> Any:
        """Spin until `predicate()` is true and return its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := predicate()):
            if time.monotonic() > deadline:
                outputs = "\n".join(f"--- {c.command}\n{c.output}" for c in self._children)
                raise AssertionError(f"not within {timeout_s:g} s: {what}\n{outputs}")
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def collect(self, key: str, **names: str) -> list[Any]:
        """A list that grows with each message of the interface table's row."""
        row = interface(key)
        messages: list[Any] = []
        self.node.create_subscription(
            message_type(row.type), row.resolve(**names), messages.append, subscription_qos(row.qos)
        )
        return messages

    def call(self, type_: Any, name: str, request: Any, timeout_s: float = LIMIT_S) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(type_, name)
        self.until(client.service_is_ready, f"service {name}", timeout_s)
        future = client.call_async(request)
        try:
            self.until(future.done, f"answer of {name}", timeout_s)
        finally:
            self.node.destroy_client(client)
        return future.result()

    def state(self, node: str) -> int:
        """Lifecycle state of a node, asked again where a request went to a process that is gone."""
        name, request = f"{node}/get_state", GetState.Request()
        for _ in range(2):
            with contextlib.suppress(AssertionError):
                return int(self.call(GetState, name, request, LIMIT_S / 3).current_state.id)
        return int(self.call(GetState, name, request).current_state.id)

    def until_state(self, node: str, state: int, timeout_s: float = 2 * LIMIT_S) -> None:
        """Wait until the node is in `state`."""
        self.until(lambda: self.state(node) == state, f"{node} in state {state}", timeout_s)

    def change(self, node: str, transition: int) -> bool:
        """Ask for a transition; whether it succeeded. An answer that got lost is looked up."""
        request = ChangeState.Request(transition=Transition(id=transition))
        before = self.state(node)
        with contextlib.suppress(AssertionError):
            name = f"{node}/change_state"
            return bool(self.call(ChangeState, name, request, LIMIT_S / 2).success)
        after = self.state(node)
        if after == before:
            return bool(self.call(ChangeState, f"{node}/change_state", request).success)
        return after == _LEADS_TO[transition]

    def until_known(self, *nodes: str) -> None:
        """Wait until nodes know every endpoint that the test's node has by now.

        That the test sees a publisher does not mean that the publisher sees the test: its first
        messages may go past. A subscription is announced after those made before it, so the first
        heartbeat on a new one says that the others are known too.
        """
        beats = self.collect("heartbeat")
        for node in nodes:
            self.until(lambda node=node: any(b.node == node for b in beats), f"heartbeat of {node}")

    def set(self, node: str, name: str, value: object) -> tuple[bool, str]:
        """Set a parameter; success and reason."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        response = self.call(
            SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=[message])
        )
        return bool(response.results[0].successful), str(response.results[0].reason)


def statuses(messages: list[Any], node: str) -> dict[str, Any]:
    """The latest diagnostic status of each check of a node (name after `NODE: `).

    A check that has not come yet is an empty STALE status.
    """
    found: dict[str, Any] = defaultdict(lambda: DiagnosticStatus(level=DiagnosticStatus.STALE))
    for array in messages:
        for status in array.status:
            owner, _, check = status.name.partition(": ")
            if owner.endswith(node):
                found[check] = status
    return found

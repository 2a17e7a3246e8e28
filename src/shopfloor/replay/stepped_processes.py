"""Nodes of today's code in processes of their own, driven step by step over DDS."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_services_default
from rclpy.time import Time
from shopfloor_msgs.msg import ReplayMessage
from shopfloor_msgs.srv import ReplayStep

from shopfloor.plant.parent import PARENT_FD_VARIABLE
from shopfloor.plant.specs import NodeSpec, ProcessSpec
from shopfloor.replay.plant_of_bag import ReplayError
from shopfloor.ros.interfaces import interface
from shopfloor.ros.lock_step import fill, from_messages
from shopfloor.ros.paths import FILES_VARIABLE, run_folder
from shopfloor.ros.recorded import Recorded

START_LIMIT_S = 60.0
STEP_LIMIT_S = 60.0
"""A frame on a busy machine takes a second; what takes longer hangs."""

_END_S = 5.0
_DOMAINS = range(60, 100)
_ASK_AGAIN_S = 0.1
_LAST_LINES = 15


@contextlib.contextmanager
def free_domain(used: int | None = None) -> Iterator[int]:
    """A ROS domain that no other replay of this machine has: theirs have the same names.

    used: that of the plant, which may run on this machine.
    """
    taken = {used, int(os.environ.get("ROS_DOMAIN_ID") or 0)}
    folder = run_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in (number for number in _DOMAINS if number not in taken):
        fd = os.open(folder / f"replay_domain_{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        try:
            yield number
        finally:
            os.close(fd)
        return
    raise ReplayError(f"{len(_DOMAINS)} replays run on this machine already")


def begin_with_state(source: Path, plant_domain: int | None, folder: Path, domain_id: int) -> None:
    """Copy what the plant's nodes had kept to where those of a replay in `domain_id` look for it.

    source: a state folder, or that of one domain in it. Raises ReplayError where it holds none.
    """
    domain = int(os.environ.get("ROS_DOMAIN_ID") or 0) if plant_domain is None else plant_domain
    own = source / f"domain_{domain}"
    others = sorted(path.name for path in source.glob("domain_*"))
    if not own.is_dir():
        if others or not source.is_dir() or not any(source.iterdir()):
            there = ", ".join(others) or "nothing"
            raise ReplayError(f"{source}: no state of the plant's domain {domain}, it has {there}")
        own = source
    shutil.copytree(own, folder / f"domain_{domain_id}")


class RemoteNode:
    """One node, as the sequencer sees it."""

    def __init__(self, owner: SteppedProcesses, spec: NodeSpec, client: Any) -> None:
        self.name = spec.full_name
        self.listens: frozenset[str] = frozenset()
        self.publishes: frozenset[str] = frozenset()
        self.next_timer_ns = 0
        self._owner = owner
        self._client = client
        self._future: Any = None

    def begin(self, inputs: Sequence[Recorded], until_ns: int) -> None:
        """Send the step's request."""
        request = ReplayStep.Request(until=Time(nanoseconds=until_ns).to_msg())
        request.inputs = [fill(ReplayMessage(), item) for item in inputs]
        self._future = self._client.call_async(request)

    def result(self) -> list[Recorded]:
        """Wait for the answer. Raises ReplayError with the last words of a process that ended."""
        response = self._owner.wait(self._future, self.name)
        self._take(response)
        return list(from_messages(response.outputs))

    def is_ready(self, start_ns: int) -> bool:
        """Whether it is active; learns what it listens to. What it has to say comes later."""
        if not self._client.service_is_ready():
            return False
        self.begin((), start_ns)
        response = self._owner.wait(self._future, self.name, limit_s=2.0, must=False)
        if response is None:
            return False
        self._take(response)
        return bool(response.active)

    def _take(self, response: Any) -> None:
        self.listens = frozenset(response.listens)
        self.publishes = frozenset(response.publishes)
        self.next_timer_ns = int(Time.from_msg(response.next_timer).nanoseconds)


class SteppedProcesses:
    """The processes from `start` to `close`.

    folder: for their parameters, logs and state; files/ in it: those that the bag kept.
    start_ns: ROS time at which their clocks stand.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        folder: Path,
        domain_id: int,
        start_ns: int,
        *,
        pictures: bool = False,
    ) -> None:
        self._specs = specs
        self._folder = folder
        self._start_ns = start_ns
        self._pictures = pictures
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            "ROS_DOMAIN_ID": str(domain_id),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "log"),
            "SHOPFLOOR_STATE_DIR": str(folder / "state"),
            FILES_VARIABLE: str(folder / "files"),
            "PYTHONHASHSEED": "0",
        }
        self._pipe: tuple[int, int] | None = None
        self._node: Node | None = None
        self._context = Context()
        self._domain_id = domain_id
        self.nodes: list[RemoteNode] = []

    def __enter__(self) -> SteppedProcesses:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, future: Any, name: str, limit_s: float = STEP_LIMIT_S, must: bool = True) -> Any:
        """The future's result, while all processes live; None where it need not come."""
        deadline = time.monotonic() + limit_s
        while not future.done():
            self._executor.spin_once(timeout_sec=0.2)
            if not future.done():
                self._check_alive()
                if time.monotonic() > deadline:
                    if must:
                        raise ReplayError(f"{name} has not ended a step within {limit_s:g} s")
                    return None
        return future.result()

    def close(self) -> None:
        """End every process."""
        if self._node is not None:
            self._executor.shutdown(timeout_sec=1.0)
            self._node.destroy_node()
            rclpy.shutdown(context=self._context)
            self._node = None
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        deadline = time.monotonic() + _END_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def _start(self) -> None:
        self._pipe = os.pipe()
        for spec in self._specs:
            self._start_process(spec, self._pipe[0])
        # The player's own DDS settings are those of the processes.
        os.environ.update({**self._specs[0].environment, **self._environment})
        rclpy.init(context=self._context, domain_id=self._domain_id)
        self._node = Node("replay", context=self._context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        row = interface("replay_step")
        for spec in self._specs:
            for node in spec.nodes:
                name = f"{node.namespace}/{row.resolve(node=node.name)}"
                client = self._node.create_client(
                    ReplayStep, name, qos_profile=qos_profile_services_default
                )
                self.nodes.append(RemoteNode(self, node, client))
        deadline = time.monotonic() + START_LIMIT_S
        waiting = list(self.nodes)
        while waiting:
            self._executor.spin_once(timeout_sec=_ASK_AGAIN_S)
            self._check_alive()
            waiting = [node for node in waiting if not node.is_ready(self._start_ns)]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(node.name for node in waiting)
                raise ReplayError(
                    f"not active within {START_LIMIT_S:g} s: {names}{self._last_words()}"
                )

    def _start_process(self, spec: ProcessSpec, parent_fd: int) -> None:
        parameters = self._folder / f"{spec.name}.yaml"
        parameters.write_text(spec.parameters, encoding="utf-8")
        command = spec.command(str(parameters))
        at = command.index("--ros-args")
        own = ["--lock-step", str(self._start_ns), *(["--pictures"] if self._pictures else [])]
        environment: Mapping[str, str] = {
            **os.environ, **spec.environment, **self._environment,
            PARENT_FD_VARIABLE: str(parent_fd),
        }  # fmt: skip
        with (self._folder / f"{spec.name}.log").open("wb") as log:
            self._processes[spec.name] = subprocess.Popen(
                [*command[:at], *own, *command[at:]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(parent_fd,),
                start_new_session=True,
            )

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise ReplayError(
                    f"process '{name}' ended with {process.returncode}{self._last_words(name)}"
                )

    def _last_words(self, only: str = "") -> str:
        words = ""
        for name in self._processes:
            if only in ("", name):
                text = (self._folder / f"{name}.log").read_text("utf-8", errors="replace")
                words += f"\n--- {name}\n" + "\n".join(text.splitlines()[-_LAST_LINES:])
        return words

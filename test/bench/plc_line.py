"""The line that `plc.py` and its parts ask: the demo's, vision included, with state and bridge."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from shopfloor_msgs.msg import LineState
from shopfloor_msgs.srv import PackMLCommand

from shopfloor.ros.paths import share_folder

SERVICE = "/line_1/line/packml_command"
MODES = (LineState.MODE_PRODUCTION, LineState.MODE_MANUAL)
"""Changing the mode acts at once and as often as one likes, unlike a PackML command."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Line:
    """The demo's line, vision included, with line state and bridge.

    nice: how far all other processes stand back behind these two.
    """

    def __init__(self, folder: Path, nice: int) -> None:
        self.folder, self.nice = folder, nice
        self.modbus_port, self.opcua_port = free_port(), free_port()
        mapping = yaml.safe_load((share_folder() / "config/plc/plc1.yaml").read_text("utf-8"))
        mapping["cycle_ms"] = 20
        mapping["modbus"] = {
            "address": "127.0.0.1", "port": self.modbus_port, "peers": ["127.0.0.1"],
        }  # fmt: skip
        mapping["opcua"] = {"address": "127.0.0.1", "port": self.opcua_port, "anonymous": True}
        (folder / "plc.yaml").write_text(yaml.safe_dump(mapping), "utf-8")
        plant = yaml.safe_load((share_folder() / "config/demo.yaml").read_text("utf-8"))
        nodes = plant["cells"]["line_1"]["nodes"]
        for name in [n for n, node in nodes.items() if node["type"] == "recorder"]:
            del nodes[name]
        for process in list(plant["processes"]):
            kept = [n for n in plant["processes"][process]["nodes"] if n in nodes]
            if kept:
                plant["processes"][process]["nodes"] = kept
            else:
                del plant["processes"][process]
        for process in plant["processes"].values():
            process["nice"] = nice
        for group in ("line_state", "plc_bridge"):
            nodes.pop(group, None)
            for process in list(plant["processes"]):
                if plant["processes"][process]["nodes"] == [group]:
                    del plant["processes"][process]
        nodes["line_state"] = {"type": "line_state", "parameters": {"line": "line_1"}}
        nodes["plc_bridge"] = {
            "type": "plc_bridge", "parameters": {"mapping": str(folder / "plc.yaml")},
        }  # fmt: skip
        host = next(iter(plant["hosts"]))
        restart = {"limit": 1000, "backoff_s": 0.1}
        for name in ("line_state", "plc_bridge"):
            plant["processes"][f"p_{name}"] = {"host": host, "nodes": [name], "restart": restart}
        (folder / "plant.yaml").write_text(yaml.safe_dump(plant, sort_keys=False), "utf-8")
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shopfloor.plant", "up", "--plant", folder / "plant.yaml"],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SHOPFLOOR_STATE_DIR": str(folder / "state")},
            start_new_session=True,
        )

    def pid(self, process: str) -> int:
        """The process's present id."""
        lines = [x for x in Path(self.log.name).read_text().splitlines() if f"p_{process} " in x]
        started = [x for x in lines if "started, process" in x]
        return int(started[-1].rsplit(" ", 1)[1])

    def wait(self, limit_s: float = 180.0) -> None:
        """Until the bridge's servers listen."""
        end = time.monotonic() + limit_s
        for port in (self.modbus_port, self.opcua_port):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1.0).close()
                    break
                except OSError:
                    assert time.monotonic() < end, f"nobody listens on {port}"
                    time.sleep(0.1)

    def close(self, limit_s: float = 20.0) -> None:
        """Stop everything; what has not ended by then is killed."""
        if self.process.poll() is not None:
            return
        tree = psutil.Process(self.process.pid)
        processes = [tree, *tree.children(recursive=True)]
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(limit_s)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


class Caller:
    """Calls the service directly, without a bridge."""

    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C is for Python
        self.node = rclpy.create_node("bench_caller")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.client = self.node.create_client(PackMLCommand, SERVICE)

    def wait(self, limit_s: float = 180.0) -> None:
        """Until the service is there."""
        end = time.monotonic() + limit_s
        while not self.client.service_is_ready():
            assert time.monotonic() < end, f"no {SERVICE}"
            self.executor.spin_once(0.1)

    def call(self, command_id: str, mode: int, issued_ns: int = 0, wait_s: float = 0.5) -> Any:
        """The result, or None where no answer came."""
        request = PackMLCommand.Request(mode=mode)
        request.command.caller, request.command.command_id = "bench", command_id
        request.command.issued.sec, request.command.issued.nanosec = divmod(issued_ns, 10**9)
        future = self.client.call_async(request)
        end = time.monotonic() + wait_s
        while not future.done() and time.monotonic() < end:
            self.executor.spin_once(0.02)
        if not future.done():
            self.client.remove_pending_request(future)
            return None
        return future.result().result

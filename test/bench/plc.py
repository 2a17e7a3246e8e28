"""Commands from a PLC: how fast, and whether each acts once whatever happens.

./run bench plc            about 6 minutes
./run bench plc --quick    about 1 minute
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient
from rclpy.executors import SingleThreadedExecutor
from rich.progress import track
from shopfloor_msgs.msg import CommandResult, LineState
from shopfloor_msgs.srv import PackMLCommand
from table import Results

from shopfloor.ros.audit import AuditError, verify
from shopfloor.ros.paths import share_folder

RATE_HZ = 50.0
SERVICE = "/line_1/line/packml_command"
_MODES = (LineState.MODE_PRODUCTION, LineState.MODE_MANUAL)
"""Changing the mode acts at once and as often as one likes, unlike a PackML command."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Line:
    """The demo's line, vision included, with line state and bridge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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

    def close(self) -> None:
        """Stop everything."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


async def at_rate(
    count: int, ask: Callable[[int], Awaitable[int]], what: str
) -> tuple[np.ndarray, Counter[int]]:
    """Milliseconds from call to answer of `count` commands, and their outcomes."""
    times, outcomes = [], Counter[int]()
    start = time.monotonic()
    for number in track(range(count), description=what):
        wait_s = start + number / RATE_HZ - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        asked = time.perf_counter()
        outcomes[await ask(number)] += 1
        times.append((time.perf_counter() - asked) * 1e3)
    return np.array(times), outcomes


async def modbus_times(port: int, count: int) -> tuple[np.ndarray, Counter[int]]:
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    base = int(time.time()) % 60_000 * 60_000

    async def ask(number: int) -> int:
        command_id = base + number
        words = [command_id >> 16, command_id & 0xFFFF]
        await client.write_registers(100, [*words, 0, 0, _MODES[number % 2]])
        while True:
            answer = (await client.read_input_registers(100, count=6)).registers
            if answer[:2] == words and answer[2]:
                return int(answer[2])
            await asyncio.sleep(0.001)

    try:
        return await at_rate(count, ask, "Modbus")
    finally:
        client.close()


async def opcua_times(port: int, count: int) -> tuple[np.ndarray, Counter[int]]:
    async with Client(f"opc.tcp://127.0.0.1:{port}/shopfloor") as client:
        index = await client.get_namespace_index("urn:shopfloor:plc")
        method = client.get_node(ua.NodeId("plc1.line", index))
        plc = await client.nodes.objects.get_child([f"{index}:shopfloor", f"{index}:plc1"])
        run = time.time_ns()

        async def ask(number: int) -> int:
            arguments = [
                ua.Variant(f"{run}-{number}", ua.VariantType.String),
                ua.Variant("", ua.VariantType.String),
                ua.Variant("bench", ua.VariantType.String),
                ua.Variant(0, ua.VariantType.Byte),
                ua.Variant(0, ua.VariantType.UInt16),
                ua.Variant(_MODES[number % 2], ua.VariantType.UInt16),
            ]
            return int((await plc.call_method(method, *arguments))[0])

        return await at_rate(count, ask, "OPC UA")


class Caller:
    """Calls the service directly, without a bridge."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("bench_caller")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.client = self.node.create_client(PackMLCommand, SERVICE)

    def wait(self, limit_s: float = 60.0) -> None:
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


def latency(results: Results, line: Line, caller: Caller, seconds: float) -> None:
    count = int(seconds * RATE_HZ)
    run = time.time_ns()

    async def direct(number: int) -> int:
        return int(caller.call(f"{run}-{number}", _MODES[number % 2], wait_s=5.0).outcome)

    baseline, _ = asyncio.run(at_rate(count, direct, "direct"))
    for what, (times, outcomes) in (
        ("Modbus", asyncio.run(modbus_times(line.modbus_port, count))),
        ("OPC UA", asyncio.run(opcua_times(line.opcua_port, count))),
    ):
        done = outcomes[CommandResult.OUTCOME_ACCEPTED]
        note = f"{done} of {count} ACCEPTED at {RATE_HZ:g}/s, vision running"
        for q in (50, 99):
            results.add(
                f"{what}: command to answer p{q}", float(np.percentile(times, q)), "ms",
                float(np.percentile(baseline, q)), "20 ms p99" if q == 99 else "",
                f"{note}; baseline: the service called directly",
            )  # fmt: skip


def once(results: Results, line: Line, caller: Caller, count: int, kills: int) -> None:
    """Commands repeated, reordered, delayed and replayed, with kill -9 in between."""
    rng = random.Random(7)
    outcomes: Counter[str] = Counter()
    accepted: set[str] = set()
    start_ns = time.time_ns()
    window: list[str] = []
    lost = kill_next = 0
    fresh = 0
    kill_at = sorted(rng.sample(range(count // 10, count), kills))
    for number in track(range(count), description="repeated commands"):
        while kill_next < kills and number >= kill_at[kill_next]:
            os.kill(line.pid("line_state"), signal.SIGKILL)
            kill_next += 1
        if not window or rng.random() < 0.2:
            fresh += 1
            window.append(f"{start_ns}-{fresh}")
        recent = window[-40:]
        command_id = rng.choice(recent if rng.random() < 0.95 else window)
        fresh_number = int(command_id.rsplit("-", 1)[1])
        answer = caller.call(command_id, _MODES[fresh_number % 2], start_ns + fresh_number)
        if answer is None:
            lost += 1
            outcomes["no answer"] += 1
            continue
        kind = {1: "ACCEPTED", 2: "DUPLICATE", 3: "REJECTED", 4: "EXPIRED"}.get(answer.outcome, "?")
        outcomes[kind] += 1
        if answer.outcome == CommandResult.OUTCOME_ACCEPTED:
            accepted.add(command_id)
    acts: Counter[str] = Counter()
    known: set[str] = set()
    logs = [p for p in (line.folder / "state").rglob("audit.jsonl") if "line_state" in str(p)]
    chain = 1.0
    for path in logs:
        try:
            verify(path)
        except AuditError as error:
            chain = 0.0
            print(error)
        for text in path.read_text("utf-8").splitlines():
            entry = json.loads(text)
            if entry["caller"] == "bench":
                known.add(entry["command_id"])
                acts[entry["command_id"]] += entry["outcome"] == "ACCEPTED"
    repeated = sum(n - 1 for n in acts.values() if n > 1)
    silent = len([c for c in accepted if not acts[c]])
    note = ", ".join(f"{v} {k}" for k, v in outcomes.most_common())
    results.add("calls of repeated, reordered, replayed commands", count, "calls", None, "", note)
    results.add("kill -9 of the acting node in between", kill_next, "kills")
    results.add("acts repeated", repeated, "acts", None, "0", f"{len(acts)} commands")
    results.add("acts answered and not in the audit log", silent, "acts", None, "0")
    results.add("audit chain unbroken", chain, "", None, "1")


def heartbeat(results: Results, line: Line, runs: int) -> None:
    """From the last heartbeat of a PLC to `safe_state` as the PLC itself reads it."""

    async def measure() -> list[float]:
        client = AsyncModbusTcpClient("127.0.0.1", port=line.modbus_port)
        await client.connect()
        seen, beat = [], 0
        for _ in track(range(runs), description="heartbeat loss"):
            for _ in range(10):
                beat += 1
                await client.write_registers(0, [0, beat])
                last = time.monotonic()
                await asyncio.sleep(0.05)
            while not (await client.read_input_registers(2, count=1)).registers[0]:
                await asyncio.sleep(0.005)
            seen.append((time.monotonic() - last) * 1e3)
        client.close()
        return seen

    seen = asyncio.run(measure())
    results.add("heartbeat lost to safe state at the PLC, p50", float(np.median(seen)), "ms")
    results.add(
        "heartbeat lost to safe state at the PLC, longest", max(seen), "ms", None, "500 ms",
        f"{runs} losses; timeout 400 ms, cycle 20 ms",
    )  # fmt: skip


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "96")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    results = Results("plc")
    with tempfile.TemporaryDirectory(prefix="bench_plc_") as folder:
        line = Line(Path(folder))
        try:
            caller = Caller()
            caller.wait()
            time.sleep(5.0)  # the rest of the line comes up
            latency(results, line, caller, 4.0 if args.quick else 40.0)
            heartbeat(results, line, 5 if args.quick else 40)
            once(results, line, caller, 2_000 if args.quick else 100_000, 3 if args.quick else 25)
        except BaseException:
            print(Path(line.log.name).read_text()[-3000:])
            raise
        finally:
            line.close()
    results.finish()


if __name__ == "__main__":
    main()

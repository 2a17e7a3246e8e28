"""Commands from a PLC: how fast, and each once whatever happens; a broker that is away.

./run bench plc                          about 25 minutes, 10 of them without a broker
./run bench plc --quick                  about 2 minutes
./run bench plc --only latency repeats   some of its parts
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from asyncua import Client, ua
from plc_broker import outage
from plc_line import MODES, Caller, Line
from plc_repeats import repeats
from pymodbus.client import AsyncModbusTcpClient
from rich.progress import track
from shopfloor_msgs.msg import CommandResult
from table import Results, run

from shopfloor.ros.audit import AuditLog
from shopfloor.ros.commands import Ledger, Order, accepted

RATE_HZ = 50.0
logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it tells of each kill
PARTS = ("latency", "heartbeat", "repeats", "broker")


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
        asked_s = float("-inf")
        while True:
            if time.monotonic() - asked_s > 1.0:  # as a PLC does that gets no answer
                asked_s = time.monotonic()
                await client.write_registers(100, [*words, 0, 0, MODES[number % 2]])
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
                ua.Variant(MODES[number % 2], ua.VariantType.UInt16),
            ]
            return int((await plc.call_method(method, *arguments))[0])

        return await at_rate(count, ask, "OPC UA")


def latency(results: Results, line: Line, caller: Caller, seconds: float) -> None:
    count = int(seconds * RATE_HZ)
    run = time.time_ns()

    async def direct(number: int) -> int:
        return int(caller.call(f"{run}-{number}", MODES[number % 2], wait_s=5.0).outcome)

    baseline, _ = asyncio.run(at_rate(count, direct, "direct"))
    for what, (times, outcomes) in (
        ("Modbus", asyncio.run(modbus_times(line.modbus_port, count))),
        ("OPC UA", asyncio.run(opcua_times(line.opcua_port, count))),
    ):
        done = outcomes[CommandResult.OUTCOME_ACCEPTED]
        note = f"{done} of {count} ACCEPTED at {RATE_HZ:g}/s, vision running at nice {line.nice}"
        for q in (50, 99):
            results.add(
                f"{what}: command to answer p{q}", float(np.percentile(times, q)), "ms",
                float(np.percentile(baseline, q)), "20 ms p99" if q == 99 else "",
                f"{note}; baseline: the service called directly",
            )  # fmt: skip


def disk(results: Results, folder: Path, count: int) -> None:
    """What the ledger and the audit log alone take of a command's time."""
    ledger, audit = Ledger(folder / "alone.sqlite"), AuditLog(folder / "alone.jsonl")
    times: dict[str, list[float]] = {"begin, on disk before it acts": [], "record and finish": []}
    for number in range(count):
        order = Order("bench", "bench", str(number), b"x" * 300)
        asked = time.perf_counter()
        ledger.begin(order, number)
        begun = time.perf_counter()
        audit.append(number, {"text": "x" * 300})
        ledger.finish(order, accepted(number), b"x" * 300)
        done = time.perf_counter()
        times["begin, on disk before it acts"].append((begun - asked) * 1e3)
        times["record and finish"].append((done - begun) * 1e3)
        time.sleep(1 / RATE_HZ)
    for what, seen in times.items():
        for q in (50, 99):
            results.add(f"of it, {what} p{q}", float(np.percentile(seen, q)), "ms")
    ledger.close()
    audit.close()


def heartbeat(results: Results, line: Line, runs: int) -> None:
    """From the last heartbeat of a PLC to `safe_state` as the PLC itself reads it."""

    async def measure() -> list[float]:
        client = AsyncModbusTcpClient("127.0.0.1", port=line.modbus_port)
        await client.connect()
        seen, beat = [], 0
        for _ in track(range(runs + 1), description="heartbeat loss"):
            for _ in range(10):
                beat += 1
                await client.write_registers(0, [0, beat])
                last = time.monotonic()
                await asyncio.sleep(0.05)
            while not (await client.read_input_registers(2, count=1)).registers[0]:
                await asyncio.sleep(0.005)
            seen.append((time.monotonic() - last) * 1e3)
        client.close()
        return seen[1:]  # the first fell into the line's start

    seen = asyncio.run(measure())
    results.add("heartbeat lost to safe state at the PLC, p50", float(np.median(seen)), "ms")
    results.add(
        "heartbeat lost to safe state at the PLC, longest", max(seen), "ms", None, "500 ms",
        f"{runs} losses; timeout 400 ms, cycle 20 ms",
    )  # fmt: skip


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--nice", type=int, default=10, choices=range(20), metavar="N",
                        help="of all but line_state and bridge, see the plant file")  # fmt: skip
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "96")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    results, quick = Results("plc"), args.quick
    with tempfile.TemporaryDirectory(prefix="bench_plc_") as folder:
        caller = Caller()
        if set(args.only) - {"broker"}:
            line = Line(Path(folder), args.nice)
            try:
                caller.wait()
                line.wait()
                time.sleep(5.0)  # the rest of the line comes up
                if "latency" in args.only:
                    latency(results, line, caller, 4.0 if quick else 40.0)
                    disk(results, Path(folder), 100 if quick else 1000)
                if "heartbeat" in args.only:
                    heartbeat(results, line, 5 if quick else 40)
                if "repeats" in args.only:
                    repeats(results, line, caller, 2_000 if quick else 100_000, 4 if quick else 40)
            except KeyboardInterrupt:
                line.close(limit_s=2.0)
                raise
            except Exception:
                print(Path(line.log.name).read_text()[-3000:])
                raise
            finally:
                line.close()
        if "broker" in args.only:
            outage(results, caller, Path(folder), 10.0 if quick else 600.0)
    results.finish()


if __name__ == "__main__":
    run(main)

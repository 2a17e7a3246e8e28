"""plc_bridge against wrong bytes, frames, values and servers: nothing changes, all is counted.

Seeded, so that a failure comes again.
"""

from __future__ import annotations

import contextlib
import math
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from asyncua import Client, ua
from harness import ACTIVE, Graph, statuses
from pymodbus.client import ModbusTcpClient
from shopfloor_msgs.msg import LineState, PlcPicture
from test_plc_bridge import BRIDGE, Bench, run, until_answer

from shopfloor.plc.packml import Command

Type = ua.VariantType
SPEED = {"name": "speed", "type": "float32", "register": 120, "minimum": 0, "maximum": 3}


@pytest.fixture
def bench(graph: Graph) -> Bench:
    return Bench(graph, ["127.0.0.1"], inputs=[SPEED])


def seen(bench: Bench) -> tuple[Any, ...]:
    """What must not change."""
    line: LineState = bench.lines[-1]
    return line.state, line.mode, line.state_since, bench.pictures[-1].safe_state


def counts(bench: Bench) -> dict[str, str]:
    return {v.key: v.value for v in statuses(bench.diagnostics, BRIDGE)["events"].values}


def until_counted(bench: Bench, *events: str) -> None:
    bench.graph.until(lambda: set(events) <= set(counts(bench)), f"{events} in /diagnostics")


def modbus_frames(rng: random.Random) -> Iterator[bytes]:
    """Noise; headers that lie; functions that are none; commands and inputs out of range."""
    for _ in range(40):
        yield rng.randbytes(rng.randrange(1, 400))
    for function in range(256):
        body = rng.randbytes(rng.randrange(0, 12))
        if function not in (6, 16, 22, 23):  # those write: below
            yield struct.pack(">HHHBB", 1, 0, 2 + len(body), 1, function) + body
    for _ in range(60):
        words = [0, rng.randrange(1, 99), rng.choice([0, 256, 65535]), rng.randrange(11, 65536), 0]
        body = struct.pack(">HHB5H", 100, 5, rng.choice([10, 10, 9, 250, 0]), *words)
        lie = rng.choice([0, 0, 0, -4, 3, 60000])
        frame = struct.pack(">HHHBB", 1, 0, 2 + len(body) + lie & 0xFFFF, 1, 16) + body
        yield frame[: rng.choice([len(frame), len(frame), rng.randrange(1, len(frame))])]
    for value in (math.nan, math.inf, -math.inf, -1.0, 3.1, 1e38):
        body = struct.pack(">HHBf", 120, 2, 4, value)
        yield struct.pack(">HHHBB", 1, 0, 2 + len(body), 1, 16) + body


def test_modbus_noise_changes_nothing(bench: Bench) -> None:
    before = seen(bench)

    def attack() -> None:
        for frame in modbus_frames(random.Random(1)):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", bench.modbus_port), 10) as raw,
            ):
                raw.sendall(frame)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(4096):  # until the bridge has done with it
                    pass

    bench.beside(attack)
    until_counted(bench, "modbus frame", "modbus request", "modbus write")
    assert bench.bridge.process.poll() is None and seen(bench) == before
    assert all(map(math.isnan, bench.pictures[-1].inputs))
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()
    client.write_registers(100, [0, 1, 0, Command.RESET, 0])
    until_answer(bench, client, 1)
    bench.until(LineState.STATE_IDLE)
    client.close()


GOOD = [
    ua.Variant("id", Type.String),
    ua.Variant("", Type.String),
    ua.Variant("", Type.String),
    ua.Variant(0, Type.Byte),
    ua.Variant(int(Command.RESET), Type.UInt16),
    ua.Variant(0, Type.UInt16),
]
"""It would act: each call has one of these replaced."""
WRONG: list[tuple[int, ua.Variant]] = [
    (0, ua.Variant("x" * 65, Type.String)),
    (0, ua.Variant(5, Type.Int64)),
    (0, ua.Variant(b"id", Type.ByteString)),
    (0, ua.Variant(["id"], Type.String)),
    (1, ua.Variant("ü" * 33, Type.String)),
    (2, ua.Variant("x" * 255, Type.String)),
    (2, ua.Variant("x" * 1_000_000, Type.String)),
    (3, ua.Variant(256, Type.UInt16)),
    (3, ua.Variant(-1, Type.Int16)),
    (3, ua.Variant(None, Type.Null)),
    (4, ua.Variant(math.nan, Type.Double)),
    (4, ua.Variant(1.0, Type.Double)),
    (4, ua.Variant(True, Type.Boolean)),
    (4, ua.Variant("1", Type.String)),
    (4, ua.Variant(11, Type.UInt16)),
    (4, ua.Variant(2**63, Type.UInt64)),
    (4, ua.Variant([1] * 1000, Type.UInt16)),
    (4, ua.Variant(None, Type.Null)),
    (5, ua.Variant(32, Type.UInt16)),
    (5, ua.Variant([], Type.UInt16)),
]


async def opcua_attack(url: str) -> int:
    """Wrong calls and writes; how many were not refused."""
    taken = 0
    async with Client(url, timeout=20) as client:
        index = await client.get_namespace_index("urn:shopfloor:plc")
        plc = client.get_node(ua.NodeId("plc1", index))
        objects = await client.nodes.objects.get_child([f"{index}:shopfloor", f"{index}:plc1"])
        method = ua.NodeId("plc1.line", index)
        calls = [[*GOOD[:at], wrong, *GOOD[at + 1 :]] for at, wrong in WRONG]
        calls += [GOOD[:-1], [*GOOD, GOOD[-1]], []]
        for arguments in calls:
            try:
                await objects.call_method(method, *arguments)
                taken += 1
            except ua.UaError:
                pass
        for name, value in (
            ("line_state", ua.Variant(6, Type.UInt16)),
            ("safe_state", ua.Variant(True, Type.Boolean)),
            ("nobody", ua.Variant(1, Type.UInt16)),
            ("plc_heartbeat", ua.Variant("beat", Type.String)),
            ("speed", ua.Variant("fast", Type.String)),
            ("speed", ua.Variant([1.0], Type.Double)),
        ):
            try:
                await client.get_node(ua.NodeId(f"plc1.{name}", index)).write_value(value)
                taken += 1
            except ua.UaError:
                pass
        speed = client.get_node(ua.NodeId("plc1.speed", index))
        for number in (math.nan, math.inf, 99.0):  # of the right type: taken, and not believed
            await speed.write_value(ua.Variant(number, Type.Float))
        with contextlib.suppress(ua.UaError):
            await plc.call_method(ua.NodeId("nothing", index))
            taken += 1
    return taken


def test_opcua_noise_changes_nothing(bench: Bench) -> None:
    before = seen(bench)
    rng = random.Random(2)

    def noise() -> None:
        for _ in range(60):
            hello = struct.pack("<4sI", rng.choice([b"HELF", b"OPNF", b"MSGF", b"MSGC"]), 40)
            frame = rng.choice([b"", hello]) + rng.randbytes(rng.randrange(1, 400))
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", bench.opcua_port), 10) as raw,
            ):
                raw.sendall(frame)

    bench.beside(noise)
    url = f"opc.tcp://127.0.0.1:{bench.opcua_port}/shopfloor"
    assert bench.beside(lambda: run(opcua_attack(url))) == 0
    until_counted(bench, "opcua call", "opcua request", "opcua input")
    assert int(counts(bench)["opcua call"]) >= len(WRONG)
    assert bench.bridge.process.poll() is None and seen(bench) == before
    assert all(map(math.isnan, bench.pictures[-1].inputs))


class NoisyPlc:
    """A server that answers whatever it hears with noise."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), peer:
                heard = peer.recv(4096)
                # A right header makes a client look at what follows.
                head = self._rng.choice(
                    [b"", heard[:5], heard[:7], struct.pack("<4sI", b"ACKF", 28)]
                )
                peer.sendall(head + self._rng.randbytes(self._rng.randrange(1, 600)))
                peer.recv(4096)

    def close(self) -> None:
        self._listener.close()


def test_a_plc_that_answers_with_noise_is_not_believed(graph: Graph) -> None:
    pictures = graph.collect("plc_picture", plc="noisy")
    diagnostics = graph.collect("diagnostics")
    modbus, opcua = NoisyPlc(3), NoisyPlc(4)
    mapping = {
        "plc": "noisy",
        "cycle_ms": 20,
        "modbus_client": {"address": "127.0.0.1", "port": modbus.port, "heartbeat": 0},
        "opcua_client": {
            "url": f"opc.tcp://127.0.0.1:{opcua.port}", "heartbeat": "i=99", "anonymous": True,
        },
        "inputs": [{"name": "speed", "type": "float32", "register": 2}],
    }  # fmt: skip
    path = graph.folder / "noisy.yaml"
    path.write_text(yaml.safe_dump(mapping), "utf-8")
    child = graph.start("plc_bridge:plc_bridge", parameters={"mapping": path})

    def counted(event: str) -> int:
        rows = statuses(diagnostics, BRIDGE)["events"].values
        return int({v.key: v.value for v in rows}.get(event, 0))

    graph.until(lambda: counted("modbus client") >= 2, "Modbus tried again")
    graph.until(lambda: counted("opcua client") >= 1, "OPC UA given up for now")
    assert child.process.poll() is None and graph.state(BRIDGE) == ACTIVE
    assert pictures[-1].link in (PlcPicture.LINK_DOWN, PlcPicture.LINK_UNKNOWN)
    assert all(map(math.isnan, pictures[-1].inputs))
    modbus.close()
    opcua.close()

"""plc_bridge as the client of a PLC: real pymodbus and asyncua servers in processes of their own.

The test plays the PLC's program: it reads and writes the server's memory over the same protocol.
"""

from __future__ import annotations

import math
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from asyncua import ua
from asyncua.sync import Client as OpcUaProgram
from harness import ACTIVE, Child, Graph, statuses
from plc_server import NODES, PASSWORD, USER
from pymodbus.client import ModbusTcpClient
from shopfloor_msgs.msg import CommandResult, LineState, PlcPicture

from shopfloor.plc.__main__ import main as plc_command
from shopfloor.plc.packml import Command

BRIDGE = "/plc_bridge"
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "plc" / "plc2.yaml"
SERVER = str(Path(__file__).with_name("plc_server.py"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Plc:
    """A server process, a line state and a bridge; `beat` is what the PLC's program does."""

    def __init__(self, graph: Graph, *server: str) -> None:
        self.graph = graph
        self._server = server
        self.pictures = graph.collect("plc_picture", plc="plc2")
        self.lines = graph.collect("line_state")
        self.diagnostics = graph.collect("diagnostics")
        self.child = self.start()
        self.beat: Callable[[], None] = lambda: None

    def start(self) -> Child:
        child = self.graph.python(SERVER, *self._server)
        child.wait_line("the PLC listens")
        return child

    def bridge(self, mapping: dict[str, Any], name: str = "plc_bridge") -> Child:
        path = self.graph.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(mapping), "utf-8")
        return self.graph.start(f"plc_bridge:{name}", parameters={"mapping": path})

    def until(self, predicate: Callable[[], Any], what: str) -> Any:
        """While the PLC's program runs."""

        def beaten() -> Any:
            self.beat()
            return predicate()

        return self.graph.until(beaten, what)

    def until_link(self, link: int) -> PlcPicture:
        found: PlcPicture = self.until(
            lambda: self.pictures[-1] if self.pictures and self.pictures[-1].link == link else None,
            f"link {link}",
        )
        return found

    def until_line(self, state: int) -> None:
        self.until(lambda: self.lines and self.lines[-1].state == state, f"line state {state}")

    def until_counted(self, text: str, node: str = BRIDGE) -> None:
        self.until(
            lambda: text in "".join(map(str, statuses(self.diagnostics, node).values())),
            f"'{text}' in /diagnostics",
        )

    def silence_brings_the_safe_state(self) -> PlcPicture:
        """With the line in EXECUTE: the PLC's program stops."""
        self.beat = lambda: None
        last: PlcPicture = self.graph.until(
            lambda: self.pictures[-1] if self.pictures[-1].safe_state else None, "safe state"
        )
        assert all(map(math.isnan, last.inputs))
        self.until_line(LineState.STATE_HELD)
        return last


@pytest.fixture
def modbus(graph: Graph) -> tuple[Plc, ModbusTcpClient, int]:
    port = free_port()
    plc = Plc(graph, "modbus", str(port))
    mapping = yaml.safe_load(SHIPPED.read_text("utf-8"))
    mapping["modbus_client"]["port"] = port
    graph.start("line_state:line_state")
    plc.bridge(mapping)
    graph.until_state(BRIDGE, ACTIVE)
    graph.until(lambda: plc.lines and plc.pictures, "line state and picture")
    return plc, program(plc, port), port


def program(plc: Plc, port: int) -> ModbusTcpClient:
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=10)
    assert client.connect()
    count = 0

    def beat() -> None:
        nonlocal count
        count += 1
        client.write_registers(0, [0, count], device_id=1)

    plc.beat = beat
    return client


def read(client: ModbusTcpClient, start: int, count: int) -> list[int]:
    words: list[int] = client.read_holding_registers(start, count=count, device_id=1).registers
    return words


def answered(plc: Plc, client: ModbusTcpClient, number: int, command: int) -> list[int]:
    client.write_registers(200, [0, number, 0, command, 0], device_id=1)
    return list(
        plc.until(
            lambda: words if (words := read(client, 210, 6))[1] == number and words[2] else None,
            f"answer of command {number}",
        )
    )


def test_a_modbus_plc_is_read_written_and_obeyed_once(
    modbus: tuple[Plc, ModbusTcpClient, int],
) -> None:
    plc, client, _ = modbus
    plc.until_link(PlcPicture.LINK_OK)
    client.write_registers(2, [1500, *struct.unpack(">2H", struct.pack(">f", 41.5))], device_id=1)
    plc.until(lambda: list(plc.pictures[-1].inputs) == [1.5, 41.5], "the inputs")
    assert list(plc.pictures[-1].input_names) == ["belt_speed", "hydraulics_celsius"]
    first = read(client, 100, 2)
    plc.until(lambda: read(client, 100, 2) != first, "our heartbeat at the PLC")
    assert answered(plc, client, 7, Command.RESET)[2:5] == [
        CommandResult.OUTCOME_ACCEPTED, CommandResult.OUTCOME_ACCEPTED, CommandResult.REASON_NONE,
    ]  # fmt: skip
    plc.until(lambda: read(client, 103, 1) == [LineState.STATE_IDLE], "line state at the PLC")
    answered(plc, client, 8, Command.START)
    plc.until_line(LineState.STATE_EXECUTE)
    assert answered(plc, client, 7, Command.RESET)[2:4] == [
        CommandResult.OUTCOME_DUPLICATE, CommandResult.OUTCOME_ACCEPTED,
    ]  # fmt: skip
    refused = answered(plc, client, 9, 77)
    assert refused[2] == CommandResult.OUTCOME_REJECTED
    assert refused[4] == CommandResult.REASON_INVALID_ARGUMENT
    nan = struct.unpack(">2H", struct.pack(">f", math.nan))
    client.write_registers(2, [9999, *nan], device_id=1)
    plc.until(lambda: all(map(math.isnan, plc.pictures[-1].inputs)), "inputs that are not known")
    for text in ("packml_command: 77", "belt_speed: 9999", "hydraulics_celsius: nan"):
        plc.until_counted(text)
    assert plc.lines[-1].state == LineState.STATE_EXECUTE
    client.close()


def test_a_modbus_plc_that_is_killed_holds_the_line_and_comes_back(
    modbus: tuple[Plc, ModbusTcpClient, int],
) -> None:
    plc, client, port = modbus
    plc.until_link(PlcPicture.LINK_OK)
    for number, command in enumerate((Command.RESET, Command.START), 1):
        plc.until_line((LineState.STATE_STOPPED, LineState.STATE_IDLE)[number - 1])
        answered(plc, client, number, command)
    plc.until_line(LineState.STATE_EXECUTE)
    plc.child.signal(signal.SIGKILL)
    plc.child.wait()
    client.close()
    plc.silence_brings_the_safe_state()
    plc.until_counted("modbus client")
    plc.child = plc.start()
    client = program(plc, port)
    back = plc.until_link(PlcPicture.LINK_OK)
    assert not back.safe_state and plc.lines[-1].state == LineState.STATE_HELD
    client.close()


def opcua_mapping(port: int, keys: Path, own: Path) -> dict[str, Any]:
    def node(name: str) -> str:
        return f"ns=2;s={name}"

    (own / "password").write_text(PASSWORD + "\n", "utf-8")
    return {
        "plc": "plc2",
        "cycle_ms": 50,
        "opcua_client": {
            "url": f"opc.tcp://127.0.0.1:{port}",
            "heartbeat": node("Beat"),
            "user": USER,
            "password_file": str(own / "password"),
            "certificate": str(own / "server.der"),
            "private_key": str(own / "server.pem"),
            "server_certificate": str(keys / "server.der"),
        },
        "inputs": [
            {"name": "speed", "type": "float64", "node": node("Speed"), "minimum": 0, "maximum": 3}
        ],
        "points": [
            {"name": "beat", "from": "bridge.graph_heartbeat", "type": "uint32",
             "node": node("GraphBeat")},
            {"name": "state", "from": "line_state.state", "type": "uint16",
             "node": node("LineState")},
            {"name": "typo", "from": "line_state.mode", "type": "uint16", "node": node("Nowhere")},
        ],
        "commands": [
            {
                "name": "line",
                "service": "packml_command",
                "fields": [
                    {"field": "packml_command", "type": "uint16", "minimum": 0, "maximum": 10},
                    {"field": "mode", "type": "uint16"},
                ],
                "nodes": {
                    "id": node("Command.Id"),
                    "packml_command": node("Command.Command"),
                    "mode": node("Command.Mode"),
                },
                "answer_nodes": {
                    "id": node("Answer.Id"),
                    "outcome": node("Answer.Outcome"),
                    "reason": node("Answer.Reason"),
                    "state": node("Answer.State"),
                },
            }
        ],
    }  # fmt: skip


def test_an_opcua_plc_is_read_written_obeyed_and_missed(graph: Graph) -> None:
    keys, own = graph.folder / "keys", graph.folder / "own"
    assert plc_command(["certificates", str(keys), "--uri", "urn:test:plc"]) == 0
    assert plc_command(["certificates", str(own)]) == 0
    port = free_port()
    plc = Plc(graph, "opcua", str(port), str(keys))
    mapping = opcua_mapping(port, keys, own)
    graph.start("line_state:line_state")
    plc.bridge(mapping)
    # Another server's certificate and a wrong password: bridges that must not get in.
    for name, key, value in (
        ("believes_another", "server_certificate", str(own / "server.der")),
        ("knows_no_password", "password_file", str(own / "server.der.txt")),
    ):
        (own / "server.der.txt").write_text("wrong\n", "utf-8")
        wrong = {**mapping, "plc": name}
        plc.bridge({**wrong, "opcua_client": {**mapping["opcua_client"], key: value}}, name)
    client = OpcUaProgram(f"opc.tcp://127.0.0.1:{port}", timeout=20)
    client.application_uri = "urn:shopfloor:plc_bridge"
    client.set_user(USER)
    client.set_password(PASSWORD)
    security = f"{own / 'server.der'},{own / 'server.pem'},{keys / 'server.der'}"
    client.set_security_string(f"Basic256Sha256,SignAndEncrypt,{security}")
    client.connect()
    try:
        play_opcua(plc, client)
        plc.until_counted("opcua client", "/believes_another")
        plc.until_counted("opcua client", "/knows_no_password")
    finally:
        client.disconnect()


def play_opcua(plc: Plc, client: Any) -> None:
    beats = 0

    def write(name: str, value: Any) -> None:
        client.get_node(f"ns=2;s={name}").write_value(ua.Variant(value, NODES[name]))

    def value(name: str) -> Any:
        return client.get_node(f"ns=2;s={name}").read_value()

    def beat() -> None:
        nonlocal beats
        beats += 1
        write("Beat", beats)

    def ask(number: int, command: int) -> int:
        write("Command.Command", command)
        write("Command.Id", number)
        plc.until(lambda: value("Answer.Id") == number and value("Answer.Outcome"), "the answer")
        return int(value("Answer.Outcome"))

    plc.beat = beat
    plc.until_link(PlcPicture.LINK_OK)
    write("Speed", 1.25)
    plc.until(lambda: list(plc.pictures[-1].inputs) == [1.25], "the input")
    write("Speed", math.inf)
    plc.until(lambda: math.isnan(plc.pictures[-1].inputs[0]), "an input that is not known")
    plc.until_counted("speed: inf")
    plc.until_counted("writing ns=2;s=Nowhere: Bad")
    assert ask(1, Command.RESET) == CommandResult.OUTCOME_ACCEPTED
    plc.until(lambda: value("LineState") == LineState.STATE_IDLE, "line state at the PLC")
    assert ask(2, 4711) == CommandResult.OUTCOME_REJECTED
    assert ask(3, Command.START) == CommandResult.OUTCOME_ACCEPTED
    plc.until_line(LineState.STATE_EXECUTE)
    plc.silence_brings_the_safe_state()
    plc.beat = beat
    plc.until_link(PlcPicture.LINK_OK)
    # A PLC that hangs: connected, but it answers nothing.
    plc.child.signal(signal.SIGSTOP)
    plc.beat = lambda: None
    plc.graph.until(lambda: plc.pictures[-1].safe_state, "safe state")
    plc.child.signal(signal.SIGCONT)
    plc.beat = beat
    plc.until_link(PlcPicture.LINK_OK)

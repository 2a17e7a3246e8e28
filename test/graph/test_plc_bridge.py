"""plc_bridge with real OPC UA and Modbus clients in another process than the servers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from harness import ACTIVE, Child, Graph, statuses
from pymodbus.client import ModbusTcpClient
from shopfloor_msgs.msg import (
    CommandResult,
    LineState,
    MachineHealth,
    Plan,
    PlcPicture,
    ThermalState,
)

from shopfloor.plc.__main__ import main as plc_command
from shopfloor.plc.packml import Command
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

BRIDGE = "/plc_bridge"
CLIENT_URI = "urn:test:client"
FAULTS = Path(__file__).with_name("faults")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Bench:
    """A line state and a bridge, with the shipped mapping on free ports."""

    def __init__(
        self,
        graph: Graph,
        peers: list[str],
        secure: bool = False,
        inputs: list[dict[str, Any]] | None = None,
        line: dict[str, object] | None = None,
        **parameters: object,
    ) -> None:
        self.graph = graph
        self.pictures = graph.collect("plc_picture", plc="plc1")
        self.lines = graph.collect("line_state")
        self.diagnostics = graph.collect("diagnostics")
        source = Path(__file__).resolve().parents[2] / "config" / "plc" / "plc1.yaml"
        content = yaml.safe_load(source.read_text("utf-8"))
        content["inputs"] = inputs or []
        self.modbus_port, self.opcua_port = free_port(), free_port()
        content["modbus"] = {"address": "127.0.0.1", "port": self.modbus_port, "peers": peers}
        opcua = {"address": "127.0.0.1", "port": self.opcua_port, "anonymous": not secure}
        if secure:
            keys = graph.folder / "keys"
            opcua |= {
                "certificate": str(keys / "server.der"),
                "private_key": str(keys / "server.pem"),
                "users": str(keys / "users.yaml"),
            }
        content["opcua"] = opcua
        self._parameters = parameters
        self.mapping = graph.folder / "plc.yaml"
        self.mapping.write_text(yaml.safe_dump(content), "utf-8")
        graph.start("line_state:line_state", parameters=line)
        self.bridge = self.start()
        graph.until_state(BRIDGE, ACTIVE)
        graph.until(lambda: self.lines and self.pictures, "line state and picture")

    def start(self) -> Child:
        parameters = {"mapping": self.mapping, **self._parameters}
        return self.graph.start("plc_bridge:plc_bridge", parameters=parameters)

    def until(self, state: int) -> LineState:
        found: LineState = self.graph.until(
            lambda: next((s for s in reversed(self.lines) if s.state == state), None),
            f"line state {state}",
        )
        return found

    def beside(self, work: Callable[[], Any]) -> Any:
        """Run a client in a thread while the graph spins."""
        loop_result: list[Any] = []

        import threading

        def run() -> None:
            try:
                loop_result.append((True, work()))
            except BaseException as error:  # handed to the test
                loop_result.append((False, error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.graph.until(lambda: loop_result, "the client")
        good, value = loop_result[0]
        if not good:
            raise value
        return value


@pytest.fixture
def bench(graph: Graph) -> Bench:
    return Bench(graph, ["127.0.0.1"])


def mailbox(client: ModbusTcpClient, number: int, command: int, mode: int = 0) -> Any:
    words = [number >> 16, number & 0xFFFF, 0, command, mode]
    return client.write_registers(100, words)


def until_answer(bench: Bench, client: ModbusTcpClient, number: int) -> list[int]:
    def answered() -> list[int] | None:
        words: list[int] = client.read_input_registers(100, count=6).registers
        return words if words[:2] == [number >> 16, number & 0xFFFF] and words[2] else None

    found: list[int] = bench.graph.until(answered, f"answer of command {number}")
    return found


def test_modbus_sees_the_line_and_commands_it_once(bench: Bench) -> None:
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()
    state = bench.graph.until(
        lambda: client.read_input_registers(3, count=1).registers[0], "the line's state"
    )
    assert state == LineState.STATE_STOPPED
    assert not mailbox(client, 70000, Command.RESET).isError()
    assert until_answer(bench, client, 70000)[2:5] == [
        CommandResult.OUTCOME_ACCEPTED,
        CommandResult.OUTCOME_ACCEPTED,
        CommandResult.REASON_NONE,
    ]
    bench.until(LineState.STATE_IDLE)
    mailbox(client, 70001, Command.START)
    until_answer(bench, client, 70001)
    bench.until(LineState.STATE_EXECUTE)
    # A repeat after the bridge was killed: the mailbox is new, the command is not.
    bench.bridge.signal(signal.SIGKILL)
    bench.bridge.wait()
    client.close()
    bench.pictures.clear()
    bench.start()
    bench.graph.until(lambda: bench.pictures, "the new bridge")
    assert client.connect()
    mailbox(client, 70000, Command.RESET)
    again = until_answer(bench, client, 70000)
    assert again[2:4] == [CommandResult.OUTCOME_DUPLICATE, CommandResult.OUTCOME_ACCEPTED]
    # A bridge that starts beside a running line and hears no heartbeat must not hold it.
    bench.graph.until(lambda: len(bench.pictures) > 12, "cycles beyond the heartbeat's timeout")
    assert bench.lines[-1].state == LineState.STATE_EXECUTE
    client.close()


def test_modbus_refuses_what_is_out_of_range_and_stays(bench: Bench) -> None:
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()
    assert mailbox(client, 1, 77).exception_code == 3
    assert client.write_registers(5000, [1]).exception_code == 2
    assert client.read_input_registers(60000, count=2).exception_code == 2
    with socket.create_connection(("127.0.0.1", bench.modbus_port)) as raw:
        raw.sendall(b"\x00\x01\x00\x00\x00\xff\x01\x63" + bytes(range(256)))
        raw.sendall(bytes(2000))
    assert not mailbox(client, 2, Command.RESET).isError()
    until_answer(bench, client, 2)
    bench.graph.until(
        lambda: any(
            "packml_command: 77 is not allowed; allowed: 0 to 10" in status.message + str(status)
            for status in statuses(bench.diagnostics, BRIDGE).values()
        ),
        "the refusal in /diagnostics",
    )
    client.close()


def test_modbus_lets_only_listed_peers_in(graph: Graph) -> None:
    bench = Bench(graph, ["10.1.2.0/24"])
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port, timeout=2, retries=0)
    client.connect()
    with pytest.raises(Exception, match=r"(?i)modbus|connection"):
        client.read_input_registers(3, count=1)


def test_a_plc_whose_heartbeat_stalls_holds_the_line(bench: Bench) -> None:
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()
    for number, command in enumerate((Command.RESET, Command.START), 1):
        bench.until((LineState.STATE_STOPPED, LineState.STATE_IDLE)[number - 1])
        mailbox(client, number, command)
        until_answer(bench, client, number)
    bench.until(LineState.STATE_EXECUTE)
    beats = 0

    def linked() -> bool:
        nonlocal beats
        beats += 1
        client.write_registers(0, [0, beats])
        return bool(bench.pictures[-1].link == PlcPicture.LINK_OK)

    bench.graph.until(linked, "the PLC's heartbeat")
    assert not bench.pictures[-1].safe_state
    bench.until(LineState.STATE_HELD)  # no more beats
    last = bench.graph.until(
        lambda: bench.pictures[-1] if bench.pictures[-1].safe_state else None, "safe state"
    )
    assert last.link == PlcPicture.LINK_STALLED
    assert bench.lines[-1].stop_text == "plc1 stalled"
    assert bench.graph.until(
        lambda: client.read_input_registers(2, count=1).registers[0] == 1, "safe state at the PLC"
    )
    bench.graph.until(linked, "the PLC again")
    bench.graph.until(lambda: not bench.pictures[-1].safe_state, "safe state's end")
    assert bench.lines[-1].state == LineState.STATE_HELD  # somebody has to look
    client.close()


def test_a_bridge_that_may_not_hold_the_line_says_so(graph: Graph) -> None:
    line: dict[str, object] = {"run_on_activate": True, "allowed_callers": "['hmi:*']"}
    bench = Bench(graph, ["127.0.0.1"], line=line)
    bench.until(LineState.STATE_EXECUTE)
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()
    beats = 0

    def alarmed() -> bool:
        nonlocal beats
        hold = statuses(bench.diagnostics, BRIDGE)["line hold"]
        if bench.pictures[-1].link == PlcPicture.LINK_UNKNOWN:
            beats += 1
            client.write_registers(0, [0, beats])
        return hold.level == b"\x02" and "'plc_bridge' may not call packml_command" in hold.message

    graph.until(alarmed, "the HOLD that was refused in /diagnostics")
    assert bench.lines[-1].state == LineState.STATE_EXECUTE
    client.close()


async def opcua_calls(client: Client, ids: list[str], command: int) -> list[list[Any]]:
    async with client:
        index = await client.get_namespace_index("urn:shopfloor:plc")
        plc = client.get_node(ua.NodeId("plc1.line", index))
        parent = await client.nodes.objects.get_child([f"{index}:shopfloor", f"{index}:plc1"])
        answers = []
        for command_id in ids:
            arguments = [
                ua.Variant(command_id, ua.VariantType.String),
                ua.Variant("", ua.VariantType.String),
                ua.Variant("a test", ua.VariantType.String),
                ua.Variant(0, ua.VariantType.Byte),
                ua.Variant(command, ua.VariantType.UInt16),
                ua.Variant(0, ua.VariantType.UInt16),
            ]
            answers.append(await parent.call_method(plc, *arguments))
        state = client.get_node(ua.NodeId("plc1.line_state", index))
        answers.append([await state.read_value()])
        return answers


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_opcua_commands_once_and_refuses_wrong_arguments(bench: Bench) -> None:
    url = f"opc.tcp://127.0.0.1:{bench.opcua_port}/shopfloor"
    first, again, wrong, state = bench.beside(
        lambda: run(opcua_calls(Client(url), ["a", "a", "b"], Command.RESET))
    )
    assert first[0] == CommandResult.OUTCOME_ACCEPTED
    assert again[:2] == [CommandResult.OUTCOME_DUPLICATE, CommandResult.OUTCOME_ACCEPTED]
    assert wrong[0] == CommandResult.OUTCOME_REJECTED and "does not take RESET" in wrong[3]
    assert state[0] in (LineState.STATE_STOPPED, LineState.STATE_RESETTING, LineState.STATE_IDLE)
    with pytest.raises(ua.UaStatusCodeError, match=r"(?i)argument"):
        bench.beside(lambda: run(opcua_calls(Client(url), ["c"], 4711)))
    assert bench.graph.state(BRIDGE) == ACTIVE


async def secure_client(url: str, keys: Path, password: str) -> Client:
    client = Client(url)
    client.application_uri = CLIENT_URI
    client.set_user("plc1")
    client.set_password(password)
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        certificate=str(keys / "server.der"),
        private_key=str(keys / "server.pem"),
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )
    return client


def test_opcua_is_encrypted_and_asks_for_a_user(graph: Graph) -> None:
    keys, own = graph.folder / "keys", graph.folder / "own"
    assert plc_command(["certificates", str(keys), "--user", "plc1", "--password", "right"]) == 0
    assert plc_command(["certificates", str(own), "--uri", CLIENT_URI]) == 0
    bench = Bench(graph, [], secure=True)
    url = f"opc.tcp://127.0.0.1:{bench.opcua_port}/shopfloor"

    async def attempt(password: str) -> list[list[Any]]:
        return await opcua_calls(await secure_client(url, own, password), ["a"], Command.RESET)

    answer, _ = bench.beside(lambda: run(attempt("right")))
    assert answer[0] == CommandResult.OUTCOME_ACCEPTED
    for broken in (lambda: run(attempt("wrong")), lambda: run(opcua_calls(Client(url), ["b"], 1))):
        with pytest.raises(Exception, match=r"(?i)bad|denied|security|endpoint"):
            bench.beside(broken)
    audit = graph.folder / "state"
    lines = "".join(path.read_text("utf-8") for path in audit.rglob("audit.jsonl"))
    assert '"person":"plc1"' in lines


def test_a_bridge_that_is_held_up_answers_and_does_not_act_late(graph: Graph) -> None:
    fault = graph.folder / "fault"
    graph.environment |= {
        "PYTHONPATH": os.pathsep.join([str(FAULTS), *sys.path]),
        "SHOPFLOOR_TEST_FAULT": str(fault),
    }
    bench = Bench(graph, ["127.0.0.1"], answer_timeout_s=0.2)
    url = f"opc.tcp://127.0.0.1:{bench.opcua_port}/shopfloor"

    def reset(command_id: str) -> list[Any]:
        calls = opcua_calls(Client(url, timeout=20), [command_id], Command.RESET)
        answer: list[Any] = bench.beside(lambda: run(calls))[0]
        return answer

    fault.write_text("wait")
    bench.bridge.signal(signal.SIGUSR1)
    graph.until(fault.with_suffix(".at").exists, "the executor's thread stands still")
    held_up = reset("one")
    assert held_up[:3] == [0, 0, CommandResult.REASON_NOT_READY] and "held up" in held_up[3]
    fault.unlink()

    def answered() -> list[Any] | None:
        answer = reset("one")
        return answer if answer[0] else None

    # ACCEPTED: the first call was dropped. DUPLICATE: it has acted after it was given up.
    assert graph.until(answered, "an answer")[0] == CommandResult.OUTCOME_ACCEPTED


def test_a_taken_port_and_a_wrong_mapping_are_causes(graph: Graph) -> None:
    bench = Bench(graph, ["127.0.0.1"])
    second = graph.start("plc_bridge:second", parameters={"mapping": bench.mapping})
    assert "cannot listen on 127.0.0.1:" in second.wait_line("activate failed")
    assert "AttributeError" not in second.output
    wrong = graph.folder / "wrong.yaml"
    wrong.write_text("plc: plc1\nmodbus: {prt: 1}\n", "utf-8")
    third = graph.start("plc_bridge:third", parameters={"mapping": wrong})
    line = third.wait_line("configure failed")
    assert f"{wrong}:2: modbus.prt: unknown key; did you mean 'port'?" in line


def test_rung_tier_and_plan_reach_the_plc_with_what_is_not_known(graph: Graph) -> None:
    bench = Bench(
        graph, ["127.0.0.1"], hosts="['edge']", machines="['pump_1']", health_silent_s=600.0
    )

    def publisher(kind: Any, key: str, **names: str) -> Any:
        row = interface(key)
        return graph.node.create_publisher(kind, row.resolve(**names), publisher_qos(row.qos))

    thermal = publisher(ThermalState, "thermal_state", host="edge")
    health = publisher(MachineHealth, "machine_health", machine="pump_1")
    plans = publisher(Plan, "plan")
    rungs = [2]
    timer = graph.node.create_timer(
        0.2, lambda: thermal.publish(ThermalState(host="edge", rung=rungs[0]))
    )
    health.publish(MachineHealth(machine_id="pump_1", tier=MachineHealth.TIER_INSPECT))
    plans.publish(Plan(version=70_000))
    client = ModbusTcpClient("127.0.0.1", port=bench.modbus_port)
    assert client.connect()

    def over_modbus() -> list[int]:
        words = client.read_input_registers(12, count=4).registers
        known: list[int] = client.read_input_registers(51, count=3).registers
        return [*words, *known]

    graph.until(lambda: over_modbus() == [2, 3, 1, 4464, 1, 1, 1], "all three over Modbus")

    async def over_opcua() -> list[Any]:
        async with Client(f"opc.tcp://127.0.0.1:{bench.opcua_port}/shopfloor") as opcua:
            index = await opcua.get_namespace_index("urn:shopfloor:plc")
            names = ("rung", "maintenance_tier", "plan_version", "rung_known", "plan_known")
            nodes = [opcua.get_node(ua.NodeId(f"plc1.{name}", index)) for name in names]
            return [await node.read_value() for node in nodes]

    wanted = [2, 3, 70_000, True, True]
    graph.until(lambda: bench.beside(lambda: run(over_opcua())) == wanted, "all over OPC UA")
    graph.until(lambda: bench.pictures[-1].rung == 2, "the rung in the picture")
    picture = bench.pictures[-1]
    assert (picture.maintenance_tier, picture.plan_version) == (3, 70_000)
    timer.cancel()
    graph.node.destroy_publisher(plans)
    graph.until(
        lambda: over_modbus() == [255, 3, 0, 0, 0, 1, 0],
        "a silent watchdog and a gone scheduler are not known",
    )
    graph.until(lambda: bench.pictures[-1].rung == 255, "the same in the picture")
    assert bench.pictures[-1].plan_version == 0
    client.close()

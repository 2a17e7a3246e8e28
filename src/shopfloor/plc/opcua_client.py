"""A PLC that is an OPC UA server: one read and one write a cycle, on the PLC's own nodes.

Basic256Sha256, Sign & Encrypt, user and password, and only the server certificate that the mapping
names, unless that says `anonymous`. Values must have the type of the PLC's node.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from shopfloor.plc.client import CONNECT_S, PlcClient
from shopfloor.plc.mailbox import Mailbox
from shopfloor.plc.mapping import COMMAND_ID, EXPECTED_STATE, OpcUaPlc, PlcMapping
from shopfloor.plc.opcua import VARIANTS
from shopfloor.plc.port import Port
from shopfloor.plc.values import Kind, Value

_ANSWER_KINDS = {
    "id": Kind.UINT32,
    "outcome": Kind.UINT8,
    "first_outcome": Kind.UINT8,
    "reason": Kind.UINT16,
    "state": Kind.UINT8,
}


class OpcUaClient(PlcClient):
    """The client of one PLC."""

    WHAT = "opcua"

    def __init__(self, mapping: PlcMapping, plc: OpcUaPlc, port: Port) -> None:
        """Raises ValueError where a node id is none."""
        super().__init__(mapping, port, [c for c in mapping.commands if c.nodes])
        self._plc = plc
        self._client: Client | None = None
        self._inputs = [i for i in mapping.inputs if i.node]
        self._points = [p for p in mapping.points if p.node]
        read = [plc.heartbeat, *(i.node for i in self._inputs)]
        for box in self.mailboxes:
            read += box.command.nodes.values()
        written = [p.node for p in self._points]
        for box in self.mailboxes:
            written += box.command.answer_nodes.values()
        self._ids = {text: _node_id(text) for text in {*read, *written}}
        self._read = list(dict.fromkeys(read))
        self._password = ""

    async def start(self) -> None:
        """Check the files first. Raises OSError naming the one that cannot be read."""
        plc = self._plc
        if not plc.anonymous:
            lines = Path(plc.password_file).read_text(encoding="utf-8").splitlines()
            self._password = lines[0] if lines else ""
            for file in (plc.certificate, plc.private_key, plc.server_certificate):
                Path(file).read_bytes()
        await super().start()

    async def _open(self) -> None:
        plc = self._plc
        self._client = client = Client(plc.url, timeout=CONNECT_S)
        client.application_uri = plc.application_uri
        if not plc.anonymous:
            client.set_user(plc.user)
            client.set_password(self._password)
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                plc.certificate,
                plc.private_key,
                server_certificate=plc.server_certificate,
                mode=ua.MessageSecurityMode.SignAndEncrypt,
            )
        await client.connect()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                if self._connected:
                    await client.disconnect()
            finally:
                with contextlib.suppress(Exception):
                    client.disconnect_socket()

    async def _exchange(self) -> None:
        assert self._client is not None
        nodes = [self._client.get_node(self._ids[text]) for text in self._read]
        answers = await self._client.read_attributes(nodes, ua.AttributeIds.Value)
        brought = dict(zip(self._read, map(_value, answers), strict=True))
        self._take_heartbeat(brought[self._plc.heartbeat])
        self._take_inputs({i.name: _named(i.node, brought[i.node]) for i in self._inputs})
        for box in self.mailboxes:
            self._take_command(box, brought)
        await self._write()

    def _take_command(self, box: Mailbox, brought: dict[str, Any]) -> None:
        raw = {name: brought[node] for name, node in box.command.nodes.items()}

        def decode() -> tuple[int, dict[str, Value]]:
            state = int(EXPECTED_STATE.check(raw.get("expected_state", 0)))
            return state, {f.name: f.check(raw[f.name]) for f in box.command.fields}

        try:
            command_id = int(COMMAND_ID.check(raw["id"]))
        except ValueError as error:
            self._refuse(f"{box.command.name}.id", f"{box.command.name}: {error}")
            return
        box.stands(command_id, raw, decode, "opcua mailbox")

    async def _write(self) -> None:
        assert self._client is not None
        names: list[str] = []
        nodes: list[Node] = []
        values: list[ua.DataValue] = []

        def add(node: str, kind: Kind, value: Value) -> None:
            names.append(node)
            nodes.append(client.get_node(self._ids[node]))
            # Without stamps: many PLCs refuse a write that brings them.
            values.append(ua.DataValue(ua.Variant(value, VARIANTS[kind])))

        client = self._client
        for point in self._points:
            if point.name in self._picture:
                add(point.node, point.kind, self._picture[point.name])
        for box in self.mailboxes:
            answer = box.answer_values()
            for name, node in box.command.answer_nodes.items():
                add(node, _ANSWER_KINDS[name], answer[name])
        if not nodes:
            return
        results = await client.write_values(nodes, values, raise_on_partial_error=False)
        for node, status in zip(names, results, strict=True):
            if status.is_good():
                self._refusals.pop(node, None)
            else:
                self._refuse(node, f"writing {node}: {status.name}")


def _node_id(text: str) -> ua.NodeId:
    try:
        return ua.NodeId.from_string(text)
    except Exception as error:
        raise ValueError(f"'{text}' is no node id, for example ns=2;s=Line.Beat: {error}") from None


def _value(answer: ua.DataValue) -> Any:
    """The value, or the ValueError that says why there is none."""
    status = answer.StatusCode
    if status is not None and not status.is_good():
        return ValueError(status.name)
    return None if answer.Value is None else answer.Value.Value


def _named(node: str, value: Any) -> Any:
    return ValueError(f"{node}: {value}") if isinstance(value, ValueError) else value

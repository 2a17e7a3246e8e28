"""The picture and the commands over Modbus TCP: input registers out, holding registers in.

Unit id: any. A command is written into its mailbox, id included; the write is answered at once, and
what came of it stands in the input registers of the same number. The same id with the same content
is answered from there and not asked again, so a PLC may write its mailbox every cycle.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from shopfloor.plc.mailbox import Mailbox
from shopfloor.plc.mapping import (
    ANSWER_REGISTERS,
    HEARTBEAT_REGISTERS,
    Modbus,
    PlcMapping,
)
from shopfloor.plc.port import Port
from shopfloor.plc.values import Kind, Value, from_registers, to_registers

_WRITES = (6, 16, 22, 23)
_READS_INPUT = 4
_HEADER = 6
"""Bytes of transaction, protocol (0) and length."""
_SIZES = (2, 254)
"""Bytes that follow the length, at least and at most."""

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusSide:
    """The server. All methods run on its event loop."""

    def __init__(self, mapping: PlcMapping, settings: Modbus, port: Port) -> None:
        """Raises ValueError where a peer is no address."""
        self._mapping = mapping
        self._settings = settings
        self._port = port
        self._peers = [ipaddress.ip_network(peer, strict=False) for peer in settings.peers]
        commands = [c for c in mapping.commands if c.register is not None]
        self._boxes = [Mailbox(command, port, self._show_answers) for command in commands]
        self._items = [i for i in mapping.inputs if i.register is not None]
        read = [(p.register, p.registers) for p in mapping.points]
        read += [(c.register, ANSWER_REGISTERS) for c in commands]
        written = [(c.register, c.registers) for c in commands]
        written += [(i.register, i.registers) for i in self._items]
        self._inputs = [0] * (1 + _end(read))
        self._holding_size = 1 + max(HEARTBEAT_REGISTERS, _end(written))
        self._server: ModbusTcpServer | None = None

    async def start(self) -> None:
        """Listen. Raises OSError naming address and port."""
        registers = [SimData(0, count=self._holding_size, values=0, datatype=DataType.REGISTERS)]
        inputs = [SimData(0, count=len(self._inputs), values=0, datatype=DataType.REGISTERS)]
        bits = [SimData(0, values=False, datatype=DataType.BITS)]
        device = SimDevice(0, simdata=(bits, list(bits), registers, inputs), action=self._on_access)
        settings = self._settings
        self._server = ModbusTcpServer(device, address=(settings.address, settings.port))
        accept = self._server.callback_new_connection
        self._server.callback_new_connection = lambda: self._guard(accept())
        if not await self._server.listen():
            raise OSError(f"Modbus: cannot listen on {settings.address}:{settings.port}")

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            await self._server.shutdown()
            self._server = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return 0 if self._server is None else len(self._server.active_connections)

    def update(self, values: Mapping[str, Value]) -> None:
        """Take over a new picture; a client reads all of one or all of the next."""
        for point in self._mapping.points:
            if point.register is not None:
                words = to_registers(point.kind, values[point.name], point.length)
                self._inputs[point.register : point.register + len(words)] = words

    def _guard(self, handler: Any) -> Any:
        """The connection's handler, closed at once where the peer is not on the list."""
        made = handler.connection_made

        def connection_made(transport: Any) -> None:
            peer = (transport.get_extra_info("peername") or ("", 0))[0]
            if not self._may_connect(peer):
                self._port.refused("modbus peer", f"{peer} is not on the list of peers")
                transport.abort()
                return
            made(transport)

        handler.connection_made = connection_made
        self._count_bad_frames(handler)
        return handler

    def _count_bad_frames(self, handler: Any) -> None:
        """pymodbus would keep what is no frame, and wait for ever for what makes it one."""
        received, send = handler.callback_data, handler.server_send

        def callback_data(data: bytes, addr: Any = None) -> int:
            header = data[:_HEADER]
            whole = len(header) == _HEADER
            if any(header[2:4]) or (whole and not _SIZES[0] <= _size(header) <= _SIZES[1]):
                self._port.refused("modbus frame", f"no Modbus TCP header: {header.hex(' ')}")
                handler.transport.abort()
                return len(data)
            return int(received(data, addr))

        def server_send(pdu: Any, addr: Any) -> None:
            if pdu and pdu.isError():
                asked = pdu.function_code & 0x7F
                what = f"function {asked}: answered with exception {pdu.exception_code}"
                self._port.refused("modbus request", what)
            send(pdu, addr)

        handler.callback_data, handler.server_send = callback_data, server_send

    def _may_connect(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._peers)

    async def _on_access(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if function == _READS_INPUT:
            registers[: len(self._inputs)] = self._inputs
            return None
        if function not in _WRITES or written is None:
            return None
        after = list(registers)
        after[address : address + count] = [int(word) for word in written]
        if address < HEARTBEAT_REGISTERS:
            self._port.heartbeat(int(from_registers(Kind.UINT32, after[:2])))
        try:
            self._take_inputs(range(address, address + count), after)
            self._take_commands(range(address, address + count), after)
        except ValueError as error:
            self._port.refused("modbus write", str(error))
            return ExcCodes.ILLEGAL_VALUE
        return None

    def _take_inputs(self, written: range, after: Sequence[int]) -> None:
        """All of them or, where one is out of range, none. Raises ValueError."""
        taken = {}
        for item in self._items:
            assert item.register is not None
            span = range(item.register, item.register + item.registers)
            if _touch(span, written):
                words = after[span.start : span.stop]
                taken[item.name] = item.take(from_registers(item.field.kind, words))
        if taken:
            self._port.inputs(taken)

    def _take_commands(self, written: range, after: Sequence[int]) -> None:
        for box in self._boxes:
            command = box.command
            assert command.register is not None
            span = range(command.register, command.register + command.registers)
            if _touch(span, written):
                words = list(after[span.start : span.stop])
                command_id = int(from_registers(Kind.UINT32, words[:2]))
                try:
                    # Answered at once and asked beside it: pymodbus mixes up answers that wait.
                    box.offer(command_id, words, partial(command.decode, words))
                except ValueError as error:
                    raise ValueError(f"{command.name}: {error}") from None

    def _show_answers(self) -> None:
        for box in self._boxes:
            answer = box.answer_values()
            words = [*to_registers(Kind.UINT32, answer.pop("id")), *answer.values()]
            assert box.command.register is not None
            self._inputs[box.command.register : box.command.register + len(words)] = words


def _size(header: bytes) -> int:
    return int.from_bytes(header[4:6], "big")


def _end(spans: Sequence[tuple[int | None, int]]) -> int:
    return max((start + count for start, count in spans if start is not None), default=0)


def _touch(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop

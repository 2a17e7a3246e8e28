"""The picture and the commands over Modbus TCP: input registers out, holding registers in.

Unit id: any. A command is written into its mailbox, id included; the write is answered at once, and
what came of it stands in the input registers of the same number. The same id with the same content
is answered from there and not asked again, so a PLC may write its mailbox every cycle.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from shopfloor.plc.mapping import (
    ANSWER_REGISTERS,
    CommandPoint,
    Kind,
    Modbus,
    PlcMapping,
    Value,
    from_registers,
    to_registers,
)
from shopfloor.plc.port import Call, Reply

HEARTBEAT_REGISTERS = 2
"""Holding registers 0 and 1: the PLC's heartbeat counter."""

_WRITES = (6, 16, 22, 23)
_READS_INPUT = 4

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusSide:
    """The server. All methods run on its event loop."""

    def __init__(
        self,
        mapping: PlcMapping,
        settings: Modbus,
        call: Callable[[Call], Awaitable[Reply]],
        heartbeat: Callable[[int], None],
        refused: Callable[[str, str], None],
    ) -> None:
        """Raises ValueError where a peer is no address.

        call: carries a command out. heartbeat: told the PLC's counter. refused(what, why): told of
        what was not taken.
        """
        self._mapping = mapping
        self._settings = settings
        self._call = call
        self._heartbeat = heartbeat
        self._refused = refused
        self._peers = [ipaddress.ip_network(peer, strict=False) for peer in settings.peers]
        commands = [c for c in mapping.commands if c.register is not None]
        self._commands = commands
        points = [p for p in mapping.points if p.register is not None]
        self._inputs = [0] * (
            1
            + max(
                [p.register + p.registers for p in points if p.register is not None]
                + [c.register + ANSWER_REGISTERS for c in commands if c.register is not None]
                + [1]
            )
        )
        self._holding_size = 1 + max(
            [c.register + c.registers for c in commands if c.register is not None]
            + [HEARTBEAT_REGISTERS]
        )
        self._asked: dict[str, list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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
                self._refused("modbus peer", f"{peer} is not on the list of peers")
                transport.abort()
                return
            made(transport)

        handler.connection_made = connection_made
        return handler

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
            self._heartbeat(int(from_registers(Kind.UINT32, after[:2])))
        for command in self._commands:
            assert command.register is not None
            span = range(command.register, command.register + command.registers)
            if span[0] < address + count and address <= span[-1]:
                code = self._on_mailbox(command, after[span[0] : span[-1] + 1])
                if code is not None:
                    return code
        return None

    def _on_mailbox(self, command: CommandPoint, words: Sequence[int]) -> ExcCodes | None:
        """Ask for what the mailbox holds, unless it holds what was asked before."""
        if not any(words[:2]) or self._asked.get(command.name) == list(words):
            return None
        try:
            command_id, state, values = command.decode(words)
        except ValueError as error:
            self._refused("modbus write", f"{command.name}: {error}")
            return ExcCodes.ILLEGAL_VALUE
        # Answered at once and asked beside it: pymodbus mixes up answers that wait.
        self._asked[command.name] = list(words)
        task = asyncio.create_task(self._ask(command, list(words), command_id, state, values))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _ask(
        self,
        command: CommandPoint,
        words: list[int],
        command_id: int,
        state: int,
        values: Mapping[str, Value],
    ) -> None:
        reply = await self._call(Call(command, str(command_id), values, expected_state=state))
        if not reply.settled and self._asked.get(command.name) == words:
            del self._asked[command.name]
        assert command.register is not None
        answer = [*words[:2], reply.outcome, reply.first_outcome, reply.reason, reply.state]
        self._inputs[command.register : command.register + ANSWER_REGISTERS] = answer

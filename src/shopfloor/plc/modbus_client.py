"""A PLC that is a Modbus TCP server: all in its holding registers.

Read each cycle: its heartbeat, the inputs, the mailboxes of commands. Written each cycle, changed
or not, as a PLC may have started anew: the points and the answers. A PLC writes a command's id
last, as a mailbox is read whole in one request, but not in one of the PLC's own cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pymodbus.client import AsyncModbusTcpClient

from shopfloor.plc.client import CONNECT_S, PlcClient
from shopfloor.plc.mailbox import Mailbox
from shopfloor.plc.mapping import (
    HEARTBEAT_REGISTERS,
    READ_LIMIT,
    WRITE_LIMIT,
    ModbusPlc,
    PlcMapping,
)
from shopfloor.plc.port import Port
from shopfloor.plc.values import Kind, from_registers, to_registers


def blocks(registers: Iterable[int], limit: int) -> list[tuple[int, int]]:
    """(start, count) of the fewest requests for these registers and no others.

    A PLC may refuse a read that touches a register which it does not have.
    """
    found: list[tuple[int, int]] = []
    for register in sorted(registers):
        if found and register == found[-1][0] + found[-1][1] and found[-1][1] < limit:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((register, 1))
    return found


class ModbusClient(PlcClient):
    """The client of one PLC."""

    WHAT = "modbus"

    def __init__(self, mapping: PlcMapping, plc: ModbusPlc, port: Port) -> None:
        super().__init__(mapping, port, [c for c in mapping.commands if c.register is not None])
        self._plc = plc
        self._client: AsyncModbusTcpClient | None = None
        self._inputs = [i for i in mapping.inputs if i.register is not None]
        self._points = [p for p in mapping.points if p.register is not None]
        read = {*range(plc.heartbeat, plc.heartbeat + HEARTBEAT_REGISTERS)}
        for item in self._inputs:
            assert item.register is not None
            read.update(range(item.register, item.register + item.registers))
        self._reads = blocks(read, READ_LIMIT)
        # Each mailbox by itself, so that it is never read in two halves.
        for box in self.mailboxes:
            assert box.command.register is not None
            self._reads.append((box.command.register, box.command.registers))

    async def _open(self) -> None:
        plc = self._plc
        self._client = client = AsyncModbusTcpClient(
            plc.address,
            port=plc.port,
            timeout=CONNECT_S,
            retries=0,
            reconnect_delay=0,
        )
        if not await client.connect():
            raise ConnectionError(f"{plc.address}:{plc.port} does not answer")

    async def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _exchange(self) -> None:
        table: dict[int, int] = {}
        for start, count in self._reads:
            words = await self._read(start, count)
            table.update(enumerate(words, start))
        at = self._plc.heartbeat
        self._take_heartbeat(_value(Kind.UINT32, [table[at], table[at + 1]]))
        raw = {}
        for item in self._inputs:
            assert item.register is not None
            words = [table[r] for r in range(item.register, item.register + item.registers)]
            raw[item.name] = _value(item.field.kind, words)
        self._take_inputs(raw)
        for box in self.mailboxes:
            self._take_command(box, table)
        await self._write()

    def _take_command(self, box: Mailbox, table: dict[int, int]) -> None:
        command = box.command
        assert command.register is not None
        words = [table[r] for r in range(command.register, command.register + command.registers)]
        command_id = int(from_registers(Kind.UINT32, words[:2]))
        box.stands(command_id, words, lambda: command.decode(words), "modbus mailbox")

    async def _write(self) -> None:
        table: dict[int, int] = {}
        for point in self._points:
            if point.register is not None and point.name in self._picture:
                words = to_registers(point.kind, self._picture[point.name], point.length)
                table.update(enumerate(words, point.register))
        for box in self.mailboxes:
            assert box.command.answer is not None
            answer = box.answer_values()
            words = to_registers(Kind.UINT32, answer.pop("id"))
            table.update(enumerate([*words, *answer.values()], box.command.answer))
        for start, count in blocks(table, WRITE_LIMIT):
            words = [table[r] for r in range(start, start + count)]
            assert self._client is not None
            response = await self._client.write_registers(start, words, device_id=self._plc.unit)
            _check(response, f"writing registers {start} to {start + count - 1}")

    async def _read(self, start: int, count: int) -> Sequence[int]:
        assert self._client is not None
        response = await self._client.read_holding_registers(
            start, count=count, device_id=self._plc.unit
        )
        what = f"reading registers {start} to {start + count - 1}"
        _check(response, what)
        if len(response.registers) != count:
            raise ConnectionError(f"{what}: {len(response.registers)} came")
        words: Sequence[int] = response.registers
        return words


def _value(kind: Kind, words: Sequence[int]) -> Any:
    """The value, or the ValueError that it is none."""
    try:
        return from_registers(kind, words)
    except ValueError as error:
        return error


def _check(response: Any, what: str) -> None:
    """Raises ConnectionError with the PLC's exception code."""
    if response.isError():
        code = getattr(response, "exception_code", None)
        raise ConnectionError(f"{what}: exception {code}" if code else f"{what}: {response}")

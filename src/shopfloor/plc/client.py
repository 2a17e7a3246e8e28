"""The cycle with a PLC that is the server: connect, exchange, come back after a loss."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from shopfloor.plc.mailbox import Mailbox
from shopfloor.plc.mapping import HEARTBEAT, CommandPoint, PlcMapping
from shopfloor.plc.port import Port
from shopfloor.plc.values import Value

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 5.0
CONNECT_S = 5.0
_EXCHANGE_S = 1.0
_CLOSE_S = 1.0


class PlcClient(ABC):
    """One connection. All methods run on its event loop; nothing a PLC sends ends the cycle."""

    WHAT = ""
    """Protocol, for the log and the counters."""

    def __init__(self, mapping: PlcMapping, port: Port, commands: list[CommandPoint]) -> None:
        self._mapping = mapping
        self._port = port
        self._answered = asyncio.Event()
        self.mailboxes = [Mailbox(c, port, self._answered.set) for c in commands]
        self._picture: Mapping[str, Value] = {}
        self._refusals: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._connected = False

    async def start(self) -> None:
        """Begin to connect; a PLC that is not there is tried again. Raises OSError, ValueError."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def connections(self) -> int:
        """1 while the PLC answers."""
        return int(self._connected)

    def update(self, values: Mapping[str, Value]) -> None:
        """Take over a new picture; the next cycle writes it."""
        self._picture = values

    @abstractmethod
    async def _open(self) -> None:
        """Connect. Whatever it raises is the cause."""

    @abstractmethod
    async def _exchange(self) -> None:
        """Read what the PLC brings, write the picture and the answers."""

    @abstractmethod
    async def _close(self) -> None:
        """Disconnect, from whatever state."""

    async def _run(self) -> None:
        wait_s = BACKOFF_MIN_S
        loop = asyncio.get_running_loop()
        limit_s = max(_EXCHANGE_S, self._mapping.heartbeat_timeout_ms / 1e3)
        try:
            while True:
                try:
                    await asyncio.wait_for(self._open(), CONNECT_S)
                    while True:
                        due = loop.time() + self._mapping.cycle_ms / 1e3
                        await asyncio.wait_for(self._exchange(), limit_s)
                        self._connected, wait_s = True, BACKOFF_MIN_S
                        await self._pause(due - loop.time())
                except Exception as error:  # whatever a PLC or a library makes of bad bytes
                    cause = str(error) or type(error).__name__
                self._connected = False
                self._port.refused(f"{self.WHAT} client", f"{cause}; again in {wait_s:g} s")
                await self._end()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_MAX_S)
        finally:
            self._connected = False
            await self._end()

    async def _pause(self, seconds: float) -> None:
        """Until the next cycle, or until there is an answer to write."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._answered.wait(), seconds)
        else:
            await asyncio.sleep(0)
        self._answered.clear()

    async def _end(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._close(), _CLOSE_S)

    def _take_heartbeat(self, value: Any) -> None:
        try:
            self._port.heartbeat(int(HEARTBEAT.check(value)))
        except ValueError as error:
            self._refuse("heartbeat", str(error))

    def _take_inputs(self, raw: Mapping[str, Any]) -> None:
        """Values as the PLC has them, by name; what does not fit is not known."""
        taken: dict[str, float] = {}
        for item in self._mapping.inputs:
            if item.name in raw:
                try:
                    value = raw[item.name]
                    if isinstance(value, ValueError):
                        raise value
                    taken[item.name] = item.take(value)
                    self._refusals.pop(item.name, None)
                except ValueError as error:
                    taken[item.name] = float("nan")
                    self._refuse(item.name, str(error))
        self._port.inputs(taken)

    def _refuse(self, name: str, why: str) -> None:
        """Count what is wrong when it comes, not in each cycle in which it stands there."""
        if self._refusals.get(name) != why:
            self._refusals[name] = why
            self._port.refused(f"{self.WHAT} {name}", why)

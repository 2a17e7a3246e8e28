"""The servers and clients of both protocols on one event loop, in a thread beside the executor."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Protocol

from shopfloor.plc.mapping import PlcMapping
from shopfloor.plc.modbus import ModbusSide
from shopfloor.plc.modbus_client import ModbusClient
from shopfloor.plc.opcua import OpcUaSide
from shopfloor.plc.opcua_client import OpcUaClient
from shopfloor.plc.port import Port
from shopfloor.plc.values import Value

_START_S = 20.0
_STOP_S = 5.0


class Side(Protocol):
    """A server or a client of one protocol."""

    async def start(self) -> None:
        """Listen, or begin to connect. Raises OSError, ValueError."""

    async def stop(self) -> None:
        """Close every connection."""

    def update(self, values: Mapping[str, Value]) -> Awaitable[None] | None:
        """Take over a new picture."""

    @property
    def connections(self) -> int:
        """How many are open."""


class PlcLinks:
    """Starts what the mapping names; the port's functions are called on the loop's thread."""

    def __init__(self, mapping: PlcMapping, port: Port) -> None:
        """Raises ValueError where a peer is no address or a node id is none."""
        self._sides: list[Side] = []
        self._refused = port.refused
        if mapping.modbus is not None:
            self._sides.append(ModbusSide(mapping, mapping.modbus, port))
        if mapping.opcua is not None:
            self._sides.append(OpcUaSide(mapping, mapping.opcua, port))
        if mapping.modbus_client is not None:
            self._sides.append(ModbusClient(mapping, mapping.modbus_client, port))
        if mapping.opcua_client is not None:
            self._sides.append(OpcUaClient(mapping, mapping.opcua_client, port))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="plc", daemon=True)
        self._running = False

    def start(self) -> None:
        """Listen and connect. Raises OSError, ValueError; then nothing runs any more."""
        self._thread.start()
        self._running = True
        try:
            self._wait(self._start(), _START_S)
        except TimeoutError:
            self.stop()
            raise OSError(f"the PLC links did not start within {_START_S:g} s") from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the connections and the thread; safe to call twice."""
        if not self._running:
            return
        self._running = False
        with contextlib.suppress(Exception):
            self._wait(self._stop(), _STOP_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_S)

    def update(self, values: Mapping[str, Value]) -> None:
        """Give a new picture to all; returns at once."""
        if self._running:
            asyncio.run_coroutine_threadsafe(self._update(values), self.loop)

    @property
    def connections(self) -> int:
        """How many connections there are to PLCs."""
        return sum(side.connections for side in self._sides)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def _wait(self, coroutine: Coroutine[Any, Any, None], limit_s: float) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit_s)

    async def _start(self) -> None:
        for side in self._sides:
            await side.start()

    async def _stop(self) -> None:
        for side in reversed(self._sides):
            with contextlib.suppress(Exception):
                await side.stop()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    async def _update(self, values: Mapping[str, Value]) -> None:
        for side in self._sides:
            try:
                taken = side.update(values)
                if taken is not None:
                    await taken
            except Exception as error:  # one side's trouble must not stop the other's picture
                what = f"{type(side).__name__}: {type(error).__name__}: {error}"
                self._refused("plc picture", what)

"""Both protocol servers on one event loop, in a thread of its own beside the executor."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from shopfloor.plc.mapping import PlcMapping, Value
from shopfloor.plc.modbus import ModbusSide
from shopfloor.plc.opcua import OpcUaSide
from shopfloor.plc.port import Call, Reply

_START_S = 20.0
_STOP_S = 5.0


class PlcServer:
    """Starts what the mapping names. `call`, `heartbeat` and `refused` run on the loop's thread."""

    def __init__(
        self,
        mapping: PlcMapping,
        call: Callable[[Call], Awaitable[Reply]],
        heartbeat: Callable[[int], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._opcua = (
            None
            if mapping.opcua is None
            else OpcUaSide(mapping, mapping.opcua, call, heartbeat, refused)
        )
        self._modbus = (
            None
            if mapping.modbus is None
            else ModbusSide(mapping, mapping.modbus, call, heartbeat, refused)
        )
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="plc", daemon=True)
        self._running = False

    def start(self) -> None:
        """Listen. Raises OSError, ValueError; then nothing runs any more."""
        self._thread.start()
        self._running = True
        try:
            self._wait(self._start(), _START_S)
        except TimeoutError:
            self.stop()
            raise OSError(f"the PLC servers did not start within {_START_S:g} s") from None
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
        """Give a new picture to both; returns at once."""
        if self._running:
            asyncio.run_coroutine_threadsafe(self._update(values), self.loop)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        sides = [side for side in (self._opcua, self._modbus) if side is not None]
        return sum(side.connections for side in sides)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def _wait(self, coroutine: Coroutine[Any, Any, None], limit_s: float) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit_s)

    async def _start(self) -> None:
        for side in (self._modbus, self._opcua):
            if side is not None:
                await side.start()

    async def _stop(self) -> None:
        for side in (self._opcua, self._modbus):
            if side is not None:
                with contextlib.suppress(Exception):
                    await side.stop()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    async def _update(self, values: Mapping[str, Value]) -> None:
        if self._modbus is not None:
            self._modbus.update(values)
        if self._opcua is not None:
            await self._opcua.update(values)

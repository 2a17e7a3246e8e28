"""The links' thread: what one side cannot do stops neither the thread nor the other sides."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any

from shopfloor.plc.links import PlcLinks
from shopfloor.plc.mapping import PlcMapping
from shopfloor.plc.port import Call, Port, Reply
from shopfloor.plc.values import Value

LIMIT_S = 20.0


class Side:
    """Takes over pictures, or fails."""

    connections = 1

    def __init__(self, error: Exception | None = None) -> None:
        self.taken: queue.SimpleQueue[Mapping[str, Value]] = queue.SimpleQueue()
        self._error = error

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def update(self, values: Mapping[str, Value]) -> None:
        if self._error is not None:
            raise self._error
        self.taken.put(values)


def test_a_side_that_fails_is_told_and_the_other_gets_each_picture() -> None:
    told: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    async def nobody(call: Call) -> Reply:
        return Reply()

    port = Port(nobody, lambda beat: None, lambda inputs: None, lambda *what: told.put(what))
    links = PlcLinks(PlcMapping("plc1"), port)
    good = Side()
    sides: Any = links._sides
    sides += [Side(OverflowError("too large")), good]
    links.start()
    try:
        for number in (1, 2):
            links.update({"point": number})
            assert good.taken.get(timeout=LIMIT_S) == {"point": number}
            assert told.get(timeout=LIMIT_S) == (
                "plc picture", "Side: OverflowError: too large",
            )  # fmt: skip
        assert links.connections == 2
    finally:
        links.stop()

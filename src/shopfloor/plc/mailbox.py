"""A command that a PLC writes and leaves standing: asked for once, and answered until the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from shopfloor.plc.mapping import CommandPoint
from shopfloor.plc.port import Call, Port, Reply, refused
from shopfloor.plc.values import Value

Decoded = tuple[int, Mapping[str, Value]]
"""Expected state and fields."""


class Mailbox:
    """What stands in one mailbox, and what came of it. All runs on one event loop."""

    def __init__(self, command: CommandPoint, port: Port, answered: Callable[[], None]) -> None:
        """answered: called when `answer` has changed."""
        self.command = command
        self.answer: tuple[int, Reply] = (0, Reply())
        """Id of the last command and its reply."""
        self._port = port
        self._answered = answered
        self._asked = ""
        self._stands: int | None = None
        self._before = ""
        self._again: Call | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, command_id: int, content: object, decode: Callable[[], Decoded]) -> None:
        """A PLC wrote the whole mailbox at once: ask, unless it is 0 or was asked before.

        content: all of it as it came; decode: checks it. Raises ValueError.
        """
        known = repr(content)
        if command_id and known != self._asked:
            state, values = decode()
            self._begin(known, Call(self.command, str(command_id), values, expected_state=state))

    def stands(
        self, command_id: int, content: object, decode: Callable[[], Decoded], what: str
    ) -> None:
        """What stands in the PLC's own memory, as read in this cycle; `what`: counter of errors.

        A PLC writes the id last. So other content under a known id is the next command, half
        written: it must not act. An error can be told in the answer only.
        """
        if command_id == self._stands:
            if (
                self._again is not None
            ):  # nobody answered: the same as it was, not what is there now
                call, self._again = self._again, None
                self._begin(str(command_id), call)
            return
        known = repr(content)
        if self._stands is None and known != self._before:
            self._before = known  # the first look may fall between the fields and the id
            return
        self._stands, self._again, self._asked = command_id, None, ""
        if not command_id:
            return
        try:
            state, values = decode()
        except ValueError as error:
            self._port.refused(what, f"{self.command.name}: {error}")
            self.answer = (command_id, refused(str(error)))
            return
        call = Call(self.command, str(command_id), values, expected_state=state)
        self._begin(str(command_id), call)

    def answer_values(self) -> dict[str, int]:
        """The answer by the names of ANSWER_FIELDS."""
        command_id, reply = self.answer
        numbers = (reply.outcome, reply.first_outcome, reply.reason, reply.state)
        named: Any = zip(("outcome", "first_outcome", "reason", "state"), numbers, strict=True)
        return {"id": command_id, **{name: int(number) for name, number in named}}

    def _begin(self, known: str, call: Call) -> None:
        """Beside the cycle: a service may take longer than one."""
        self._asked = known
        task = asyncio.create_task(self._ask(known, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, known: str, call: Call) -> None:
        reply = await self._port.call(call)
        if self._asked != known:
            return  # the PLC has gone on to its next command
        if not reply.settled:
            self._asked, self._again = "", call
        self.answer = (int(call.command_id), reply)
        self._answered()

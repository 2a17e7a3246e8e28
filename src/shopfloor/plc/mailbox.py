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
        self._turned_down = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, command_id: int, content: object, decode: Callable[[], Decoded]) -> None:
        """Ask for what stands there, unless it is 0 or was asked before. Raises ValueError.

        content: all of it as it came; decode: checks it.
        """
        known = repr(content)
        if not command_id or known == self._asked:
            return
        state, values = decode()
        self._asked = known
        call = Call(self.command, str(command_id), values, expected_state=state)
        # Beside the cycle: a service may take longer than one.
        task = asyncio.create_task(self._ask(known, command_id, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def offer_or_refuse(
        self, command_id: int, content: object, decode: Callable[[], Decoded], what: str
    ) -> None:
        """The same where an error cannot be told but in the answer; each is counted once."""
        try:
            self.offer(command_id, content, decode)
        except ValueError as error:
            known = repr(content)
            if known != self._turned_down:
                self._turned_down = known
                self._port.refused(what, f"{self.command.name}: {error}")
            self._asked = ""
            self.answer = (command_id, refused(str(error)))

    def answer_values(self) -> dict[str, int]:
        """The answer by the names of ANSWER_FIELDS."""
        command_id, reply = self.answer
        numbers = (reply.outcome, reply.first_outcome, reply.reason, reply.state)
        named: Any = zip(("outcome", "first_outcome", "reason", "state"), numbers, strict=True)
        return {"id": command_id, **{name: int(number) for name, number in named}}

    async def _ask(self, known: str, command_id: int, call: Call) -> None:
        reply = await self._port.call(call)
        if self._asked != known:
            return  # the PLC has gone on to its next command
        if not reply.settled:
            self._asked = ""
        self.answer = (command_id, reply)
        self._answered()

"""The mailbox: what stands there acts once, and what is half written not at all."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from shopfloor.plc.mailbox import Mailbox
from shopfloor.plc.mapping import CommandPoint, Field
from shopfloor.plc.port import Call, Port, Reply, unanswered
from shopfloor.plc.values import Kind
from shopfloor.ros.commands import Outcome, Reason

COMMAND = CommandPoint(
    "line", "packml_command", (Field("packml_command", Kind.UINT16, minimum=0, maximum=10),), 100
)
DONE = Reply(Outcome.ACCEPTED, Outcome.ACCEPTED, Reason.NONE, settled=True)


class Line:
    """A mailbox, and a service that answers with `reply`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refusals: list[str] = []
        self.answers = 0
        self.reply = DONE
        self.gate = asyncio.Event()
        self.gate.set()
        port = Port(self._call, lambda beat: None, lambda inputs: None, self._refused)
        self.box = Mailbox(COMMAND, port, self._answered)

    async def _call(self, call: Call) -> Reply:
        self.calls.append((call.command_id, call.values["packml_command"]))
        await self.gate.wait()
        return self.reply

    def _refused(self, what: str, why: str) -> None:
        self.refusals.append(why)

    def _answered(self) -> None:
        self.answers += 1

    async def cycle(self, command_id: int, command: int) -> None:
        """The PLC's memory as read in one cycle."""
        words = [*struct.unpack(">2H", struct.pack(">I", command_id)), 0, command]
        self.box.stands(command_id, words, lambda: COMMAND.decode(words), "mailbox")
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def scene(play: Callable[[Line], Coroutine[Any, Any, None]]) -> Line:
    async def run() -> Line:
        line = Line()
        await line.cycle(0, 0)
        await line.cycle(0, 0)
        await play(line)
        return line

    return asyncio.run(run())


def test_a_command_that_stands_there_is_asked_once() -> None:
    async def play(line: Line) -> None:
        for _ in range(5):
            await line.cycle(7, 1)

    line = scene(play)
    assert line.calls == [("7", 1)] and line.answers == 1
    assert line.box.answer_values() == {
        "id": 7, "outcome": 1, "first_outcome": 1, "reason": 1, "state": 0,
    }  # fmt: skip


def test_fields_of_the_next_command_under_the_old_id_do_not_act() -> None:
    async def play(line: Line) -> None:
        await line.cycle(7, 77)  # refused: the ledger has never seen 7
        await line.cycle(7, 8)  # ABORT is being written, its id is not there yet
        await line.cycle(7, 2)
        assert line.calls == []
        await line.cycle(8, 2)

    line = scene(play)
    assert line.calls == [("8", 2)] and len(line.refusals) == 1


def test_a_refused_command_is_answered_and_counted_once() -> None:
    async def play(line: Line) -> None:
        for _ in range(3):
            await line.cycle(9, 77)

    line = scene(play)
    assert line.calls == [] and line.refusals == [
        "line: packml_command: 77 is not allowed; allowed: 0 to 10"
    ]
    assert line.box.answer_values()["reason"] == Reason.INVALID_ARGUMENT


def test_what_nobody_answered_is_asked_again_as_it_was() -> None:
    async def play(line: Line) -> None:
        line.reply = unanswered("nobody is there")
        await line.cycle(7, 1)
        await line.cycle(7, 8)  # half of the next: must not go out under 7
        line.reply = DONE
        await line.cycle(7, 8)

    line = scene(play)
    assert set(line.calls) == {("7", 1)} and len(line.calls) >= 2
    assert line.box.answer == (7, DONE)


def test_a_late_answer_does_not_cover_that_of_the_next_command() -> None:
    async def play(line: Line) -> None:
        line.gate.clear()
        await line.cycle(7, 1)
        await line.cycle(8, 2)
        line.gate.set()
        for _ in range(3):
            await line.cycle(8, 2)

    line = scene(play)
    assert line.calls == [("7", 1), ("8", 2)]
    assert line.box.answer[0] == 8 and line.answers == 1


def test_the_first_look_waits_for_a_mailbox_that_rests() -> None:
    async def run() -> Line:
        line = Line()
        await line.cycle(5, 3)
        await line.cycle(5, 4)
        assert line.calls == []
        await line.cycle(5, 4)
        return line

    assert asyncio.run(run()).calls == [("5", 4)]

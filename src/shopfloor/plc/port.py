"""What both protocols hand to the graph: commands, heartbeats, inputs, and what was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from shopfloor.plc.mapping import CommandPoint
from shopfloor.plc.values import Value
from shopfloor.ros.commands import Outcome, Reason


@dataclass(frozen=True)
class Call:
    """A command as the PLC asks for it."""

    command: CommandPoint
    command_id: str
    values: Mapping[str, Value] = field(default_factory=dict)
    person: str = ""
    reason: str = ""
    expected_state: int = 0


@dataclass(frozen=True)
class Reply:
    """The head of the service's answer, with the numbers of CommandResult.

    settled: the service itself has answered; else the same id should be sent again.
    """

    outcome: int = Outcome.UNKNOWN
    first_outcome: int = Outcome.UNKNOWN
    reason: int = Reason.UNKNOWN
    text: str = ""
    state: int = 0
    settled: bool = False


def unanswered(text: str) -> Reply:
    """Nobody answered: whether it acted is not known; the same id may be sent again safely."""
    return Reply(Outcome.UNKNOWN, Outcome.UNKNOWN, Reason.NOT_READY, text)


def refused(text: str) -> Reply:
    """It was not passed on at all: what the PLC asks is out of range or of the wrong type."""
    return Reply(Outcome.REJECTED, Outcome.REJECTED, Reason.INVALID_ARGUMENT, text, settled=True)


@dataclass(frozen=True)
class Port:
    """The graph as a protocol sees it; all are called on the event loop's thread.

    call: carries a command out. heartbeat: told the PLC's counter. inputs: told what the PLC
    brings, by name and scaled. refused(what, why): told of what was not taken.
    """

    call: Callable[[Call], Awaitable[Reply]]
    heartbeat: Callable[[int], None]
    inputs: Callable[[Mapping[str, float]], None]
    refused: Callable[[str, str], None]

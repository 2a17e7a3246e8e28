"""What both protocols hand to the graph: a call of a command, and its reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shopfloor.plc.mapping import CommandPoint, Value
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

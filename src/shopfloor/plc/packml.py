"""PackML's base state model as a table: states, modes, commands, and what leads where. Pure.

States, commands, modes and their numbers: ISA-TR88.00.02-2022 (PackML), base state model. Acting
states (-ING) end by themselves when the unit reports State Complete; wait states end on a command.
Times are nanoseconds of ROS time, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """LineState.STATE_*, PackML's numbers."""

    UNKNOWN = 0
    CLEARING = 1
    STOPPED = 2
    STARTING = 3
    IDLE = 4
    SUSPENDED = 5
    EXECUTE = 6
    STOPPING = 7
    ABORTING = 8
    ABORTED = 9
    HOLDING = 10
    HELD = 11
    UNHOLDING = 12
    SUSPENDING = 13
    UNSUSPENDING = 14
    RESETTING = 15
    COMPLETING = 16
    COMPLETED = 17


class Command(IntEnum):
    """PackMLCommand.COMMAND_*, PackML's numbers."""

    RESET = 1
    START = 2
    STOP = 3
    HOLD = 4
    UNHOLD = 5
    SUSPEND = 6
    UNSUSPEND = 7
    ABORT = 8
    CLEAR = 9
    COMPLETE = 10


class Mode(IntEnum):
    """LineState.MODE_*, PackML's numbers; 4 to 31 are the plant's own."""

    UNKNOWN = 0
    PRODUCTION = 1
    MAINTENANCE = 2
    MANUAL = 3


LAST_MODE = 31

COMPLETES_TO: dict[State, State] = {
    State.CLEARING: State.STOPPED,
    State.STARTING: State.EXECUTE,
    State.STOPPING: State.STOPPED,
    State.ABORTING: State.ABORTED,
    State.HOLDING: State.HELD,
    State.UNHOLDING: State.EXECUTE,
    State.SUSPENDING: State.SUSPENDED,
    State.UNSUSPENDING: State.EXECUTE,
    State.RESETTING: State.IDLE,
    State.COMPLETING: State.COMPLETED,
}
"""Acting states, and where State Complete leads. EXECUTE completes by the COMPLETE command here:
a line that inspects parts has no last part of its own."""

WAITING = frozenset(State) - COMPLETES_TO.keys() - {State.UNKNOWN, State.EXECUTE}

_ABORTABLE = frozenset(State) - {State.UNKNOWN, State.ABORTING, State.ABORTED}
_STOPPABLE = _ABORTABLE - {State.CLEARING, State.STOPPED, State.STOPPING}

TRANSITIONS: dict[tuple[State, Command], State] = {
    (State.STOPPED, Command.RESET): State.RESETTING,
    (State.COMPLETED, Command.RESET): State.RESETTING,
    (State.IDLE, Command.START): State.STARTING,
    (State.EXECUTE, Command.HOLD): State.HOLDING,
    (State.SUSPENDED, Command.HOLD): State.HOLDING,
    (State.HELD, Command.UNHOLD): State.UNHOLDING,
    (State.EXECUTE, Command.SUSPEND): State.SUSPENDING,
    (State.SUSPENDED, Command.UNSUSPEND): State.UNSUSPENDING,
    (State.EXECUTE, Command.COMPLETE): State.COMPLETING,
    (State.HELD, Command.COMPLETE): State.COMPLETING,
    (State.SUSPENDED, Command.COMPLETE): State.COMPLETING,
    (State.ABORTED, Command.CLEAR): State.CLEARING,
    **{(state, Command.STOP): State.STOPPING for state in _STOPPABLE},
    **{(state, Command.ABORT): State.ABORTING for state in _ABORTABLE},
}

MODE_CHANGES_IN = frozenset({State.STOPPED, State.IDLE, State.ABORTED, State.COMPLETED})
"""The states in which the mode may change: at rest, so that nothing changes under a running part.
PackML leaves the choice to the machine builder."""


class TransitionError(ValueError):
    """A command or mode that the present state does not take; the message names what it does."""


@dataclass(frozen=True)
class Cause:
    """Why a line stopped: number of the plant's list, words, and who or what caused it."""

    number: int = 0
    text: str = ""
    source: str = ""


@dataclass(frozen=True)
class Change:
    """One step of the state machine."""

    at_ns: int
    before: State
    after: State
    mode: int
    cause: Cause


_NO_CAUSE = Cause()
_STOPS = frozenset({State.STOPPING, State.ABORTING, State.HOLDING, State.SUSPENDING})


class Unit:
    """The state machine of one unit. Starts STOPPED, in production mode."""

    def __init__(self, now_ns: int) -> None:
        self.state = State.STOPPED
        self.mode: int = Mode.PRODUCTION
        self.since_ns = now_ns
        self.cause = Cause()
        """Of the present stop; empty while the unit runs."""

    def allowed(self) -> list[Command]:
        """Commands that the present state takes."""
        return [command for command in Command if (self.state, command) in TRANSITIONS]

    def command(self, command: int, now_ns: int, cause: Cause = _NO_CAUSE) -> Change:
        """Carry out a command. Raises TransitionError; then nothing has changed."""
        try:
            wanted = Command(command)
        except ValueError:
            names = ", ".join(f"{c.value} {c.name}" for c in Command)
            raise TransitionError(f"command {command}; allowed: {names}") from None
        after = TRANSITIONS.get((self.state, wanted))
        if after is None:
            takes = ", ".join(c.name for c in self.allowed()) or "no command"
            raise TransitionError(f"{self.state.name} does not take {wanted.name}; takes: {takes}")
        return self._enter(after, now_ns, cause)

    def complete(self, now_ns: int) -> Change | None:
        """State Complete: leave an acting state; None where the state is none."""
        after = COMPLETES_TO.get(self.state)
        return None if after is None else self._enter(after, now_ns, self.cause)

    def change_mode(self, mode: int, now_ns: int) -> Change:
        """Change the mode. Raises TransitionError; then nothing has changed."""
        if not Mode.PRODUCTION <= mode <= LAST_MODE:
            raise TransitionError(f"mode {mode}; allowed: 1 to {LAST_MODE}")
        if self.state not in MODE_CHANGES_IN:
            names = ", ".join(sorted(state.name for state in MODE_CHANGES_IN))
            raise TransitionError(f"the mode cannot change in {self.state.name}; only in {names}")
        self.mode = mode
        return Change(now_ns, self.state, self.state, mode, self.cause)

    def _enter(self, after: State, now_ns: int, cause: Cause) -> Change:
        before, self.state, self.since_ns = self.state, after, now_ns
        if after in _STOPS:
            self.cause = cause
        elif after in (State.IDLE, State.EXECUTE):
            self.cause = Cause()
        return Change(now_ns, before, after, self.mode, self.cause)

"""Commands that act once: whatever is repeated, delayed, reordered or replayed. Needs no ROS.

A caller marks each command with an id of its own. The ledger answers a known id with the first
result, refuses what comes too late or with other content, and is written before anything acts, so
that a crash between the act and its record is told as IN_DOUBT instead of being done again.

    answer = ledger.begin(order, now_ns, state)
    if answer is None:                       # new: carry it out, then
        answer = ledger.finish(order, Answer(...), response)
"""

from __future__ import annotations

import fnmatch
import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param

REMEMBERED_PER_CALLER = 10_000
CLOCK_TOLERANCE_NS = 2_000_000_000
"""How far in the future a command may have been issued: clocks of hosts differ a little."""

_SERIALS = 1 << 32
_BUSY_FILE_S = 0.2
_TIDY_AFTER = 250
_TIDY_PAGES = 10_000
"""Where nobody tidies up, SQLite does at a commit once its log has so many pages, 40 MB."""


class Outcome(IntEnum):
    """CommandResult.OUTCOME_*."""

    UNKNOWN = 0
    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3
    EXPIRED = 4


class Reason(IntEnum):
    """CommandResult.REASON_*."""

    UNKNOWN = 0
    NONE = 1
    NOT_ALLOWED = 2
    STATE_MISMATCH = 3
    INVALID_TRANSITION = 4
    INVALID_ARGUMENT = 5
    UNKNOWN_TARGET = 6
    DEADLINE_PASSED = 7
    ID_MISSING = 8
    ID_REUSED = 9
    BUSY = 10
    NOT_READY = 11
    VERSION_MISMATCH = 12
    NEEDS_APPROVAL = 13
    INTERLOCK = 14
    EFFECT_FAILED = 15
    IN_DOUBT = 16
    LEDGER_FULL = 17
    CLOCK = 18
    FAULT = 19


TRANSIENT = frozenset({Reason.BUSY, Reason.NOT_READY})
"""Nothing was done and it may work later: the same id may ask again."""


class Refused(Exception):
    """Raised by what carries a command out: it was not done, and why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Order:
    """A command as it came.

    service: interface key of the acting service. content: all that is asked, as canonical bytes; a
    repeat must bring the same. issued_ns, deadline_ns: ROS time, 0: none. expected_state: 0: any.
    """

    service: str
    caller: str
    command_id: str
    content: bytes = b""
    person: str = ""
    reason: str = ""
    issued_ns: int = 0
    deadline_ns: int = 0
    expected_state: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over service and content."""
        return hashlib.sha256(self.service.encode() + b"\0" + self.content).hexdigest()


@dataclass(frozen=True)
class Answer:
    """The head of every answer; `response` holds the whole first answer of the service."""

    outcome: Outcome
    first_outcome: Outcome
    reason: Reason = Reason.NONE
    text: str = ""
    state: int = 0
    acted_ns: int = 0
    response: bytes = b""


def accepted(acted_ns: int, state: int = 0, text: str = "") -> Answer:
    """It acted."""
    return Answer(Outcome.ACCEPTED, Outcome.ACCEPTED, Reason.NONE, text, state, acted_ns)


def rejected(reason: Reason, text: str, state: int = 0) -> Answer:
    """It did not act."""
    return Answer(Outcome.REJECTED, Outcome.REJECTED, reason, text, state)


def expired(text: str, state: int = 0) -> Answer:
    """It came too late."""
    return Answer(Outcome.EXPIRED, Outcome.EXPIRED, Reason.DEADLINE_PASSED, text, state)


class AllowList:
    """Who may call what: patterns `CALLER:SERVICE` with `*` and `?`, for example `hmi*:*`."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ValueError naming the pattern that is none."""
        for pattern in patterns:
            if pattern.count(":") != 1 or not all(pattern.split(":")):
                raise ValueError(f"'{pattern}' is not CALLER:SERVICE, for example plc1:override")
        self._patterns = tuple(patterns)

    def allows(self, order: Order) -> bool:
        """Whether a pattern fits."""
        asked = f"{order.caller}:{order.service}"
        return any(fnmatch.fnmatchcase(asked, pattern) for pattern in self._patterns)


@dataclass(frozen=True)
class CommandParameters(BaseParameters):
    """What every node that takes commands has."""

    allowed_callers: tuple[str, ...] = param(
        ("*:*",),
        "Who may command what, as CALLER:SERVICE with * and ?, for example plc1:set_rung. "
        "Services by their key in docs/interfaces.md.",
    )

    def problems(self) -> list[ParameterProblem]:
        """A pattern that is none."""
        try:
            AllowList(self.allowed_callers)
        except ValueError as error:
            return [ParameterProblem("allowed_callers", str(error))]
        return []


_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    caller TEXT NOT NULL, command_id TEXT NOT NULL, digest TEXT NOT NULL,
    issued_ns INTEGER NOT NULL, begun_ns INTEGER NOT NULL,
    outcome INTEGER, reason INTEGER, text TEXT, state INTEGER, acted_ns INTEGER, response BLOB,
    UNIQUE (caller, command_id)
);
CREATE TABLE IF NOT EXISTS forgotten (
    caller TEXT PRIMARY KEY, issued_ns INTEGER NOT NULL, serial INTEGER
);
"""


class Ledger:
    """The commands of one node, on disk (`path`) or, without one, in memory.

    `begin` reaches the disk before it returns; `finish` survives the end of the process at once,
    and a power cut soon after. What was begun and not finished when the ledger is opened is in
    doubt. Not for several threads at once, nor for two processes: the second gets an OSError.
    """

    def __init__(
        self,
        path: Path | None = None,
        allow: AllowList | None = None,
        per_caller: int = REMEMBERED_PER_CALLER,
    ) -> None:
        self._allow = allow or AllowList(("*:*",))
        self._per_caller = per_caller
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._untidy = 0
        self._open(path)
        self.in_doubt: frozenset[tuple[str, str]] = frozenset(
            self._db.execute("SELECT caller, command_id FROM commands WHERE outcome IS NULL")
        )
        """(caller, command_id) of those that a crash left without a result since the last start."""
        self._db.execute(
            "UPDATE commands SET outcome=?, reason=? WHERE outcome IS NULL",
            (int(Outcome.UNKNOWN), int(Reason.IN_DOUBT)),
        )
        self._counts: dict[str, int] = dict(
            self._db.execute("SELECT caller, count(*) FROM commands GROUP BY caller")
        )

    def _open(self, path: Path | None) -> None:
        self._db = sqlite3.connect(
            str(path or ":memory:"), isolation_level=None, timeout=_BUSY_FILE_S
        )
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={_TIDY_PAGES}")
            self._db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            self._db.close()
            raise OSError(f"command ledger {path}: {error}; does this node run twice?") from None
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise OSError(
                f"command ledger {path} is damaged ({error}); move it away, and mind that repeats "
                "of earlier commands will then act"
            ) from None

    def begin(self, order: Order, now_ns: int, state: int = 0) -> Answer | None:
        """None where the order is new and is to be carried out now; else its answer.

        state: the target's present state, compared with `expected_state` and put into the answer.
        Raises OSError where the ledger cannot be written: then nothing may act.
        """
        if not order.caller or not order.command_id:
            return rejected(Reason.ID_MISSING, "command_id and caller must not be empty", state)
        if not self._allow.allows(order):
            text = f"'{order.caller}' may not call {order.service}"
            return rejected(Reason.NOT_ALLOWED, text, state)
        known = self._known(order)
        if known is not None:
            return known
        refusal = self._check(order, now_ns, state)
        try:
            self._write_begin(order, now_ns)
        except sqlite3.Error as error:
            raise OSError(f"command ledger: {error}") from None
        return None if refusal is None else self.finish(order, refusal)

    def finish(self, order: Order, answer: Answer, response: bytes = b"") -> Answer:
        """Record what came of an order that `begin` let through; returns the answer with it."""
        answer = replace(answer, response=response)
        key = (order.caller, order.command_id)
        if answer.reason in TRANSIENT:
            self._db.execute("DELETE FROM commands WHERE caller=? AND command_id=?", key)
            self._counts[order.caller] -= 1
            return answer
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "UPDATE commands SET outcome=?, reason=?, text=?, state=?, acted_ns=?, response=? "
            "WHERE caller=? AND command_id=?",
            (*map(int, (answer.outcome, answer.reason)), answer.text, answer.state,
             answer.acted_ns, response, *key),
        )  # fmt: skip
        return answer

    def tidy(self) -> None:
        """Move what was logged into the file, now and then: when no caller waits for an answer.

        It takes two writes to the disk, which a commit would otherwise pay. Raises OSError.
        """
        if self._untidy < _TIDY_AFTER:
            return
        self._untidy = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise OSError(f"command ledger: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._untidy = 0
        self._db.close()

    def _known(self, order: Order) -> Answer | None:
        row = self._db.execute(
            "SELECT digest, outcome, reason, text, state, acted_ns, response FROM commands "
            "WHERE caller=? AND command_id=?",
            (order.caller, order.command_id),
        ).fetchone()
        if row is None:
            return None
        digest, outcome, reason, text, state, acted_ns, response = row
        if digest != order.digest:
            text = f"'{order.command_id}' of '{order.caller}' came before with other content"
            return rejected(Reason.ID_REUSED, text)
        if outcome is None:
            return rejected(Reason.BUSY, "it is being carried out")
        if outcome == Outcome.UNKNOWN:
            text = "it was begun before a crash and may have acted; it is not repeated"
            return rejected(Reason.IN_DOUBT, text)
        first = Outcome(outcome)
        return Answer(Outcome.DUPLICATE, first, Reason(reason), text, state, acted_ns, response)

    def _check(self, order: Order, now_ns: int, state: int) -> Answer | None:
        if order.issued_ns > now_ns + CLOCK_TOLERANCE_NS:
            ahead_s = (order.issued_ns - now_ns) / 1e9
            return rejected(Reason.CLOCK, f"issued {ahead_s:.1f} s in the future", state)
        if order.deadline_ns and now_ns > order.deadline_ns:
            late_s = (now_ns - order.deadline_ns) / 1e9
            return expired(f"came {late_s:.3f} s after its deadline", state)
        if self._forgotten(order):
            return expired("older than what is remembered: it may have acted before", state)
        if order.expected_state not in (0, state):
            text = f"the state is {state}, not {order.expected_state}"
            return rejected(Reason.STATE_MISMATCH, text, state)
        return None

    def _forgotten(self, order: Order) -> bool:
        """Whether the order may be a late repeat of one that is no longer remembered."""
        row = self._db.execute(
            "SELECT issued_ns, serial FROM forgotten WHERE caller=?", (order.caller,)
        ).fetchone()
        if row is None:
            return False
        issued_ns, serial = row
        if order.issued_ns:
            return bool(order.issued_ns <= issued_ns)
        return not _is_later(_serial(order.command_id), serial)

    def _write_begin(self, order: Order, now_ns: int) -> None:
        self._db.execute("PRAGMA synchronous=FULL")
        # Rolls back where a statement fails.
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            full = self._counts.get(order.caller, 0) >= self._per_caller
            if full:
                self._forget_oldest(order.caller)
            self._db.execute(
                "INSERT INTO commands (caller, command_id, digest, issued_ns, begun_ns) "
                "VALUES (?, ?, ?, ?, ?)",
                (order.caller, order.command_id, order.digest, order.issued_ns, now_ns),
            )
        self._counts[order.caller] = self._counts.get(order.caller, 0) + (not full)
        self._untidy += 1

    def _forget_oldest(self, caller: str) -> None:
        """The oldest command goes, and what it tells about later repeats stays."""
        seq, command_id, issued_ns = self._db.execute(
            "SELECT seq, command_id, issued_ns FROM commands WHERE caller=? ORDER BY seq LIMIT 1",
            (caller,),
        ).fetchone()
        self._db.execute("DELETE FROM commands WHERE seq=?", (seq,))
        serial = _serial(command_id)
        before = self._db.execute(
            "SELECT issued_ns, serial FROM forgotten WHERE caller=?", (caller,)
        ).fetchone()
        if before is not None:
            issued_ns = max(issued_ns, before[0])
            serial = serial if _is_later(serial, before[1]) and serial is not None else before[1]
        self._db.execute(
            "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", (caller, issued_ns, serial)
        )


def _serial(command_id: str) -> int | None:
    """The number of an id that is a counter."""
    return int(command_id) % _SERIALS if command_id.isdecimal() else None


def _is_later(serial: int | None, mark: int | None) -> bool:
    """Whether a counter is past `mark`; RFC 1982, as counters of PLCs wrap. Unknown is later."""
    if serial is None or mark is None:
        return True
    return 0 < (serial - mark) % _SERIALS < _SERIALS // 2

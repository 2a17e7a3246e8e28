"""The journal: what was accepted, planned, dispatched and done, before it acts. SQLite, WAL.

One transaction writes what changed and the event that says so: after a crash either all of it is
there or nothing. Repeated commands are the business of `shopfloor.ros.commands`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE event (
  sequence INTEGER PRIMARY KEY, stamp_ns INTEGER NOT NULL, kind INTEGER NOT NULL,
  machine_id TEXT NOT NULL, job_id TEXT NOT NULL, operation_id TEXT NOT NULL,
  plan_version INTEGER NOT NULL, command_id TEXT NOT NULL, caller TEXT NOT NULL,
  text TEXT NOT NULL);
CREATE TABLE item (kind TEXT NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL,
  PRIMARY KEY (kind, id)) WITHOUT ROWID;
"""


class EventKind(IntEnum):
    """Numbers of PlanEvent.KIND_*."""

    MACHINE_STATE = 1
    DEFECT_STOP = 2
    THERMAL_DERATE = 3
    MAINTENANCE = 4
    JOB_ADDED = 5
    JOB_HELD = 6
    JOB_RESUMED = 7
    PINNED = 8
    UNPINNED = 9
    PLAN_MADE = 10
    PLAN_COMMITTED = 11
    PLAN_ROLLED_BACK = 12
    PLAN_REJECTED = 13
    APPROVAL_NEEDED = 14
    DISPATCHED = 15
    DONE = 16
    FAILED = 17
    IN_DOUBT = 18


@dataclass(frozen=True)
class Event:
    """Something that happened; `sequence` counts up without gaps."""

    kind: EventKind
    stamp_ns: int
    text: str
    machine_id: str = ""
    job_id: str = ""
    operation_id: str = ""
    plan_version: int = 0
    command_id: str = ""
    caller: str = ""
    sequence: int = 0


class JournalError(RuntimeError):
    """The file cannot be used; the message names it."""


class Transaction:
    """What one step writes; see Journal.transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.events: list[Event] = []

    def put(self, kind: str, item_id: str, content: str) -> None:
        """Store or replace one item."""
        self._db.execute(
            "INSERT INTO item VALUES (?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET content = excluded.content",
            (kind, item_id, content),
        )

    def remove(self, kind: str, item_id: str) -> None:
        """Forget one item."""
        self._db.execute("DELETE FROM item WHERE kind = ? AND id = ?", (kind, item_id))

    def event(self, event: Event) -> Event:
        """Append an event; returns it with its sequence."""
        cursor = self._db.execute(
            "INSERT INTO event (stamp_ns, kind, machine_id, job_id, operation_id, plan_version, "
            "command_id, caller, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (event.stamp_ns, int(event.kind), event.machine_id, event.job_id, event.operation_id,
             event.plan_version, event.command_id, event.caller, event.text),
        )  # fmt: skip
        numbered = replace(event, sequence=int(cursor.lastrowid or 0))
        self.events.append(numbered)
        return numbered


class Journal:
    """One file, one writer.

    step: called with a name at every point at which a crash leaves another trace; for tests.
    synchronous: FULL survives a power cut, NORMAL a crash of the process.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: str = "FULL",
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.path = path
        self._step = step
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._claim = _claim(path)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"journal {path}: {error}") from error

    def _open(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise JournalError(
                f"journal {self.path}: has version {version}, this program reads {SCHEMA_VERSION}"
            )
        self._db.execute("BEGIN IMMEDIATE")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        os.close(self._claim)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing; on disk when the block has ended without an error."""
        with self._lock:
            self._step("begin")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db)
                yield transaction
                self._step("written")
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._step("committed")

    def items(self, kind: str) -> dict[str, str]:
        """Every item of a kind."""
        with self._lock:
            rows = self._db.execute("SELECT id, content FROM item WHERE kind = ?", (kind,))
            return dict(rows.fetchall())

    def item(self, kind: str, item_id: str) -> str | None:
        """One item, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT content FROM item WHERE kind = ? AND id = ?", (kind, item_id)
            ).fetchone()
            return None if row is None else str(row[0])

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with a sequence above `after`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT kind, stamp_ns, text, machine_id, job_id, operation_id, plan_version, "
                "command_id, caller, sequence FROM event WHERE sequence > ? "
                "ORDER BY sequence LIMIT ?",
                (after, limit),
            )
            return [Event(EventKind(row[0]), *row[1:]) for row in rows.fetchall()]


def _claim(path: Path) -> int:
    """A lock that makes this the only writer; readers need none."""
    fd = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JournalError(f"journal {path}: another scheduler writes it") from None
    return fd

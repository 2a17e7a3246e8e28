"""What is on its way to a broker: on disk, in order, bounded. Needs no ROS.

A row goes when the broker has acknowledged it. Where the bound is reached the oldest rows go, and
are counted: the newest state of a line is worth more than its past.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL, payload BLOB NOT NULL, retain INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_ROW_OVERHEAD_BYTES = 64


@dataclass(frozen=True)
class Parcel:
    """One message for the broker; numbers only ever go up, also over restarts."""

    number: int
    topic: str
    payload: bytes
    retain: bool


class Outbox:
    """One file for one process; safe for several threads."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises OSError where the file cannot be used."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0.2
            )
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"outbox {path}: {error}") from None
        self._sizes: dict[int, int] = {
            number: size + _ROW_OVERHEAD_BYTES
            for number, size in self._db.execute("SELECT number, length(payload) FROM outbox")
        }
        self._bytes = sum(self._sizes.values())
        found = self._db.execute("SELECT value FROM counters WHERE name='dropped'").fetchone()
        self.dropped = found[0] if found else 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def stored_bytes(self) -> int:
        """What the waiting rows take, about."""
        return self._bytes

    def put(self, topic: str, payload: bytes, retain: bool = False) -> int:
        """Keep a message; returns its number. Raises OSError where the disk does not take it."""
        size = len(payload) + _ROW_OVERHEAD_BYTES
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    gone = self._make_room(size)
                    cursor = self._db.execute(
                        "INSERT INTO outbox (topic, payload, retain) VALUES (?, ?, ?)",
                        (topic, payload, retain),
                    )
            except sqlite3.Error as error:
                raise OSError(f"outbox: {error}") from None
            for number in gone:
                self._bytes -= self._sizes.pop(number)
            self.dropped += len(gone)
            number = int(cursor.lastrowid or 0)
            self._sizes[number] = size
            self._bytes += size
            return number

    def after(self, number: int, limit: int) -> list[Parcel]:
        """The oldest waiting messages with a higher number."""
        with self._lock:
            rows = self._db.execute(
                "SELECT number, topic, payload, retain FROM outbox WHERE number > ? "
                "ORDER BY number LIMIT ?",
                (number, limit),
            ).fetchall()
        return [
            Parcel(n, topic, bytes(payload), bool(retain)) for n, topic, payload, retain in rows
        ]

    def done(self, number: int) -> None:
        """The broker has it."""
        with self._lock:
            self._db.execute("DELETE FROM outbox WHERE number=?", (number,))
            self._bytes -= self._sizes.pop(number, 0)

    def close(self) -> None:
        """Close the file; what waits is there at the next start."""
        with self._lock:
            self._db.close()

    def _make_room(self, size: int) -> list[int]:
        """Rows that have to go for `size` more bytes, deleted."""
        gone, freed = [], 0
        for number in self._sizes:  # in the order of their numbers
            if self._bytes - freed + size <= self._max_bytes:
                break
            gone.append(number)
            freed += self._sizes[number]
        if gone:
            self._db.execute("DELETE FROM outbox WHERE number <= ?", (gone[-1],))
            self._db.execute(
                "INSERT OR REPLACE INTO counters VALUES ('dropped', ?)",
                (self.dropped + len(gone),),
            )
        return gone

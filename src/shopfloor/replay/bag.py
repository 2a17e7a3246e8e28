"""Bags of the line: rosbag2 folders with MCAP storage, written and read without rosbag2.

Messages are stored as the CDR bytes that came over DDS, so recording needs no decoding. What comes
out opens in `ros2 bag info/play`, Foxglove and the `rosbags` package.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer, WriterError
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from shopfloor.replay.hidden_types import correct_event_info, hidden_types, idl

SAVE_PERIOD_S = 1.0
"""So much of a bag is lost when its process is killed, or the power fails."""

NOTES_FILE = "notes.json"
MAX_WAITING_BYTES = 64 * 1024 * 1024
_NO_LIMIT = QosTime(0, 0)


class BagError(RuntimeError):
    """A bag cannot be written or read; the message says which and why."""


class BagExistsError(BagError):
    """There is something at the bag's path; nothing is written over."""


@dataclass(frozen=True)
class Topic:
    """A topic as the bag keeps it. latched: replayed to subscribers that come later."""

    name: str
    type: str
    latched: bool = False


def typestore(message_folders: Iterable[Path]) -> Typestore:
    """The common ROS 2 types and those of the packages of `message_folders` (`.../PACKAGE/msg`).

    With what ROS makes of their .srv and .action files: `NAME_Event`, `NAME_FeedbackMessage`.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    correct_event_info(store)
    found: dict[str, Any] = {}
    for folder in message_folders:
        for path in sorted(folder.glob("*.msg")):
            name = f"{folder.parent.name}/msg/{path.stem}"
            found.update(get_types_from_msg(path.read_text(encoding="utf-8"), name))
        found.update(hidden_types(folder.parent))
    store.register({name: fields for name, fields in found.items() if name not in store.types})
    return store


class BagFile:
    """One bag, as long as it is written. For one thread.

    path: folder to make; must not exist. custom: kept in the bag's metadata. Other processes see by
    a lock on the .mcap file that the bag is in use, see `is_in_use`. Raises BagError where the
    folder cannot be made.
    """

    def __init__(
        self, path: Path, types: Typestore, custom: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._types = types
        self._connections: dict[str, Connection] = {}
        self._saved_s = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            assert isinstance(self._writer.storage, McapWriter)
            self._storage = self._writer.storage
            fcntl.flock(self._storage.bio.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            for key, value in (custom or {}).items():
                self.note(key, value)
            # metadata.yaml comes with `close`: what is cut off before has its notes here.
            (path / NOTES_FILE).write_text(json.dumps(dict(custom or {})), encoding="utf-8")
        except Exception as error:
            kind = BagExistsError if isinstance(error, WriterError) else BagError
            raise kind(f"cannot write a bag at {path}: {error}") from error

    @property
    def size_bytes(self) -> int:
        """What the file will have grown to once the present chunk is out."""
        return self._storage.bio.tell() + self._storage.chunk.bio.tell()

    def note(self, key: str, value: str) -> None:
        """Keep `value` in the metadata; takes effect at `close`."""
        self._writer.set_custom_data(key, value)

    def write(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """One serialised message; once a second, what was written goes to the disk."""
        self._writer.write(self._connection(topic), stamp_ns, data)
        self.counts[topic.name] += 1
        if time.monotonic() - self._saved_s >= SAVE_PERIOD_S:
            self._save()
            self._saved_s = time.monotonic()

    def close(self) -> None:
        """Write the index and metadata.yaml."""
        self._writer.close()
        (self.path / NOTES_FILE).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Let go of a bag that the disk does not take; `repair` can read what there is."""
        with contextlib.suppress(Exception):
            self._writer.abort()

    def _save(self) -> None:
        """End the chunk and hand it to the disk: what comes after is lost in a power cut."""
        if self._storage.chunk.bio.tell():  # a chunk of 1 MiB has just ended by itself
            self._storage.close_chunk()
        self._storage.bio.flush()
        os.fdatasync(self._storage.bio.fileno())

    def _connection(self, topic: Topic) -> Connection:
        known = self._connections.get(topic.name)
        if known is None:
            # The package writes .msg texts of its own, but not of types outside msg/.
            is_hidden = "/msg/" not in topic.type
            known = self._writer.add_connection(
                topic.name,
                topic.type,
                typestore=self._types,
                msgdef=idl(self._types, topic.type) if is_hidden else None,
                rihs01=self._types.hash_rihs01(topic.type) if is_hidden else None,
                offered_qos_profiles=[qos_profile(topic.latched)],
            )
            self._connections[topic.name] = known
        return known


def is_in_use(bag: Path) -> bool:
    """Whether a process, this one included, writes the bag in the folder `bag`."""
    for file in bag.glob("*.mcap"):
        with file.open("rb") as stream:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


class Sink(Protocol):
    """What a `WritingThread` writes to."""

    def write(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """Take one message; what it raises ends the thread."""

    def close(self) -> None:
        """Nothing more will come."""


class WritingThread:
    """Feeds a sink on a thread of its own, so that no disk holds up who records.

    `put` never blocks: beyond `max_waiting_bytes` that wait for the disk, messages are dropped and
    counted by topic in `dropped`. `error` is why the sink gave up; empty: it did not.
    """

    def __init__(self, sink: Sink, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped: Counter[str] = Counter()
        self.error = ""
        self._sink = sink
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Topic, int, bytes] | Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    def put(self, topic: Topic, stamp_ns: int, data: bytes) -> bool:
        """Queue one serialised message; False when it was dropped."""
        with self._lock:
            if self.error or self._waiting_bytes + len(data) > self._max_waiting_bytes:
                self.dropped[topic.name] += 1
                return False
            self._waiting_bytes += len(data)
        self._queue.put((topic, stamp_ns, data))
        return True

    def tell(self, call: Callable[[], None]) -> None:
        """Run `call` on the thread, after what was put before it."""
        self._queue.put(call)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then close the sink."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.error = f"the disk did not take the bag within {timeout_s:g} s"

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                if callable(item):
                    item()
                    continue
                with self._lock:
                    self._waiting_bytes -= len(item[2])
                self._sink.write(*item)
        except Exception as error:  # a full disk ends the recording, never the node
            self.error = f"{type(error).__name__}: {error}"
        try:
            self._sink.close()
        except Exception as error:
            self.error = self.error or f"{type(error).__name__}: {error}"


class BagWriter(WritingThread):
    """Writes one bag on a thread of its own; arguments and errors are those of `BagFile`."""

    def __init__(
        self, path: Path, types: Typestore, custom: Mapping[str, str] | None = None
    ) -> None:
        bag = BagFile(path, types, custom)
        self.path = path
        self.counts = bag.counts
        super().__init__(bag)


def qos_profile(latched: bool) -> Qos:
    """What a topic offered, for the bag's metadata."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 100,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_NO_LIMIT,
        lifespan=_NO_LIMIT,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_NO_LIMIT,
        avoid_ros_namespace_conventions=False,
    )


def read(path: Path, types: Typestore) -> Iterator[tuple[str, int, Any]]:
    """The messages of a bag in order: topic, stamp in ns, decoded message. Raises BagError."""
    try:
        with Reader(path) as reader:
            for connection, stamp_ns, data in reader.messages():
                yield connection.topic, stamp_ns, types.deserialize_cdr(data, connection.msgtype)
    except BagError:
        raise
    except Exception as error:
        raise BagError(f"cannot read the bag {path}: {error}") from error

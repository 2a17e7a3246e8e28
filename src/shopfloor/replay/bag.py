"""Bags of the line: rosbag2 folders with MCAP storage, written and read without rosbag2.

Messages are stored as the CDR bytes that came over DDS, so recording needs no decoding. What comes
out opens in `ros2 bag info/play`, Foxglove and the `rosbags` package.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

SAVE_PERIOD_S = 1.0
"""So much of a bag is lost when its process is killed, or the power fails."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
_NO_LIMIT = QosTime(0, 0)


class BagError(RuntimeError):
    """A bag cannot be written or read; the message says which and why."""


@dataclass(frozen=True)
class Topic:
    """A topic as the bag keeps it. latched: replayed to subscribers that come later."""

    name: str
    type: str
    latched: bool = False


def typestore(message_folders: Iterable[Path]) -> Typestore:
    """The common ROS 2 types and the .msg files of `message_folders` (`.../PACKAGE/msg`)."""
    store = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, Any] = {}
    for folder in message_folders:
        for path in sorted(folder.glob("*.msg")):
            name = f"{folder.parent.name}/msg/{path.stem}"
            found.update(get_types_from_msg(path.read_text(encoding="utf-8"), name))
    store.register({name: fields for name, fields in found.items() if name not in store.types})
    return store


class BagWriter:
    """Writes a bag on a thread of its own.

    path: folder to make; must not exist. custom: kept in the bag's metadata. `put` never blocks:
    beyond 64 MiB that wait for the disk, messages are dropped and counted in `dropped`. Raises
    BagError where the folder cannot be made.
    """

    def __init__(
        self, path: Path, types: Typestore, custom: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.dropped = 0
        self.error = ""
        self._types = types
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Topic, int, bytes] | None] = queue.SimpleQueue()
        self._connections: dict[str, Connection] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            for key, value in (custom or {}).items():
                self._writer.set_custom_data(key, value)
        except Exception as error:
            raise BagError(f"cannot write a bag at {path}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    def put(self, topic: Topic, stamp_ns: int, data: bytes) -> bool:
        """Queue one serialised message; False when it was dropped."""
        with self._lock:
            if self.error or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self.dropped += 1
                return False
            self._waiting_bytes += len(data)
        self._queue.put((topic, stamp_ns, data))
        return True

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, then the index and metadata.yaml."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.error = f"the disk did not take the bag within {timeout_s:g} s"

    def _run(self) -> None:
        try:
            saved_s = time.monotonic()
            while (item := self._queue.get()) is not None:
                topic, stamp_ns, data = item
                with self._lock:
                    self._waiting_bytes -= len(data)
                self._writer.write(self._connection(topic), stamp_ns, data)
                self.counts[topic.name] += 1
                if time.monotonic() - saved_s >= SAVE_PERIOD_S:
                    self._save()
                    saved_s = time.monotonic()
        except Exception as error:  # a full disk ends the recording, never the node
            self.error = f"{type(error).__name__}: {error}"
        try:
            self._writer.close()
        except Exception as error:
            self.error = self.error or f"{type(error).__name__}: {error}"

    def _save(self) -> None:
        """End the chunk and hand it to the disk: what comes after is lost in a power cut."""
        storage = self._writer.storage
        if isinstance(storage, McapWriter):
            storage.close_chunk()
            storage.bio.flush()
            os.fdatasync(storage.bio.fileno())

    def _connection(self, topic: Topic) -> Connection:
        known = self._connections.get(topic.name)
        if known is None:
            known = self._writer.add_connection(
                topic.name,
                topic.type,
                typestore=self._types,
                offered_qos_profiles=[qos_profile(topic.latched)],
            )
            self._connections[topic.name] = known
        return known


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

"""A bag's decoded messages: rosbag2 folders and MCAP files, also one that a killed writer left."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore


class BagError(Exception):
    """What is there is no bag; the message says why."""


class BagReader:
    """An open bag. Raises BagError where there is none, OSError where it can't be read.

    topics: name to type, such as sensor_msgs/msg/Image.
    damage: what is wrong behind the last message, empty where the bag is whole so far.
    """

    def __init__(self, path: Path) -> None:
        self.damage = ""
        self.topics: dict[str, str] = {}
        self._whole: AnyReader | None = None
        # A recorder that was killed wrote neither metadata.yaml nor the file's index.
        files = sorted(path.glob("*.mcap")) if path.is_dir() else [path]
        self._file = files[0] if len(files) == 1 and files[0].suffix == ".mcap" else None
        is_folder = path.is_dir() and (path / "metadata.yaml").exists()
        try:
            whole = AnyReader(
                [path if is_folder or self._file is None else self._file],
                default_typestore=get_typestore(Stores.ROS2_JAZZY),
            )
            whole.open()
        except PermissionError:
            raise
        except Exception as error:  # half a file makes the parser raise all sorts of things
            if self._file is None:
                raise BagError(str(error)) from error
            self._read_channels(self._file, error)
        else:
            self._whole = whole
            self.topics = {c.topic: c.msgtype for c in whole.connections}

    def _read_channels(self, file: Path, error: Exception) -> None:
        types: dict[int, str] = {}
        self._types = get_typestore(Stores.EMPTY)
        for record in self._records(file):
            if isinstance(record, Schema):
                types[record.id] = record.name
                found = get_types_from_msg(record.data.decode(), record.name)
                self._types.register(
                    {n: fields for n, fields in found.items() if n not in self._types.types}
                )
            elif isinstance(record, Channel) and record.schema_id in types:
                self.topics[record.topic] = types[record.schema_id]
        if not self.topics:
            raise BagError(str(error))
        self.damage = f"; it was cut off: {error}"

    def _records(self, file: Path) -> Iterator[Any]:
        """Records up to where the file was cut."""
        with file.open("rb") as stream, contextlib.suppress(McapError, struct.error):
            yield from StreamReader(stream).records

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Topic, time of recording in ns and decoded message, in order of recording."""
        raw = self._of_whole(topics) if self._whole is not None else self._of_cut(topics)
        while True:
            try:
                item = next(raw)
            except StopIteration:
                return
            except Exception as error:  # as in __init__
                self.damage = f"; it is damaged behind them: {error}"
                return
            yield item

    def _of_whole(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        assert self._whole is not None
        connections = [c for c in self._whole.connections if c.topic in topics]
        for connection, stamp_ns, data in self._whole.messages(connections):
            message = self._whole.deserialize(data, connection.msgtype)
            yield connection.topic, stamp_ns, message

    def _of_cut(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        assert self._file is not None
        names: dict[int, str] = {}
        for record in self._records(self._file):
            if isinstance(record, Channel):
                names[record.id] = record.topic
            elif isinstance(record, Message) and names.get(record.channel_id) in topics:
                topic = names[record.channel_id]
                message = self._types.deserialize_cdr(record.data, self.topics[topic])
                yield topic, record.log_time, message

    def close(self) -> None:
        """Close the files."""
        if self._whole is not None:
            self._whole.close()
        self._whole = None

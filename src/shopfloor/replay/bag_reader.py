"""Bags as they come: raw messages in order, and the types that the bag itself describes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from shopfloor.replay.bag import BagError
from shopfloor.ros.recorded import Recorded


class BagReader:
    """A rosbag2 folder or an .mcap file, open until `close`. Raises BagError.

    remap: topics are read under other names: old to new.
    """

    def __init__(self, path: Path, remap: dict[str, str] | None = None) -> None:
        self.path = path
        self._remap = remap or {}
        if not path.exists():
            raise BagError(f"there is no bag {path}")
        try:
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._reader.open()
        except Exception as error:  # half a file makes the parser raise all sorts of things
            raise BagError(
                f"{path} cannot be read: {error}; cut off? python -m shopfloor.replay repair {path}"
            ) from error
        self.types = {
            self._remap.get(c.topic, c.topic): c.msgtype for c in self._reader.connections
        }

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Time after the last message."""
        return int(self._reader.end_time)

    def messages(
        self, topics: Collection[str] | None = None, from_ns: int = 0, until_ns: int = 2**63 - 1
    ) -> Iterator[Recorded]:
        """The messages of `topics` (all by default) in order of recording."""
        wanted = [
            c
            for c in self._reader.connections
            if topics is None or self._remap.get(c.topic, c.topic) in topics
        ]
        if not wanted:
            return
        for connection, stamp_ns, data in self._reader.messages(wanted):
            if from_ns <= stamp_ns < until_ns:
                name = self._remap.get(connection.topic, connection.topic)
                yield Recorded(name, stamp_ns, bytes(data))

    def latest(self, topics: Collection[str], until_ns: int) -> list[Recorded]:
        """The last message of each topic before `until_ns`: the states that hold then."""
        last = {item.topic: item for item in self.messages(topics, until_ns=until_ns)}
        return [last[topic] for topic in sorted(last)]

    def decoder(self) -> Callable[[Recorded], Any]:
        """A function that decodes a message of this bag by the types in the bag."""
        return lambda item: self._reader.deserialize(item.data, self.types[item.topic])

    def check_types(self, topics: Iterable[str], today: Typestore) -> None:
        """Raises BagError where a topic's type has other fields than in `today`.

        Its bytes would be read as something else, or not at all.
        """
        for topic in sorted(topics):
            name = self.types[topic]
            if name not in today.types:
                raise BagError(f"{topic}: its type {name} is not known here")
            if self._reader.typestore.hash_rihs01(name) != today.hash_rihs01(name):
                raise BagError(
                    f"{topic}: {name} has other fields in {self.path} than today; use the version "
                    "that recorded it"
                )

    @property
    def plant(self) -> str:
        """The plant file that the recorder kept with the bag; empty: none."""
        return self._kept("plant")

    @property
    def files(self) -> str:
        """The files that the plant's parameters name, as `files_of_plant` packs them."""
        return self._kept("files")

    def _kept(self, key: str) -> str:
        path = self.path / "metadata.yaml"
        if not path.is_file():
            return ""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        custom = content["rosbag2_bagfile_information"].get("custom_data") or {}
        return str(custom.get(key, ""))

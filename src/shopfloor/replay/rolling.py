"""Bags one after the other: a new one when one is large or long enough, each standing alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rosbags.typesys.store import Typestore

from shopfloor.replay.bag import BagExistsError, BagFile, Topic

Message = tuple[Topic, int, bytes]
"""Topic, stamp in ns of ROS time, CDR bytes."""


_NAME_TRIES = 10


@dataclass(frozen=True)
class SplitLimits:
    """When the next bag begins; 0: this alone never ends a bag."""

    size_bytes: int = 0
    duration_ns: int = 0


class RollingBag:
    """Writes bags until `close`. Begins each with the latest message of every latched topic.

    path_of: the next bag's folder, for a stamp in ns. custom: kept in each bag's metadata.
    latched: what is latched already, by topic. What the disk raises goes through.
    """

    def __init__(
        self,
        path_of: Callable[[int], Path],
        types: Typestore,
        custom: Mapping[str, str],
        limits: SplitLimits,
        latched: Mapping[str, Message] | None = None,
    ) -> None:
        self.custom = dict(custom)
        self._path_of = path_of
        self._types = types
        self._limits = limits
        self._latched = dict(latched or {})
        self._bag: BagFile | None = None
        self._begun_ns = 0

    @property
    def path(self) -> Path | None:
        """The bag that is being written, if there is one."""
        bag = self._bag  # other threads ask, too
        return bag.path if bag is not None else None

    def write(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """One message, into a new bag where it is time for one."""
        bag = self._bag
        if bag is None or self._is_full(bag, stamp_ns):
            bag = self.open(stamp_ns)
        bag.write(topic, stamp_ns, data)
        if topic.latched:
            self._latched[topic.name] = (topic, stamp_ns, data)

    def open(self, stamp_ns: int) -> BagFile:
        """End the present bag and begin the next; its head is stamped `stamp_ns`."""
        self.close()
        bag = self._bag = self._next(stamp_ns)
        self._begun_ns = stamp_ns
        for topic, _, data in self._latched.values():
            bag.write(topic, stamp_ns, data)
        return bag

    def close(self) -> None:
        """Write the index of the present bag."""
        bag, self._bag = self._bag, None
        if bag is not None:
            for key, value in self.custom.items():
                bag.note(key, value)
            bag.close()

    def abandon(self) -> None:
        """Leave the present bag as it lies on the disk."""
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.abandon()

    def _next(self, stamp_ns: int) -> BagFile:
        tries = 1
        while True:
            try:
                return BagFile(self._path_of(stamp_ns), self._types, self.custom)
            except BagExistsError:  # another recorder of the folder took that name just now
                if tries == _NAME_TRIES:
                    raise
                tries += 1

    def _is_full(self, bag: BagFile, stamp_ns: int) -> bool:
        limits = self._limits
        is_large = 0 < limits.size_bytes <= bag.size_bytes
        return is_large or 0 < limits.duration_ns <= stamp_ns - self._begun_ns


def next_path(folder: Path, name: str) -> Path:
    """`folder/name`, or the next of `name_001`, `name_002`, ... after those that there are.

    A number is not given again while later ones are there: names tell the order of bags.
    """
    numbered = re.compile(re.escape(name) + r"(?:_(\d{3,}))?")
    found = [numbered.fullmatch(path.name) for path in folder.iterdir()]
    numbers = [int(match[1] or 0) for match in found if match is not None]
    return folder / (f"{name}_{max(numbers) + 1:03}" if numbers else name)


def local_time(stamp_ns: int) -> str:
    """YYYYmmdd_HHMMSS in the host's time zone."""
    return datetime.fromtimestamp(stamp_ns // 1_000_000_000).strftime("%Y%m%d_%H%M%S")

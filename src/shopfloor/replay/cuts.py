"""Cuts: bags from some seconds before an event until some seconds after the last one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rosbags.typesys.store import Typestore

from shopfloor.replay.bag import Topic
from shopfloor.replay.ring import Ring
from shopfloor.replay.rolling import RollingBag, SplitLimits

RING_BYTES_PER_S = 100e6
"""How fast a cut's past goes to the disk, at most."""

MAX_CAUSES = 100
"""Causes that a bag's metadata names; a storm of failures must not fill memory."""


class EventCuts:
    """Keeps the ring and writes the cuts.

    path_of: the next cut's folder, for a stamp in ns. after_ns: how long a cut goes on after an
    event; one that comes meanwhile makes it longer. The causes stand in the bag's metadata.
    """

    def __init__(
        self,
        path_of: Callable[[int], Path],
        types: Typestore,
        custom: Mapping[str, str],
        limits: SplitLimits,
        ring: Ring,
        after_ns: int,
    ) -> None:
        self.ring = ring
        self.events = 0
        self.cuts = 0
        self.last_cause = ""
        self._path_of = path_of
        self._types = types
        self._custom = dict(custom)
        self._limits = limits
        self._after_ns = after_ns
        self._cut: RollingBag | None = None
        self._causes: list[str] = []
        self._end_ns = 0

    @property
    def path(self) -> Path | None:
        """The cut that is being written, if there is one."""
        cut = self._cut  # other threads ask, too
        return cut.path if cut is not None else None

    def write(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """One message, for the cut and for those that come."""
        self.tick(stamp_ns)
        self.ring.add(topic, stamp_ns, data)
        if self._cut is not None:
            self._cut.write(topic, stamp_ns, data)

    def event(self, stamp_ns: int, cause: str) -> None:
        """Something happened: begin a cut with what the ring holds, or go on with the present."""
        self.tick(stamp_ns)
        self.events += 1
        self.last_cause = cause
        self._end_ns = max(self._end_ns, stamp_ns + self._after_ns)
        cut = self._cut
        if cut is None:
            self._causes.clear()
            cut = self._cut = RollingBag(
                self._path_of, self._types, self._custom, self._limits, self.ring.latched
            )
            self.cuts += 1
        if len(self._causes) < MAX_CAUSES:
            self._causes.append(f"{stamp_ns} {cause}")
        cut.custom["events"] = "\n".join(self._causes)
        if cut.path is None:
            for message in self.ring:
                cut.write(*message)
                # Not in one go: who receives messages needs the interpreter, too.
                time.sleep(len(message[2]) / RING_BYTES_PER_S)

    def tick(self, now_ns: int) -> None:
        """End the cut when its time is over."""
        if self._cut is not None and now_ns > self._end_ns:
            self.close()

    def time_went_back(self) -> None:
        """What is in the ring is no longer the past."""
        self.close()
        self._end_ns = 0
        self.ring.clear()

    def close(self) -> None:
        """End the present cut."""
        cut, self._cut = self._cut, None
        if cut is not None:
            cut.close()

    def abandon(self) -> None:
        """Leave the present cut as it lies on the disk."""
        cut, self._cut = self._cut, None
        if cut is not None:
            cut.abandon()

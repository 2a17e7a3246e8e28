"""What folder, video and bag have in common: frames at hand, paced, numbered, begun again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace

from shopfloor.camera.pacing import Pacer
from shopfloor.camera.source import BadFrame, EndOfStream, Grab, SourceInfo, SourceLost


class RecordedSource(ABC):
    """Base of sources that could deliver at once. A kind says how to `_rewind` and to `_load`.

    rate_hz: frames per second; 0: as the kind has it.
    loop: start again behind the last frame; otherwise EndOfStream.

    The next frame is loaded before it is due: decoding adds no jitter. A kind's `open` ends with
    `_begin`.
    """

    def __init__(self, rate_hz: float, loop: bool) -> None:
        self._rate_hz = rate_hz
        self._loop = loop
        self._passes = 1
        self._sequence = 0
        self._next: Grab | BadFrame | None = None
        self._pacer = Pacer(rate_hz)

    @abstractmethod
    def describe(self) -> SourceInfo:
        """What is read, and at which rate."""

    @abstractmethod
    def _rewind(self) -> None:
        """Make `_load` give the first frame; raises SourceError."""

    @abstractmethod
    def _load(self) -> Grab | BadFrame | None:
        """The next frame, its stamps and, unless it has its own, its sequence left 0; None: end."""

    def _due_ns(self, item: Grab | BadFrame) -> int | None:
        """When `item` is due after the first of its pass; None: by the rate."""
        return None

    @abstractmethod
    def _end(self) -> str:
        """What was read, for the message at the end."""

    def _begin(self) -> bool:
        """Load the first frame and start the schedule; False when there is none."""
        self._rewind()
        self._pacer = Pacer(self.describe().rate_hz)
        self._next = self._load()
        return self._next is not None

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame when it is due; raises BadFrame, SourceLost or EndOfStream."""
        if self._next is None:
            self._next = self._load_or_start_again()
        if not self._pacer.wait(timeout_s, self._due_ns(self._next)):
            return None
        due, self._next = self._next, None
        self._sequence = due.sequence or self._sequence + 1
        if isinstance(due, BadFrame):
            due.sequence = self._sequence
            raise due
        return replace(due, steady_ns=time.monotonic_ns(), sequence=self._sequence)

    def close(self) -> None:
        """Forget what was loaded."""
        self._next = None

    def _load_or_start_again(self) -> Grab | BadFrame:
        item = self._load()
        if item is None:
            if not self._loop:
                raise EndOfStream(self._end())
            self._rewind()
            self._passes += 1
            self._pacer.start_again()
            item = self._load()
            if item is None:
                raise SourceLost(f"no frame when it was started again: {self._end()}")
        return item

    def _part_id(self, name: str) -> str:
        """`name`, from the second pass on with `#2` and so on: no part comes twice."""
        return name if self._passes == 1 or not name else f"{name}#{self._passes}"

"""What a recorder does with each message: the running bags, the cuts, the quota, a disk that fails.

Works on the recorder's writing thread; `summary` may be read from others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rosbags.typesys.store import Typestore

from shopfloor.replay.bag import BagError, Topic
from shopfloor.replay.cuts import EventCuts
from shopfloor.replay.events import EventDetector
from shopfloor.replay.quota import Quota
from shopfloor.replay.ring import Ring
from shopfloor.replay.rolling import RollingBag, SplitLimits, local_time, next_path

RETRY_S = 5.0
"""After the disk failed, so long until the next try."""

_CHECK_PERIOD_S = 5.0
_BACK_NS = 1_000_000_000
"""ROS time that goes back by more is another run; less is the order of arrival."""


@dataclass(frozen=True)
class Plan:
    """What is recorded where. name: of the first running bag, empty: the time."""

    folder: Path
    name: str = ""
    continuous: bool = True
    events: bool = False
    before_ns: int = 10_000_000_000
    after_ns: int = 5_000_000_000
    ring_bytes: int = 256_000_000
    limits: SplitLimits = field(default_factory=SplitLimits)
    quota_bytes: int = 0
    min_free_bytes: int = 0


class Recording:
    """The sink of a recorder. Opens the first running bag, so that a wrong folder is said at once.

    custom: kept in each bag's metadata. steady_s: the clock of tries and checks. Raises BagError
    and OSError. After that nothing raises: a failure of the disk is `error` until it works again,
    and messages that went by meanwhile are counted by topic in `lost`.
    """

    def __init__(
        self,
        plan: Plan,
        types: Typestore,
        custom: Mapping[str, str],
        start_ns: int,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.error = ""
        self.messages = 0
        self.lost: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self._plan = plan
        self._steady_s = steady_s
        self._retry_s = 0.0
        self._checked_s = float("-inf")
        self._last_ns = start_ns
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BagError(f"cannot write a bag at {plan.folder / plan.name}: {error}") from error
        self.quota = Quota(plan.folder, plan.quota_bytes, plan.min_free_bytes)
        self.running: RollingBag | None = None
        self.cuts: EventCuts | None = None
        self._detector = EventDetector(types)
        if plan.events:
            ring = Ring(plan.before_ns, plan.ring_bytes)
            self.cuts = EventCuts(self._cut_path, types, custom, plan.limits, ring, plan.after_ns)
        self._check()
        if plan.continuous:
            if plan.name and (plan.folder / plan.name).exists():
                raise BagError(
                    f"cannot write a bag at {plan.folder / plan.name}: it exists already"
                )
            self.running = RollingBag(self._path, types, custom, plan.limits)
            if not self.error:
                self.running.open(start_ns)

    def write(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """One message to wherever it belongs."""
        cause = self._event_in(topic, data)
        try:
            self._follow_time(stamp_ns)
            self._check()
            if not self._is_writable():
                self.lost[topic.name] += 1
                if self.cuts is not None:
                    self.cuts.ring.add(topic, stamp_ns, data)
                return
            if self.running is not None:
                self.running.write(topic, stamp_ns, data)
            if self.cuts is not None:
                self.cuts.write(topic, stamp_ns, data)
                if cause:
                    self.cuts.event(stamp_ns, cause)
            self.messages += 1
        except Exception as error:  # whatever the disk or the format says: the next try may do
            self.lost[topic.name] += 1
            self._fail(f"{type(error).__name__}: {error}")

    def event(self, stamp_ns: int, cause: str) -> None:
        """Cut a bag around `stamp_ns`."""
        try:
            if self.cuts is not None and self._is_writable():
                self.cuts.event(stamp_ns, cause)
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    def tick(self, now_ns: int) -> None:
        """Time passes though nothing comes."""
        try:
            self._check()
            if self.cuts is not None:
                self.cuts.tick(now_ns)
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End all bags with their index; raises what the disk does, after all were tried."""
        with ExitStack() as stack:
            for bag in (self.cuts, self.running):
                if bag is not None:
                    stack.callback(bag.close)

    def _event_in(self, topic: Topic, data: bytes) -> str:
        if self.cuts is None:
            return ""
        try:
            return self._detector.look(topic, data)
        except Exception:  # recorded all the same, byte for byte
            self.unreadable[topic.name] += 1
            return ""

    def _follow_time(self, stamp_ns: int) -> None:
        if stamp_ns < self._last_ns - _BACK_NS:
            if self.cuts is not None:
                self.cuts.time_went_back()
            if self.running is not None:
                self.running.close()
        self._last_ns = stamp_ns

    def _check(self) -> None:
        """Now and then: the quota, and whether the disk has room to end the bags in order."""
        now_s = self._steady_s()
        if now_s - self._checked_s < _CHECK_PERIOD_S:
            return
        self._checked_s = now_s
        folder = self._plan.folder
        if not folder.is_dir():
            folder.mkdir(parents=True)
            self._fail(f"{folder} was taken away")
            return
        self.quota.enforce()
        if problem := self.quota.disk_problem():
            self.close()
            self._fail(problem)

    def _is_writable(self) -> bool:
        if self.error and self._steady_s() >= self._retry_s:
            self.error = self.quota.disk_problem()
            self._retry_s = self._steady_s() + RETRY_S
        return not self.error

    def _fail(self, cause: str) -> None:
        self.error = cause
        self._retry_s = self._steady_s() + RETRY_S
        for bag in (self.running, self.cuts):
            if bag is not None:
                bag.abandon()

    def _path(self, stamp_ns: int) -> Path:
        name = self._plan.name or f"shopfloor_{local_time(stamp_ns)}"
        return next_path(self._plan.folder, name)

    def _cut_path(self, stamp_ns: int) -> Path:
        prefix = f"{self._plan.name}_event" if self._plan.name else "event"
        return next_path(self._plan.folder, f"{prefix}_{local_time(stamp_ns)}")

"""The detail tier's queue: bounded, the most urgent first, and nothing leaves it unheard."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shopfloor.ros.timing import Rolling

T = TypeVar("T")

REMEMBERED = 4096
"""Keys that are remembered to know a repeat."""


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """An item in the queue; times in nanoseconds of the caller's clocks."""

    item: T
    deadline_ns: float
    arrived_ns: int


class WorkTime:
    """How long the next item will take, from those before: the median of their times.

    What is refused because of it teaches nothing, so a slow start would refuse for ever: with each
    refusal it is believed a tenth less, until one is tried again.
    """

    def __init__(self) -> None:
        self.taken_ms = Rolling()
        self._refused = 0

    def took(self, taken_ms: float) -> None:
        """One was done, in so many milliseconds."""
        self.taken_ms.add(taken_ms)
        self._refused = 0

    def refused(self, count: int) -> None:
        """So many were not tried."""
        self._refused += count

    @property
    def expected_ns(self) -> int:
        """Nanoseconds; 0 before the first."""
        typical_ms = self.taken_ms.percentile(50)
        return 0 if math.isnan(typical_ms) else int(typical_ms * 1e6 * 0.9**self._refused)


class DetailQueue(Generic[T]):
    """Items by deadline. `counts`: repeated, full, late. Not thread-safe.

    capacity: items that wait at most. Where one more comes, the one that is nearest to its deadline
    gives way: the others have more time left to be answered.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: list[Waiting[T]] = []
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_ms(self, now_ns: int) -> float:
        """How long the one that came first has waited; 0 when nothing waits."""
        arrived = min((w.arrived_ns for w in self._waiting), default=now_ns)
        return (now_ns - arrived) / 1e6

    def is_repeated(self, key: Hashable) -> bool:
        """Whether this key came before; counts it, and remembers a new one."""
        if key in self._known:
            self.counts["repeated"] += 1
            return True
        self._known[key] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return False

    def put(self, item: T, deadline_ns: int, arrived_ns: int) -> T | None:
        """Let it wait; returns the one that gave way, if any. deadline_ns: ROS time, 0: none."""
        self._waiting.append(Waiting(item, deadline_ns or math.inf, arrived_ns))
        self._waiting.sort(key=lambda w: (w.deadline_ns, w.arrived_ns))
        if len(self._waiting) <= self._capacity:
            return None
        self.counts["full"] += 1
        return self._waiting.pop(0).item

    def expire(self, now_ns: int, work_ns: int = 0) -> list[T]:
        """Those that could not be answered in time any more, at ROS time `now_ns`."""
        late = [w for w in self._waiting if now_ns + work_ns > w.deadline_ns]
        self._waiting = self._waiting[len(late) :]
        self.counts["late"] += len(late)
        return [w.item for w in late]

    def take(self) -> Waiting[T] | None:
        """The most urgent one."""
        return self._waiting.pop(0) if self._waiting else None

    def clear(self) -> None:
        """Nothing waits any more."""
        self._waiting.clear()

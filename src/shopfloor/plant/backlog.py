"""How far the line manager is behind with reading. Pure: no ROS, no clock.

Where the cores are taken, heartbeats wait to be read, and what waits is no silence of its sender.
So nodes are judged as of the moment up to which all was read: now, less the age that the latest
heartbeats had when they were read.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 1.0
"""The oldest heartbeat read within this time says how far behind reading is."""

MAX_S = 5.0
"""No reading is further behind; a greater age comes from a clock that was set meanwhile."""


class Backlog:
    """Ages of heartbeats of this computer, when they were read."""

    def __init__(self) -> None:
        self._ages: deque[tuple[float, float]] = deque()

    def read(self, age_s: float, now_s: float) -> None:
        """A heartbeat was read `age_s` after it had been sent."""
        self._forget(now_s)
        if 0.0 <= age_s <= MAX_S:
            self._ages.append((now_s, age_s))

    def behind_s(self, now_s: float) -> float:
        """Seconds that reading is behind; 0 where nothing was read of late."""
        self._forget(now_s)
        return max((age_s for _, age_s in self._ages), default=0.0)

    def _forget(self, now_s: float) -> None:
        while self._ages and now_s - self._ages[0][0] > WINDOW_S:
            self._ages.popleft()

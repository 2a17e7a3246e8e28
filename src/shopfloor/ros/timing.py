"""Stage times of one piece of work, and percentiles over the last many. Nothing here needs ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

_stage_clock: Callable[[], int] = time.perf_counter_ns


def stop_stage_clock() -> None:
    """From now on stages take no time: how fast this machine is must not show in a replay."""
    global _stage_clock
    _stage_clock = lambda: 0  # noqa: E731


class StageTimer:
    """Times named stages on the steady clock; `stages_ms` keeps their order."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}
        self._since = _stage_clock()

    def lap(self, name: str) -> None:
        """The time since the last lap was of stage `name`; a stage that comes again adds up."""
        since, self._since = self._since, _stage_clock()
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + (self._since - since) / 1e6


class Rolling:
    """Percentiles over the last `size` values."""

    def __init__(self, size: int = 512) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self.count = 0

    def add(self, value: float) -> None:
        """Take in one value."""
        self._values.append(value)
        self.count += 1

    def percentile(self, q: float) -> float:
        """The q-th percentile (0-100) of the window; NaN when it is empty."""
        return float(np.percentile(list(self._values), q)) if self._values else float("nan")


class RateMeter:
    """Events per second over a sliding window of `window_s` on the steady clock. Thread-safe."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._lock = threading.Lock()
        self._window_ns = int(window_s * 1e9)
        self._stamps_ns: deque[int] = deque()

    def tick(self, now_ns: int | None = None) -> None:
        """One event."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        with self._lock:
            self._stamps_ns.append(now_ns)
            self._expire(now_ns)

    def hz(self, now_ns: int | None = None) -> float:
        """Present rate; 0 when fewer than two events lie in the window."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        with self._lock:
            self._expire(now_ns)
            if len(self._stamps_ns) < 2:
                return 0.0
            span_ns = max(now_ns - self._stamps_ns[0], 1)
            return (len(self._stamps_ns) - 1) * 1e9 / span_ns

    def _expire(self, now_ns: int) -> None:
        while self._stamps_ns and now_ns - self._stamps_ns[0] > self._window_ns:
            self._stamps_ns.popleft()

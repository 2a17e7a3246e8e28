"""Inference times of the inspectors of a host, as their results tell them."""

from __future__ import annotations

import math
from collections import deque

MIN_RESULTS = 20
STILL_GOING_ON_S = 2.0
MIN_SPAN_S = 1.0
"""Over less time results that came together would look like a rate."""


class LatencyWindow:
    """p99 over the last seconds; times on the steady clock, latencies in milliseconds."""

    def __init__(self, window_s: float = 20.0) -> None:
        self._window_s = window_s
        self._values: deque[tuple[float, float]] = deque(maxlen=4096)
        self._broken_since_s: float | None = None

    def add(self, now_s: float, latency_ms: float) -> None:
        """One more result."""
        self._values.append((now_s, latency_ms))

    def clear(self) -> None:
        """The rung changed: what came before is not what it promises."""
        self._values.clear()
        self._broken_since_s = None

    def p99_ms(self, now_s: float) -> float:
        """NaN while there are fewer than MIN_RESULTS in the window."""
        while self._values and now_s - self._values[0][0] > self._window_s:
            self._values.popleft()
        count = len(self._values)
        if count < MIN_RESULTS:
            return math.nan
        return sorted(latency for _, latency in self._values)[math.ceil(0.99 * count) - 1]

    def broken_for_s(self, now_s: float, p99_ms: float, promised_ms: float) -> float:
        """How long the promise has been broken, 0: it is kept, or there is none.

        Broken is a p99 above it while results above it go on to come: one hiccup is no cause.
        """
        # Not known is not above: NaN compares as false.
        broken = p99_ms > promised_ms > 0.0 and self._is_going_on(now_s, promised_ms)
        if not broken:
            self._broken_since_s = None
        elif self._broken_since_s is None:
            self._broken_since_s = now_s
        return now_s - self._broken_since_s if self._broken_since_s is not None else 0.0

    def _is_going_on(self, now_s: float, promised_ms: float) -> bool:
        for at_s, latency_ms in reversed(self._values):
            if now_s - at_s > STILL_GOING_ON_S:
                return False
            if latency_ms > promised_ms:
                return True
        return False


class RateCounter:
    """Frames a second from counters that results carry: no result has to be seen for it."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._counts: dict[str, deque[tuple[float, int]]] = {}

    def add(self, now_s: float, station: str, processed: int) -> None:
        """A result of `station` says how many there were."""
        counts = self._counts.setdefault(station, deque(maxlen=256))
        if counts and processed < counts[-1][1]:
            counts.clear()  # the inspector started anew
        counts.append((now_s, processed))

    def fps(self, now_s: float) -> float:
        """Of the slowest station; NaN where there are none, or none for long enough."""
        rates = []
        for counts in self._counts.values():
            while counts and now_s - counts[0][0] > self._window_s:
                counts.popleft()
            if counts and counts[-1][0] - counts[0][0] >= MIN_SPAN_S:
                rates.append((counts[-1][1] - counts[0][1]) / (counts[-1][0] - counts[0][0]))
        return min(rates, default=math.nan)

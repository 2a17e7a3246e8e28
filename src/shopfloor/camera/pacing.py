"""Drift-free pacing for sources that could deliver their frames at once."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Says when the next frame is due: frame n at start + n / rate, whatever the frames cost.

    rate_hz: frames per second; 0 means as fast as they are asked for.
    clock_ns, sleep: steady clock in nanoseconds and a sleep in seconds; given by tests.

    A source that falls behind by more than one period starts a new schedule instead of catching up
    in a burst, which no camera does.
    """

    def __init__(
        self,
        rate_hz: float,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period_ns = 1e9 / rate_hz if rate_hz > 0 else 0.0
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._start_ns = 0
        self._count = -1

    def wait(self, timeout_s: float, after_start_ns: int | None = None) -> bool:
        """Wait until the next frame is due, at most `timeout_s`; True when it is due now.

        after_start_ns: when it is due, counted from the first frame, for frames that keep their own
            times where no rate is given.
        """
        now_ns = self._clock_ns()
        if self._period_ns == 0.0 and after_start_ns is None:
            return True
        if self._count < 0:
            self._start_ns, self._count = now_ns, 0
        if self._period_ns == 0.0:
            due_ns = self._start_ns + (after_start_ns or 0)
        else:
            due_ns = self._start_ns + round(self._count * self._period_ns)
            if now_ns - due_ns > self._period_ns:
                self._start_ns, self._count, due_ns = now_ns, 0, now_ns
        left_s = (due_ns - now_ns) / 1e9
        if left_s > timeout_s:
            self._sleep(timeout_s)
            return False
        if left_s > 0:
            self._sleep(left_s)
        self._count += 1
        return True

    def start_again(self) -> None:
        """The frames' own times begin anew, one period of nothing behind the last."""
        if self._period_ns == 0.0:
            self._count = -1

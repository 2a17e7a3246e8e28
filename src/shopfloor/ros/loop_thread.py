"""A thread that goes round until it is asked to end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class LoopThread:
    """Runs one function at a time; it looks at `stopping`, or waits on it, and returns when set.

    `start` and `stop` belong to one thread.
    """

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self, run: Callable[[], None]) -> None:
        """Begin `run`; the one before must have been stopped."""
        self.stopping.clear()
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait until it has; safe to call twice."""
        self.stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

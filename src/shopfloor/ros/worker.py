"""Work that must not run on the executor: one thread, a queue of one, results handed back.

Frames are latest-wins: a worker that is busy when two frames arrive skips the older one and says
so. Results wait in a bounded queue until the executor thread collects them with `drain`; the node
wakes its executor through a guard condition (see `ShopfloorNode.worker`). Nothing here needs ROS.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

JOB_LIMIT_S = 10.0
"""Far above what a job takes on a host at its limit; whatever may take longer says so."""


class LatestSlot(Generic[T]):
    """A queue of one: a new item replaces the one that still waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Written in C: with cold caches it wakes its reader in half the time of a Condition.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._item: T | None = None
        self._closed = False
        self.replaced = 0

    def put(self, item: T) -> bool:
        """Store `item`; True when an older one was thrown out for it."""
        with self._lock:
            replaced = self._item is not None
            self.replaced += replaced
            self._item = item
        if not replaced:
            self._bell.put(None)
        return replaced

    def take(self, timeout_s: float) -> T | None:
        """Wait for an item and remove it; None after `timeout_s` or when closed. For one thread."""
        if self._closed:
            return None
        try:
            self._bell.get(timeout=timeout_s)
        except Empty:
            return None
        with self._lock:
            item, self._item = self._item, None
        return item

    def close(self) -> None:
        """Wake whoever waits; a waiting item is dropped."""
        with self._lock:
            self._closed = True
            self._item = None
        self._bell.put(None)


@dataclass(frozen=True)
class Done(Generic[T, R]):
    """A piece of work that ended: `result`, or the `error` that it raised."""

    item: T
    result: R | None
    error: Exception | None
    started_ns: int
    finished_ns: int


@dataclass(frozen=True)
class Progress:
    """What a supervisor asks of a worker: is it moving? `limit_s`: longest time for one item."""

    name: str
    done: int
    busy: bool
    busy_for_ms: float
    limit_s: float

    @property
    def stuck(self) -> str:
        """In words, if it is busy with one item for longer than it may be; else empty."""
        if self.busy_for_ms <= self.limit_s * 1e3:
            return ""
        took = f"on one job for {self.busy_for_ms / 1e3:.0f} s, allowed {self.limit_s:g} s"
        return f"worker '{self.name}' is stuck: {took}"


class Worker(Generic[T, R]):
    """Runs `work(item)` on its own thread and `deliver(done)` from whoever calls `drain`.

    name: thread name, seen in `top -H` and in diagnostics.
    wake: called from the worker thread when a result waits; must be thread-safe.
    max_results: results kept when nobody drains; beyond it the oldest is dropped and counted.
    limit_s: longest time that one item may take before the worker counts as stuck.
    period_s: where it is given, `work(None)` runs this often by itself.
    quiet: a result of None is no news and wakes nobody; always so with a period.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], R | None],
        deliver: Callable[[Done[T, R]], None],
        wake: Callable[[], None],
        *,
        max_results: int = 16,
        limit_s: float = JOB_LIMIT_S,
        period_s: float | None = None,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self.limit_s = limit_s
        self._period_s = period_s
        self._quiet = quiet or period_s is not None
        self._work = work
        self._deliver = deliver
        self._wake = wake
        self._slot: LatestSlot[T] = LatestSlot()
        self._results: deque[Done[T, R]] = deque(maxlen=max_results)
        self._stopping = False
        self._busy_since_ns = 0
        self.done = 0
        self.failed = 0
        self.lost_results = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def replaced(self) -> int:
        """Items thrown out because a newer one came before the worker was free."""
        return self._slot.replaced

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: T) -> bool:
        """Offer an item; True when it replaced one that waited."""
        return self._slot.put(item)

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Finish the present item, drop the waiting one; False if the thread is still busy."""
        self._stopping = True
        self._slot.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drain(self) -> None:
        """Deliver the results that wait, on the calling thread."""
        while True:
            try:
                done = self._results.popleft()
            except IndexError:
                return
            self._deliver(done)

    def progress(self) -> Progress:
        """How far the worker is; `busy_for_ms` grows while one item takes long."""
        since = self._busy_since_ns
        busy_for_ms = (time.monotonic_ns() - since) / 1e6 if since else 0.0
        return Progress(self.name, self.done, bool(since), busy_for_ms, self.limit_s)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping:
            wait_s = 0.5 if self._period_s is None else max(due_s - time.monotonic(), 0.0)
            item = self._slot.take(timeout_s=wait_s)
            if self._stopping or (item is None and self._period_s is None):
                continue
            period_s = self._period_s or 0.0
            due_s = max(due_s, time.monotonic() - period_s) + period_s
            if not self._do(item, time.monotonic_ns):
                continue
            self._wake()

    def _do(self, item: T | None, now_ns: Callable[[], int]) -> bool:
        """Work on it; whether there is a result to collect."""
        started = self._busy_since_ns = now_ns()
        result: R | None = None
        error: Exception | None = None
        try:
            result = self._work(item)  # type: ignore[arg-type]
        except Exception as caught:  # a bad item must never end the worker
            error = caught
            self.failed += 1
        finished = now_ns()
        self._busy_since_ns = 0
        self.done += 1
        if self._quiet and result is None and error is None:
            return False
        if len(self._results) == self._results.maxlen:
            self.lost_results += 1
        self._results.append(Done(item, result, error, started, finished))  # type: ignore[arg-type]
        return True

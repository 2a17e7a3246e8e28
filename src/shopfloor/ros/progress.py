"""Does a node move? Its workers' jobs, and the exceptions that its callbacks and workers raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shopfloor_msgs.msg import WorkerProgress

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.worker import Worker

BROKEN_S = 5.0
"""So long an exception stands in /diagnostics as an error; the node itself goes on."""


class NodeProgress:
    """The workers of one node, and what broke last."""

    def __init__(self, steady_ns: Callable[[], int]) -> None:
        self._steady_ns = steady_ns
        self.workers: list[Worker[Any, Any]] = []
        self._broken_ns: int | None = None
        self._broken = ""

    def broke(self, where: str, error: Exception) -> None:
        """`where` raised: a callback or a worker."""
        self._broken_ns = self._steady_ns()
        self._broken = f"exception in {where}: {type(error).__name__}: {error}"

    def stuck(self) -> str:
        """The worker that does not get on with its job, in words; empty where all do."""
        return next((text for w in self.workers if (text := w.progress().stuck)), "")

    def status(self) -> Status:
        """For /diagnostics: an error while a worker is stuck or something broke just now."""
        values: dict[str, object] = {f"{w.name} done": w.done for w in self.workers}
        text = self.stuck()
        if not text and self._broken_ns is not None:
            is_fresh = self._steady_ns() - self._broken_ns < BROKEN_S * 1e9
            text = self._broken if is_fresh else ""
        return Status(Level.ERROR if text else Level.OK, text or "moving", values)

    def messages(self) -> list[WorkerProgress]:
        """For the heartbeat."""
        found = [worker.progress() for worker in self.workers]
        return [
            WorkerProgress(name=p.name, done=p.done, busy=p.busy, busy_for_ms=p.busy_for_ms)
            for p in found
        ]

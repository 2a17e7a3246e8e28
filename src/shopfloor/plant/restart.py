"""When a process that ended is started again: back-off, limit, giving up."""

from __future__ import annotations

from collections import deque

from shopfloor.plant.plant_file import RestartPolicy
from shopfloor.ros.network import EXIT_CODE


class RestartCounter:
    """Applies a policy to one process. Times are seconds of one steady clock."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._restarts: deque[float] = deque()

    def wanted(self, returncode: int) -> bool:
        """Whether a process that ended so is to run again, limits aside.

        One that ended to meet the other hosts is, whatever the policy says of failures.
        """
        when = self._policy.when
        failed = returncode != 0
        return when == "always" or (when == "on_failure" and failed) or returncode == EXIT_CODE

    def next_delay_s(self, now_s: float, returncode: int = 1) -> float | None:
        """How long to wait before the next start; None when the limit is reached.

        The wait doubles with each restart that is not older than `within_s`. One that ended to
        meet the other hosts has not failed, and does not count.
        """
        if returncode == EXIT_CODE:
            return self._policy.backoff_s
        while self._restarts and now_s - self._restarts[0] > self._policy.within_s:
            self._restarts.popleft()
        recent = len(self._restarts)
        if recent >= self._policy.limit:
            return None
        self._restarts.append(now_s)
        return min(self._policy.backoff_s * 2.0 ** min(recent, 30), self._policy.backoff_max_s)

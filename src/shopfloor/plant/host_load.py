"""Load of this computer and of single processes, by psutil. What cannot be read is NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import psutil

_MB = 1e6


@dataclass(frozen=True)
class HostUsage:
    """Load of the computer; field names and units as in the message HostLoad."""

    cpu_percent: float
    load_1min: float
    memory_used_percent: float
    memory_available_mb: float
    disk_used_percent: float
    disk_free_mb: float


@dataclass(frozen=True)
class ProcessUsage:
    """Load of one process; `cpu_percent` of one core, since the last call."""

    cpu_percent: float
    memory_mb: float
    uptime_s: float


UNKNOWN_PROCESS = ProcessUsage(math.nan, math.nan, math.nan)


def host_usage(folder: str = "/") -> HostUsage:
    """Load of the computer; CPU since the last call. `folder`: on the disk that counts."""
    memory = psutil.virtual_memory()
    try:
        disk = psutil.disk_usage(folder)
        disk_percent, disk_free = float(disk.percent), disk.free / _MB
    except OSError:
        disk_percent = disk_free = math.nan
    return HostUsage(
        cpu_percent=psutil.cpu_percent(),
        load_1min=psutil.getloadavg()[0],
        memory_used_percent=memory.percent,
        memory_available_mb=memory.available / _MB,
        disk_used_percent=disk_percent,
        disk_free_mb=disk_free,
    )


class ProcessMeter:
    """Reads processes of this host by id, and remembers them between calls."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def usage(self, pid: int, now_unix_s: float) -> ProcessUsage:
        """Load of a process; NaN throughout where it is gone."""
        try:
            process = self._known.setdefault(pid, psutil.Process(pid))
            with process.oneshot():
                return ProcessUsage(
                    process.cpu_percent(),
                    process.memory_info().rss / _MB,
                    now_unix_s - process.create_time(),
                )
        except psutil.Error:
            self._known.pop(pid, None)
            return UNKNOWN_PROCESS

    def keep_only(self, pids: set[int]) -> None:
        """Forget all others."""
        for pid in set(self._known) - pids:
            del self._known[pid]

"""How busy the busiest CPU core is, from the kernel's counters (proc_stat(5))."""

from __future__ import annotations

import math
from pathlib import Path

from shopfloor.thermal.sysfs import read_text


class CpuLoad:
    """Load between one reading and the next."""

    def __init__(self, stat: Path) -> None:
        """stat: /proc/stat but in tests and simulations."""
        self._stat = stat
        self._before: dict[str, tuple[int, int]] = {}

    def read(self) -> float:
        """0..1 of the busiest core since the last call; NaN: the first one, or not known."""
        now: dict[str, tuple[int, int]] = {}
        for line in read_text(self._stat).splitlines():
            if not line.startswith("cpu"):
                break
            name, *counts = line.split()
            # Guests' time, the last two, is part of the user's.
            ticks = [int(count) for count in counts[:8] if count.isdecimal()]
            if name != "cpu" and len(ticks) >= 5:
                now[name] = sum(ticks), ticks[3] + ticks[4]
        before, self._before = self._before, now
        loads = []
        for name in now.keys() & before.keys():
            passed, idle = now[name][0] - before[name][0], now[name][1] - before[name][1]
            if passed > 0:
                loads.append(min(max(1.0 - idle / passed, 0.0), 1.0))
        return max(loads, default=math.nan)

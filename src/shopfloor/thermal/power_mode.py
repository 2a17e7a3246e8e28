"""Power modes of a Jetson: names and highest clocks, from nvpmodel's table and status file.

Facts: Jetson Linux Developer Guide, "Platform Power and Performance", nvpmodel. A mode is a block
of `/etc/nvpmodel.conf` with lines such as `CPU_A78_0 MAX_FREQ 1728000` (kHz) and `GPU MAX_FREQ
612000000` (Hz); -1 is no cap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>([^<]*)")
_CAP = re.compile(r"^\s*(CPU\w*|GPU)\s+MAX_FREQ\s+(\d+)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"#.*")
_ACTIVE = re.compile(r"pmode:\s*(\d+)")


@dataclass(frozen=True)
class PowerMode:
    """A mode by its name. cpu_khz, gpu_hz: highest clocks that it allows; infinity: no cap."""

    name: str = ""
    cpu_khz: float = math.inf
    gpu_hz: float = math.inf


def read_table(text: str) -> dict[int, PowerMode]:
    """All modes of nvpmodel's table by their number; of CPU clusters the lowest cap counts."""
    return {
        int(number): _mode(name, caps)
        for number, name, caps in _MODE.findall(_COMMENT.sub("", text))
    }


def active(status: str, table: Mapping[int, PowerMode]) -> PowerMode:
    """The mode of `pmode:0002` or `pmode:0002 fmode:quiet`; another text is its own name."""
    number = _ACTIVE.search(status)
    if number is None:
        return PowerMode(status)
    return table.get(int(number[1]), PowerMode(f"mode {int(number[1])}"))


def _mode(name: str, caps: str) -> PowerMode:
    cpu_khz = gpu_hz = math.inf
    for clock, number in _CAP.findall(caps):
        cap = float(number) or math.inf
        if clock == "GPU":
            gpu_hz = min(gpu_hz, cap)
        else:
            cpu_khz = min(cpu_khz, cap)
    return PowerMode(name, cpu_khz, gpu_hz)

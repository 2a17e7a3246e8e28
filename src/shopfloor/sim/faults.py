"""Faults of the simulated camera on a timetable: `KIND@START+DURATION`, in seconds.

unplug: the device is gone, its socket too; the belt runs on and parts pass unseen.
freeze: the device delivers the picture from before over and over, with new counters and stamps.
corrupt: frames arrive with half of their pixels.
gap: frames are lost on the way; only the jump of the device's counter tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FAULT_KINDS = ("unplug", "freeze", "corrupt", "gap")

_PATTERN = re.compile(r"(?P<kind>[a-z]+)@(?P<start>\d+(\.\d+)?)\+(?P<duration>\d+(\.\d+)?)")


@dataclass(frozen=True)
class Fault:
    """One fault, from `start_s` on for `duration_s` on the timetable's clock."""

    kind: str
    start_s: float
    duration_s: float


def parse_fault(text: str) -> Fault:
    """Read `KIND@START+DURATION`, for example `unplug@20+3`. Raises ValueError."""
    match = _PATTERN.fullmatch(text.replace(" ", ""))
    if match is None or match["kind"] not in FAULT_KINDS:
        raise ValueError(
            f"fault {text!r} is not KIND@START+DURATION in seconds such as 'unplug@20+3'; "
            f"kinds are {', '.join(FAULT_KINDS)}"
        )
    duration_s = float(match["duration"])
    if duration_s <= 0:
        raise ValueError(f"fault {text!r} lasts 0 s, it must last longer")
    return Fault(match["kind"], float(match["start"]), duration_s)


class Timetable:
    """Which faults are on; the clock starts at `start_ns` (steady)."""

    def __init__(self, faults: Iterable[Fault], start_ns: int) -> None:
        self._faults = tuple(faults)
        self._start_ns = start_ns

    def active(self, now_ns: int) -> frozenset[str]:
        """The kinds of fault that are on at `now_ns`."""
        at_s = (now_ns - self._start_ns) / 1e9
        return frozenset(
            fault.kind
            for fault in self._faults
            if fault.start_s <= at_s < fault.start_s + fault.duration_s
        )

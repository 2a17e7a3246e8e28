"""What the graph says about machines, turned into what the scheduler does about it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FailRuns:
    """Counts FAIL verdicts in a row at each station. feeders: station to machine."""

    feeders: dict[str, str]
    limit: int
    _runs: dict[str, int] = field(default_factory=dict)

    def add(self, station: str, failed: bool) -> str:
        """One verdict; the machine to hold where its run is full, else empty."""
        machine = self.feeders.get(station, "")
        if not machine or not self.limit:
            return ""
        run = self._runs[station] = self._runs.get(station, 0) + 1 if failed else 0
        if run < self.limit:
            return ""
        self._runs[station] = 0
        return machine

    def forget(self, machine: str) -> None:
        """Somebody has acknowledged: count anew for the stations that it feeds."""
        for station, fed_by in self.feeders.items():
            if fed_by == machine:
                self._runs[station] = 0


def thermal_factor(rung: int, rung_count: int, fps: float, full_fps: float) -> float:
    """How fast a station still is: by the promised rate where it is known, else by the rung."""
    if rung <= 0:
        return 1.0
    if full_fps > 0.0 and 0.0 < fps < full_fps:
        return max(fps / full_fps, 0.05)
    return max(1.0 - rung / max(rung_count, rung + 1), 0.05)


def pairs(rows: tuple[str, ...], name: str) -> dict[str, str]:
    """`LEFT=RIGHT` rows as a dictionary. Raises ValueError naming parameter and row."""
    found = {}
    for row in rows:
        left, sign, right = row.partition("=")
        if not (left and sign and right):
            raise ValueError(f"{name}: {row!r} is not NAME=MACHINE")
        found[left] = right
    return found

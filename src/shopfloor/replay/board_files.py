"""The recorded temperatures as sysfs files, for a thermal_watchdog that is replayed.

ThermalState carries what each sensor said, at 2 Hz. Faults that it names come back as what causes
them: a sensor that is OFFLINE, out of range or gone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


class BoardFiles:
    """The folder that the watchdog takes for `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, Path] = {}
        (root / "sys" / "class" / "thermal").mkdir(parents=True, exist_ok=True)

    def update(self, zones: Any) -> None:
        """Write what the zones of a recorded ThermalState say."""
        for zone in zones:
            folder = self._folders.get(zone.name)
            if folder is None:
                folder = self._folders[zone.name] = self._make(zone)
            celsius = zone.temperature_celsius
            text = str(round(1000 * celsius)) if math.isfinite(celsius) else "-256000"
            (folder / "temp").write_text(f"{text}\n", encoding="ascii")

    def _make(self, zone: Any) -> Path:
        number = len(self._folders)
        folder = self.root / "sys" / "class" / "thermal" / f"thermal_zone{number}"
        folder.mkdir()
        (folder / "type").write_text(f"{zone.name}\n", encoding="utf-8")
        trips = {"passive": zone.limit_celsius, "critical": zone.critical_celsius}
        known = {kind: celsius for kind, celsius in trips.items() if math.isfinite(celsius)}
        for index, (kind, celsius) in enumerate(known.items()):
            (folder / f"trip_point_{index}_type").write_text(f"{kind}\n", encoding="ascii")
            text = f"{round(1000 * celsius)}\n"
            (folder / f"trip_point_{index}_temp").write_text(text, encoding="ascii")
        return folder


class Boards:
    """The boards of several hosts, each with a folder of its own below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._boards: dict[str, BoardFiles] = {}

    def folder(self, host: str) -> Path:
        """That of a host with a watchdog; it is there from now on."""
        if host not in self._boards:
            number = len(self._boards)  # a host's name need not be one of a folder
            self._boards[host] = BoardFiles(self._root / str(number))
        return self._boards[host].root

    @property
    def hosts(self) -> frozenset[str]:
        """Those with a folder."""
        return frozenset(self._boards)

    def update(self, state: Any) -> str:
        """Take in a recorded ThermalState; the host, empty where nobody watches it."""
        board = self._boards.get(state.host)
        if board is None:
            return ""
        board.update(state.zones)
        return str(state.host)

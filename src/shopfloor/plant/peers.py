"""The other hosts, known by the heartbeats of their line managers. Pure: no ROS, no clock."""

from __future__ import annotations

from collections.abc import Mapping

PEER_LIMIT_S = 1.0
"""Ten heartbeats may be lost on the way between hosts before a host counts as gone."""


class Peers:
    """`managers`: host of each line manager, by the manager's full name."""

    def __init__(self, managers: Mapping[str, str]) -> None:
        self._managers = dict(managers)
        self._beat_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._managers)

    def beat(self, name: str, now_s: float) -> None:
        """A heartbeat of any node."""
        if name in self._managers:
            self._beat_s[name] = now_s

    def held_up(self, seconds: float, now_s: float) -> None:
        """Nobody here could have read a heartbeat for so long."""
        for name, beat_s in self._beat_s.items():
            self._beat_s[name] = min(now_s, beat_s + seconds)

    def unheard(self) -> list[str]:
        """Hosts that were never heard."""
        return [host for name, host in self._managers.items() if name not in self._beat_s]

    def silent(self, now_s: float) -> list[str]:
        """Hosts that were heard once and are not now."""
        return [
            self._managers[name]
            for name, beat_s in self._beat_s.items()
            if now_s - beat_s > PEER_LIMIT_S
        ]

"""/diagnostics of one node: checks asked when it publishes, and counters of what went wrong.

A check returns a `Status`; what it does not know is STALE, never OK. The worst check is the node's
level, and a change of level is published at once.
"""

from __future__ import annotations

import enum
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


class Level(enum.IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Status:
    """The answer of one check: level, cause in words, numbers (key to value, units in the key)."""

    level: Level
    message: str
    values: dict[str, object] = field(default_factory=dict)


Check = Callable[[], Status]


class Diagnostics:
    """The checks and counters of one node."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._host = socket.gethostname()
        self._checks: dict[str, Check] = {}
        self._last_levels: dict[str, Level] = {}
        self._warned: dict[str, int] = {}
        self.counters: Counter[str] = Counter()
        self.last_cause: dict[str, str] = {}

    def add(self, name: str, check: Check) -> None:
        """Ask `check` each time; a check of the same name is replaced."""
        self._checks[name] = check

    def remove(self, name: str) -> None:
        """Ask it no more."""
        self._checks.pop(name, None)

    def count(self, event: str, cause: str = "") -> int:
        """Count something that went wrong and keep its latest cause; returns the count."""
        self.counters[event] += 1
        if cause:
            self.last_cause[event] = cause
        return self.counters[event]

    def evaluate(self) -> tuple[dict[str, Status], bool]:
        """Every check's status, and whether a level changed since the last call."""
        statuses = {name: self._ask(name, check) for name, check in self._checks.items()}
        statuses["events"] = self._events()
        levels = {name: status.level for name, status in statuses.items()}
        changed = levels != self._last_levels
        self._last_levels = levels
        return statuses, changed

    def message(self, statuses: dict[str, Status]) -> DiagnosticArray:
        """The array to publish; the caller stamps it."""
        array = DiagnosticArray()
        for name, status in statuses.items():
            array.status.append(
                DiagnosticStatus(
                    level=bytes([status.level]),
                    name=f"{self._node_name}: {name}",
                    message=status.message,
                    hardware_id=self._host,
                    values=[
                        KeyValue(key=key, value=_text(value))
                        for key, value in status.values.items()
                    ],
                )
            )
        return array

    def _ask(self, name: str, check: Check) -> Status:
        try:
            return check()
        except Exception as error:  # a check that breaks must not silence the others
            return Status(Level.ERROR, f"the check '{name}' failed: {error!r}")

    def _events(self) -> Status:
        """Counters as a status: WARN in the reports where one of them grew."""
        grown = [event for event, n in self.counters.items() if n > self._warned.get(event, 0)]
        self._warned = dict(self.counters)
        values: dict[str, object] = dict(self.counters)
        values.update({f"{event} (last)": cause for event, cause in self.last_cause.items()})
        if not grown:
            return Status(Level.OK, "nothing new", values)
        causes = "; ".join(f"{e}: {self.last_cause.get(e, 'see count')}" for e in grown)
        return Status(Level.WARN, causes, values)


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

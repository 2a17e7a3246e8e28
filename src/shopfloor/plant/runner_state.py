"""What the runner of a host knows of its processes, as a file for the line manager.

A process that is down cannot say why. The runner can: it saw how the process ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RUNNER_STATE_VARIABLE = "SHOPFLOOR_RUNNER_STATE"
"""Names the file to the processes."""


@dataclass(frozen=True)
class ProcessState:
    """pid: 0 while it is down. last_end: how it ended last, in words. gave_up: it stays down."""

    pid: int
    restarts: int
    last_end: str
    gave_up: bool


def write_runner_state(file: Path, processes: Mapping[str, ProcessState]) -> None:
    """Replace the file in one step; a reader sees the old content or the new."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({name: asdict(state) for name, state in processes.items()}), "utf-8")
    os.replace(new, file)


class RunnerStateReader:
    """Reads the file when it has changed; empty where no runner writes one."""

    def __init__(self, file: str = "") -> None:
        self._file = file or os.environ.get(RUNNER_STATE_VARIABLE, "")
        self._stamp = (0, 0)
        self._processes: dict[str, ProcessState] = {}

    def read(self) -> Mapping[str, ProcessState]:
        """The processes by name; what was read last where the file cannot be read."""
        if not self._file:
            return {}
        try:
            stat = os.stat(self._file)
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
                raw = json.loads(Path(self._file).read_text("utf-8"))
                self._processes = {name: ProcessState(**state) for name, state in raw.items()}
                self._stamp = stamp
        except (OSError, ValueError, TypeError, AttributeError):
            return self._processes
        return self._processes

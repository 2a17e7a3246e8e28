"""`python -m shopfloor.replay run` as CI of a plant would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 280.0
"""Half a minute at most on two idle cores; only a replay that hangs ends here."""


@dataclass(frozen=True)
class Replayed:
    code: int
    output: str
    data: dict[str, Any]

    def differences(self) -> set[tuple[str, str, str]]:
        """Node, part and field of each."""
        return {
            (d["node"].rpartition("/")[2], d["part"], d["field"]) for d in self.data["differences"]
        }


def replay(bag: Path, folder: Path, *arguments: str) -> Replayed:
    """Run `bag` in `folder`: exit code, output and data of the command line."""
    file = folder / "replay.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "shopfloor.replay", "run", str(bag), "--json", str(file)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert file.exists(), done.stdout
    return Replayed(done.returncode, done.stdout, json.loads(file.read_text(encoding="utf-8")))

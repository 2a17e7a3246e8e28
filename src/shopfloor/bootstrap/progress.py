"""One line per stage with its seconds; a stage's own output goes to a log file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import BootstrapError

_TAIL_LINES = 25


def say(text: str) -> None:
    """Writes one line to stderr, so that stdout belongs to the command."""
    print(f"run: {text}", file=sys.stderr, flush=True)


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Names a stage when it begins and adds its seconds when it ends."""
    print(f"run: {text} ... ", end="", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"failed after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def call(command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path) -> None:
    """Runs a command with its output in `log`; BootstrapError with the log's end if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            check=False,
        )
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-_TAIL_LINES:])
        raise BootstrapError(
            f"{Path(command[0]).name} failed with {done.returncode}; the end of {log}:\n{tail}"
        )

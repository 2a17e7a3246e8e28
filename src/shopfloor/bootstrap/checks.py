"""Linters and tests: what `./run test` runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .layout import Layout
from .progress import say

SUITES = ("unit", "graph", "launch", "replay")
"""Folders of `test/` that `./run test` runs, in this order."""

# SIGKILL leaks the shared memory of Fast DDS: the tests get a /dev/shm of their own.
_PRIVATE_SHM = 'mount -t tmpfs -o mode=1777 shopfloor /dev/shm && exec "$@"'


def run_tests(layout: Layout, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Exit code: 0 where everything passes.

    Without arguments: ruff, mypy, then every suite. Arguments go to pytest, and the linters are
    left out.
    """
    failed = []
    if not arguments:
        for name, command in _linters(layout):
            done = subprocess.run(command, cwd=layout.root, env=dict(environment), check=False)
            if done.returncode:
                failed.append(name)
    code = _pytest(layout, environment, arguments)
    if failed:
        say(f"failed before the tests: {' and '.join(failed)}, see above")
    return code or int(bool(failed))


def _linters(layout: Layout) -> list[tuple[str, list[str]]]:
    ruff = shutil.which("ruff", path=f"{layout.venv / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return [
        ("ruff", [ruff or "ruff", "check", "."]),
        ("mypy", [str(layout.python), "-m", "mypy"]),
    ]


def _pytest(layout: Layout, environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    command = [str(layout.python), "-m", "pytest"]
    if environment.get("CI"):
        command += ["--color=no", "--durations=10"]
    command += arguments
    if not names_tests(layout.root, arguments):
        command += suites(layout.root)
    return subprocess.run(
        [*_private_shm(environment), *command], cwd=layout.root, env=dict(environment), check=False
    ).returncode


def suites(root: Path) -> list[str]:
    """Folders of the suites that have tests, relative to `root`."""
    folders = [root / "test" / name for name in SUITES]
    return [str(path.relative_to(root)) for path in folders if any(path.rglob("test_*.py"))]


def names_tests(root: Path, arguments: Sequence[str]) -> bool:
    """Whether an argument is a path, or a test in one (`FILE::NAME`)."""
    paths = [item.split("::", 1)[0] for item in arguments if not item.startswith("-")]
    return any((root / path).exists() for path in paths if path)


def _private_shm(environment: Mapping[str, str]) -> list[str]:
    """Command prefix that gives the tests a /dev/shm of their own, where that is allowed."""
    unshare = shutil.which("unshare", path=environment.get("PATH"))
    if unshare:
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        prefix = [unshare, *user, "--mount", "sh", "-c", _PRIVATE_SHM, "sh"]
        if not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
            return prefix
    say("no private /dev/shm for the tests: 'unshare --mount' is not allowed here")
    return []

"""What the machine itself must have: a C++ compiler, Python's headers and its venv module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from .errors import BootstrapError
from .progress import stage


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def missing_packages(
    environment: Mapping[str, str],
    has_module: Callable[[str], bool] = _has_module,
    include: Path | None = None,
) -> list[str]:
    """Debian packages that are needed and not there; empty when nothing is missing."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = environment.get("PATH")
    packages = []
    for variable, default in (("CC", "cc"), ("CXX", "c++")):
        compiler = (environment.get(variable) or default).split()[0]
        if not shutil.which(compiler, path=path):
            packages = ["g++"]
    if not ((include or Path(sysconfig.get_path("include"))) / "Python.h").is_file():
        packages.append(f"{python}-dev")
    if not (has_module("venv") and has_module("ensurepip")):
        packages.append(f"{python}-venv")
    return packages


def ensure_host_packages(environment: Mapping[str, str]) -> None:
    """Installs what is missing with apt-get when root.

    Raises BootstrapError with the command to type where that is not possible.
    """
    packages = missing_packages(environment)
    if not packages:
        return
    command = f"apt-get install --yes {' '.join(packages)}"
    if sys.base_prefix != "/usr" and any("python" in package for package in packages):
        raise BootstrapError(
            f"missing (names as in Debian): {' '.join(packages)}, for the Python in "
            f"{sys.base_prefix}; take another one: PYTHON=/usr/bin/python3 ./run ..."
        )
    if not shutil.which("apt-get", path=environment.get("PATH")):
        raise BootstrapError(f"missing (names as in Debian): {' '.join(packages)}; install them")
    if os.geteuid() != 0:
        raise BootstrapError(f"missing: {' '.join(packages)}. Install with: sudo {command}")
    quiet = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
    with stage(f"apt-get install {' '.join(packages)}"):
        for step in ("apt-get update", f"{command} --no-install-recommends"):
            done = subprocess.run(
                step.split(), env=quiet, capture_output=True, text=True, check=False
            )
            if done.returncode:
                output = (done.stdout + done.stderr).strip()
                raise BootstrapError(f"'{step}' failed:\n{output[-2000:]}")
    importlib.invalidate_caches()
    left = missing_packages(environment)
    if left:
        raise BootstrapError(f"apt installed {' '.join(packages)}, yet missing: {' '.join(left)}")

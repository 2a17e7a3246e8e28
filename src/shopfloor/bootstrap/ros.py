"""Which ROS 2 is used: a sourced one, or the wheels in `.venv`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BootstrapError

DISTRIBUTIONS = ("jazzy", "kilted", "lyrical")
WHEELS_DISTRIBUTION = "jazzy"
PYTHONS = ((3, 10), (3, 13))
"""Oldest and newest Python that is supported."""


@dataclass(frozen=True)
class Ros:
    """The ROS 2 in use; `prefix` is None for the wheels."""

    distribution: str
    prefix: Path | None = None

    @property
    def from_wheels(self) -> bool:
        """True where ROS 2 comes from the wheels in `.venv`."""
        return self.prefix is None

    def describe(self) -> str:
        """One phrase for messages and stamps."""
        where = "from wheels" if self.prefix is None else f"in {self.prefix}"
        return f"ROS 2 {self.distribution} {where}"


def find_ros(environment: Mapping[str, str]) -> Ros:
    """The sourced ROS 2 if there is one, else the wheels.

    Sourced is what AMENT_PREFIX_PATH names, has rclpy and is no virtual environment: a shell with
    the `.venv/setup.bash` of this or another checkout counts as wheels. Raises BootstrapError
    where a distribution is sourced that is not supported.
    """
    distribution = environment.get("ROS_DISTRO", "")
    for entry in filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        prefix = Path(entry)
        if (prefix / "pyvenv.cfg").exists() or not (prefix / "share" / "rclpy").is_dir():
            continue
        if distribution not in DISTRIBUTIONS:
            raise BootstrapError(
                f"ROS_DISTRO is '{distribution}' ({prefix}); supported: "
                f"{', '.join(DISTRIBUTIONS)}. A shell without a sourced ROS 2 uses wheels."
            )
        return Ros(distribution, prefix)
    return Ros(WHEELS_DISTRIBUTION)


def check_python(
    ros: Ros,
    version: tuple[int, int] = sys.version_info[:2],
    platform: str = sys.platform,
    machine: str = os.uname().machine,
) -> None:
    """Raises BootstrapError where this interpreter or machine cannot be used with `ros`."""
    low, high = PYTHONS
    text = f"{version[0]}.{version[1]}"
    if not low <= version <= high:
        raise BootstrapError(
            f"Python {text} ({sys.executable}) is not supported; use 3.10 to 3.13, "
            "for example PYTHON=python3.12 ./run setup"
        )
    if ros.prefix is None:
        if (platform, machine) != ("linux", "x86_64"):
            raise BootstrapError(
                f"there are no ROS 2 wheels for {platform} on {machine}; install ROS 2 Jazzy with "
                "apt or use a container, source its setup.bash and call ./run again"
            )
        return
    built_for = [path.name for path in sorted((ros.prefix / "lib").glob("python3.*"))]
    if built_for and f"python{text}" not in built_for:
        raise BootstrapError(
            f"{ros.describe()} is built for {', '.join(built_for)}, not for Python {text} "
            f"({sys.executable}); name the right one: PYTHON=/usr/bin/python3 ./run ..."
        )

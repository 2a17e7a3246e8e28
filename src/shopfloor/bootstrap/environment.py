"""The variables that a process of the workspace needs.

`workspace_environment` gives a child process what `source .venv/setup.bash && source
install/setup.bash` gives a shell, with `src` in front so that edits need no build.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .layout import Layout
from .ros import Ros
from .wheels import library_folders

_HERE = Path(__file__).resolve().parent


def prepend(environment: dict[str, str], name: str, folders: list[Path]) -> None:
    """Puts the folders in front of the path list `name`, each once, in the order given."""
    front = [str(folder) for folder in folders]
    rest = [p for p in environment.get(name, "").split(os.pathsep) if p and p not in front]
    environment[name] = os.pathsep.join([*front, *rest])


def remove(environment: dict[str, str], name: str, *folders: Path) -> None:
    """Takes the folders and all below them from the path list `name`."""
    kept = [
        item
        for item in environment.get(name, "").split(os.pathsep)
        if item and not any(Path(item).is_relative_to(folder) for folder in folders)
    ]
    environment.pop(name, None)
    if kept:
        environment[name] = os.pathsep.join(kept)


def base_environment(layout: Layout, ros: Ros, base: Mapping[str, str]) -> dict[str, str]:
    """Variables of `.venv` and its ROS 2 alone: what `colcon build` gets.

    The workspace's own packages are taken from the paths: a build must not find its old results.
    """
    environment = dict(base)
    environment.pop("PYTHONHOME", None)
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
        remove(environment, name, layout.install, layout.root / "src")
    environment["VIRTUAL_ENV"] = str(layout.venv)
    prepend(environment, "PATH", [layout.venv / "bin"])
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
    if ros.from_wheels:
        environment.update(
            ROS_VERSION="2",
            ROS_PYTHON_VERSION="3",
            ROS_DISTRO=ros.distribution,
            # Without it the wheels start Python a second time to set LD_LIBRARY_PATH.
            _ROS_WHEELS_BOOTSTRAP_COMPLETE="1",
        )
        prepend(environment, "AMENT_PREFIX_PATH", [layout.venv])
        prepend(environment, "CMAKE_PREFIX_PATH", [layout.venv])
        prepend(environment, "LD_LIBRARY_PATH", library_folders(layout.venv))
    else:
        # Programs of ROS 2 start the system's Python: it finds the packages of .venv here.
        site = sorted(layout.venv.glob("lib/python3.*/site-packages"))
        prepend(environment, "PYTHONPATH", site)
    if shutil.which("ninja", path=environment["PATH"]):
        environment.setdefault("CMAKE_GENERATOR", "Ninja")
    if shutil.which("ccache", path=environment["PATH"]):
        environment.setdefault("CMAKE_C_COMPILER_LAUNCHER", "ccache")
        environment.setdefault("CMAKE_CXX_COMPILER_LAUNCHER", "ccache")
    return environment


def workspace_environment(layout: Layout, ros: Ros, base: Mapping[str, str]) -> dict[str, str]:
    """Variables of a process that uses the built workspace and the Python sources in `src`."""
    environment = base_environment(layout, ros, base)
    prefix = layout.prefix
    site = sorted(
        [
            *prefix.glob("lib/python3.*/site-packages"),
            *prefix.glob("local/lib/python3.*/dist-packages"),
        ]
    )
    prepend(environment, "AMENT_PREFIX_PATH", [prefix])
    prepend(environment, "CMAKE_PREFIX_PATH", [prefix])
    prepend(environment, "LD_LIBRARY_PATH", [prefix / "lib"])
    prepend(environment, "PYTHONPATH", [layout.root / "src", *site])
    return environment


def setup_file(ros: Ros) -> str:
    """Text of `.venv/setup.bash` for shells."""
    if ros.prefix is None:
        return (_HERE / "setup_wheels.bash").read_text(encoding="utf-8")
    text = (_HERE / "setup_sourced.bash").read_text(encoding="utf-8")
    return text.replace("@PREFIX@", str(ros.prefix))

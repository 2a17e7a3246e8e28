"""Makes `.venv` and builds the packages, each only when what it is made from has changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .environment import base_environment, setup_file
from .errors import BootstrapError
from .host import ensure_host_packages
from .layout import PACKAGE, Layout
from .lock import Section, pin_name, pin_version, read_lock
from .progress import call, say, stage
from .ros import Ros, check_python
from .stamps import digest_files, digest_text, read_stamp, write_stamp
from .wheels import repair

_PACKAGE_FILES = ("CMakeLists.txt", "package.xml", "setup.cfg", "colcon.meta")
_FAILURE_LINES = 25
_TYPES = ("msg", "srv", "action")
_SHARED_FOLDERS = ("launch", "config", "models")

# Modules and programs whose name does not follow from the distribution's.
_MODULES = {"opencv-python-headless": "cv2", "pyyaml": "yaml", "empy": "em", "lark-parser": "lark"}
_PROGRAMS = ("cmake", "ninja", "ruff")

_PROBE = """
import importlib.metadata, importlib.util, json, shutil, sys
def there(name, module, program):
    if program:
        return shutil.which(program) is not None
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(module) is not None
    return True
print(json.dumps([row[0] for row in json.loads(sys.argv[1]) if there(*row)]))
"""


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Held while `.venv`, `build` or `install` change; waits for another `./run`."""
    with layout.guard.open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another ./run is setting up; waiting for it")
            fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def ensure_ready(layout: Layout, ros: Ros, environment: Mapping[str, str]) -> None:
    """Set-up and build where needed; returns at once when both are up to date.

    Raises BootstrapError.
    """
    if _venv_is_current(layout, ros, environment) and _build_is_current(layout):
        return
    with exclusive(layout):
        ensure_venv(layout, ros, environment)
        if not _build_is_current(layout):
            build(layout, ros, environment)


def ensure_venv(layout: Layout, ros: Ros, environment: Mapping[str, str]) -> None:
    """Makes or completes `.venv`; the caller holds `exclusive`."""
    if not _venv_is_current(layout, ros, environment):
        _make_venv(layout, ros, environment)


def _this_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _wanted_python(layout: Layout, environment: Mapping[str, str]) -> str:
    """The version that `.venv` has, unless PYTHON asks for another one."""
    stamp = read_stamp(layout.venv_stamp)
    return _this_python() if environment.get("PYTHON") else stamp.get("python", _this_python())


def venv_identity(layout: Layout, ros: Ros, python: str) -> dict[str, str]:
    """What a `.venv` must have been made for to be of use; its files name their place."""
    return {"root": str(layout.root), "ros": ros.describe(), "python": python}


def venv_stamp(layout: Layout, ros: Ros, python: str) -> dict[str, str]:
    """What `.venv` is made from."""
    here = Path(__file__).resolve().parent
    sections = read_lock(layout.lock_file)
    tools = [*sections["ros"].lines, *sections["build"].lines]
    tools += [line for line in sections["runtime"].lines if pin_name(line) == "numpy"]
    return {
        **venv_identity(layout, ros, python),
        "lock": digest_files(layout.root, [layout.lock_file]),
        "tools": digest_text([*tools, digest_files(here, [here / "wheels.py"])]),
        "shell": digest_text([setup_file(ros)]),
    }


def build_stamp(layout: Layout) -> dict[str, str]:
    """What `install` is made from: `.venv`, types, build files, and which data files there are."""
    root = layout.root
    sources = [root / name for name in _PACKAGE_FILES]
    sources += [root / "msgs" / name for name in ("CMakeLists.txt", "package.xml")]
    types = [path for kind in _TYPES for path in (root / "msgs" / kind).glob(f"*.{kind}")]
    data = [
        str(path.relative_to(root))
        for folder in _SHARED_FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    venv = read_stamp(layout.venv_stamp)
    return {
        "venv": digest_text(venv.get(key, "") for key in ("root", "ros", "python", "tools")),
        "types": digest_text(sorted(str(path.relative_to(root)) for path in types)),
        "sources": digest_files(root, sources + types),
        "data": digest_text(data),
    }


def _venv_is_current(layout: Layout, ros: Ros, environment: Mapping[str, str]) -> bool:
    wanted = venv_stamp(layout, ros, _wanted_python(layout, environment))
    return layout.python.exists() and read_stamp(layout.venv_stamp) == wanted


def _build_is_current(layout: Layout) -> bool:
    return (
        read_stamp(layout.build_stamp) == build_stamp(layout)
        and (layout.install / "setup.bash").is_file()
        and (layout.prefix / "share" / PACKAGE / "package.xml").is_file()
    )


def _make_venv(layout: Layout, ros: Ros, environment: Mapping[str, str]) -> None:
    """Makes `.venv` anew, or brings one that is complete up to the lock file."""
    python = _wanted_python(layout, environment)
    usable = (
        layout.python.exists()
        and venv_identity(layout, ros, python).items() <= read_stamp(layout.venv_stamp).items()
    )
    layout.venv_stamp.unlink(missing_ok=True)
    clean = {key: value for key, value in environment.items() if key != "PYTHONHOME"}
    # Otherwise the wheels start each Python twice.
    clean["_ROS_WHEELS_BOOTSTRAP_COMPLETE"] = "1"
    if ros.from_wheels:
        clean.pop("PYTHONPATH", None)
    if not usable:
        python = _this_python()
        check_python(ros)
        ensure_host_packages(environment)
        with stage(f"virtual environment: Python {python}, {ros.describe()}"):
            if layout.venv.exists():
                shutil.rmtree(layout.venv)
            options = [] if ros.from_wheels else ["--system-site-packages"]
            base: str = getattr(sys, "_base_executable", sys.executable)
            command = [base, "-m", "venv", *options, str(layout.venv)]
            call(command, layout.logs / "venv.log", clean, layout.root)
            (layout.venv / "COLCON_IGNORE").touch()
    sections = read_lock(layout.lock_file)
    if ros.from_wheels:
        _install_lock(layout, sections, clean)
        repair(layout.venv, *_include_folders(layout, clean))
    else:
        _install_lacking(layout, sections, clean)
    (layout.venv / "setup.bash").write_text(setup_file(ros), encoding="utf-8")
    write_stamp(layout.venv_stamp, venv_stamp(layout, ros, python))


def _pip(layout: Layout, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Calls pip; the user's own settings of pip stay in force."""
    command = [str(layout.python), "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", *arguments]
    call(command, layout.logs / "pip.log", environment, layout.root)


def _install_lock(
    layout: Layout, sections: Mapping[str, Section], environment: Mapping[str, str]
) -> None:
    count = sum(len(section.lines) for section in sections.values())
    with stage(f"{count} packages of {layout.lock_file.name}"):
        # First, as a source package of the list is built with it.
        setuptools = f"setuptools=={pin_version(sections['build'].lines, 'setuptools')}"
        _pip(layout, ["--no-deps", setuptools], environment)
        lock = ["--no-deps", "--no-build-isolation", "-r", str(layout.lock_file)]
        _pip(layout, lock, environment)


def _install_lacking(
    layout: Layout, sections: Mapping[str, Section], environment: Mapping[str, str]
) -> None:
    """What a sourced ROS 2 lacks, pinned; what apt installed stays in use."""
    lacking = lacking_pins(layout, sections, environment)
    if not lacking:
        return
    pins = [line for name in ("build", "runtime", "dev") for line in sections[name].lines]
    # ROS 2's binaries are bound to apt's NumPy, so that one is never replaced.
    kept = [line for line in pins if pin_name(line) != "numpy" or line in lacking]
    constraints = layout.venv / "constraints.txt"
    constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with stage(f"{len(lacking)} packages that the sourced ROS 2 lacks"):
        _pip(layout, ["-c", str(constraints), *lacking], environment)


def lacking_pins(
    layout: Layout, sections: Mapping[str, Section], environment: Mapping[str, str]
) -> list[str]:
    """Direct requirements that `.venv` on top of a sourced ROS 2 has at no version."""
    pins = {
        pin_name(line): line
        for name in ("build", "runtime", "dev")
        for line in sections[name].direct
    }
    question = [
        (name, _MODULES.get(name, name.replace("-", "_")), name if name in _PROGRAMS else "")
        for name in pins
    ]
    answer = _ask(layout, [_PROBE, json.dumps(question)], environment)
    there = set(json.loads(answer))
    return [line for name, line in pins.items() if name not in there]


def _include_folders(layout: Layout, environment: Mapping[str, str]) -> tuple[Path, Path]:
    code = "import numpy, sysconfig as s; print(s.get_path('include')); print(numpy.get_include())"
    python_include, numpy_include = _ask(layout, [code], environment).splitlines()
    return Path(python_include), Path(numpy_include)


def _ask(layout: Layout, arguments: list[str], environment: Mapping[str, str]) -> str:
    """Output of `python -c` in `.venv`."""
    done = subprocess.run(
        [str(layout.python), "-c", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BootstrapError(f"{layout.python} failed:\n{done.stderr.strip()[-1000:]}")
    return done.stdout


def build(layout: Layout, ros: Ros, environment: Mapping[str, str]) -> None:
    """Builds both packages.

    From nothing where `.venv` is another one than last time, or a type came or went: CMake's cache
    would name the old Python, and a type that was removed would stay installed.
    """
    stamp = build_stamp(layout)
    base = {key: stamp[key] for key in ("venv", "types")}
    old = read_stamp(layout.build_stamp)
    if any(old.get(key, value) != value for key, value in base.items()):
        shutil.rmtree(layout.build / PACKAGE, ignore_errors=True)
        shutil.rmtree(layout.prefix, ignore_errors=True)
    variables = base_environment(layout, ros, environment)
    colcon = shutil.which("colcon", path=variables["PATH"])
    if colcon is None:
        raise BootstrapError("no colcon in .venv nor on PATH: ./run clean, then ./run setup")
    # Otherwise colcon adds -l CORES, which leaves cores idle on a machine that others use too.
    variables.setdefault("MAKEFLAGS", f"-j{len(os.sched_getaffinity(0))}")
    command = [colcon, "build", "--symlink-install"]
    if ros.from_wheels:
        # The wheels have no rclcpp, so nothing could use C++ types; they take half the time.
        command += ["--cmake-args", "-DSHOPFLOOR_MSGS_CPP=OFF"]
    # Not a whole stamp, so a build that fails is done again, but what it was begun with is known.
    layout.build.mkdir(exist_ok=True)
    write_stamp(layout.build_stamp, base)
    started = time.time()
    with stage("message types and package (colcon build)"):
        try:
            call(command, layout.logs / "build.log", variables, layout.root)
        except BootstrapError as error:
            raise BootstrapError(f"{error}{_compiler_output(layout, started)}") from None
    write_stamp(layout.build_stamp, stamp)


def _compiler_output(layout: Layout, started: float) -> str:
    """The first failed step of the build begun at `started`: colcon itself does not show it."""
    log = layout.logs / "latest_build" / PACKAGE / "stdout_stderr.log"
    # Files are stamped by a clock that may lag some milliseconds.
    if not log.is_file() or log.stat().st_mtime < started - 1.0:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines):
        if "FAILED:" in line:
            return "\n" + "\n".join(lines[number : number + _FAILURE_LINES])
    return ""

"""The verbs of `./run`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shopfloor.demo import options as demo_options

from . import checks, setup
from .environment import workspace_environment
from .errors import BootstrapError
from .layout import Layout, find_root
from .progress import say
from .ros import find_ros

HELP = """\
usage: ./run VERB [ARGUMENTS]

verbs:
  demo [OPTIONS]         the whole graph on this machine; ./run demo --help lists the options
  test [PYTEST OPTIONS]  linters and all tests; with options or paths: pytest alone
  bench [NAME] [--quick] a benchmark of test/bench; without NAME: lists them
  setup                  makes .venv and builds the packages; the verbs above do it themselves
  build                  builds the packages again (colcon build --symlink-install)
  exec COMMAND...        runs a command with ROS 2 and the packages on its paths
  shell                  an interactive bash with the same
  clean                  removes .venv, build, install and log

examples:
  ./run demo --seconds 20
  ./run test -k ledger
  ./run test test/unit/test_docs.py
  ./run exec python -m shopfloor.plant check
  PYTHON=python3.12 ./run setup

environment:
  PYTHON    interpreter for .venv, 3.10 to 3.13 (default: the first that fits on PATH)
  PIP_*     pip's own settings, for a mirror of the package index for example

With a sourced ROS 2 (jazzy, kilted, lyrical) that one is used, otherwise ROS 2 Jazzy from wheels.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; its exit code, 2 where set-up is not possible."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"run: no verb '{verb}'; there are: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        return VERBS[verb](Layout(find_root()), rest)
    except BootstrapError as error:
        print(f"run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run: interrupted; the next ./run goes on", file=sys.stderr)
        return 130


def _caller_environment() -> dict[str, str]:
    """The caller's environment, without the path that `run` adds for this program."""
    environment = dict(os.environ)
    own = str(find_root() / "src")
    kept = [item for item in environment.get("PYTHONPATH", "").split(os.pathsep) if item != own]
    environment["PYTHONPATH"] = os.pathsep.join(kept)
    if not environment["PYTHONPATH"]:
        del environment["PYTHONPATH"]
    return environment


def _ready(layout: Layout) -> dict[str, str]:
    """Makes set-up and build current; the environment for a command of the workspace."""
    environment = _caller_environment()
    ros = find_ros(environment)
    setup.ensure_ready(layout, ros, environment)
    return workspace_environment(layout, ros, environment)


def _replace(command: Sequence[str | Path], environment: Mapping[str, str]) -> int:
    """Becomes the command: signals and exit code are its own."""
    words = [str(part) for part in command]
    program = shutil.which(words[0], path=environment.get("PATH"))
    if program is None:
        print(f"run: no command '{words[0]}'", file=sys.stderr)
        return 127
    os.execve(program, words, dict(environment))


def _demo(layout: Layout, rest: list[str]) -> int:
    demo_options.parse(rest)  # --help and mistakes are answered before the set-up, not after
    return _replace([layout.python, "-m", "shopfloor.demo", *rest], _ready(layout))


def _test(layout: Layout, rest: list[str]) -> int:
    return checks.run_tests(layout, _ready(layout), rest)


def benchmarks(layout: Layout) -> dict[str, Path]:
    """The programs of test/bench by name; helpers without a main part are none."""
    files = sorted((layout.root / "test" / "bench").glob("*.py"))
    return {path.stem: path for path in files if "__main__" in path.read_text(encoding="utf-8")}


def _bench(layout: Layout, rest: list[str]) -> int:
    there = benchmarks(layout)
    if not rest:
        print("\n".join(there))
        return 0
    if rest[0] not in there:
        raise BootstrapError(f"no benchmark '{rest[0]}'; there are: {', '.join(there) or 'none'}")
    return _replace([layout.python, there[rest[0]], *rest[1:]], _ready(layout))


def _setup(layout: Layout, rest: list[str]) -> int:
    _no_arguments("setup", rest)
    _ready(layout)
    say(f"ready: {layout.root}")
    return 0


def _build(layout: Layout, rest: list[str]) -> int:
    _no_arguments("build", rest)
    environment = _caller_environment()
    ros = find_ros(environment)
    with setup.exclusive(layout):
        setup.ensure_venv(layout, ros, environment)
        setup.build(layout, ros, environment)
    return 0


def _exec(layout: Layout, rest: list[str]) -> int:
    if not rest:
        raise BootstrapError("exec needs a command: ./run exec python -m shopfloor.plant check")
    return _replace(rest, _ready(layout))


def _shell(layout: Layout, rest: list[str]) -> int:
    return _replace(["bash", *rest], _ready(layout))


def _clean(layout: Layout, rest: list[str]) -> int:
    _no_arguments("clean", rest)
    with setup.exclusive(layout):
        for folder in (layout.venv, layout.build, layout.install, layout.logs):
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _no_arguments(verb: str, rest: list[str]) -> None:
    if rest:
        raise BootstrapError(f"{verb} takes no arguments, got: {' '.join(rest)}")


VERBS: dict[str, Callable[[Layout, list[str]], int]] = {
    "demo": _demo,
    "test": _test,
    "bench": _bench,
    "setup": _setup,
    "build": _build,
    "exec": _exec,
    "shell": _shell,
    "clean": _clean,
}

if __name__ == "__main__":
    sys.exit(main())

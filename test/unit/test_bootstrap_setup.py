"""The environment of processes, and when `.venv` and build are made again."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.bootstrap import setup
from shopfloor.bootstrap.environment import (
    base_environment,
    prepend,
    setup_file,
    workspace_environment,
)
from shopfloor.bootstrap.errors import BootstrapError
from shopfloor.bootstrap.layout import Layout
from shopfloor.bootstrap.ros import Ros
from shopfloor.bootstrap.stamps import read_stamp, write_stamp

WHEELS = Ros("jazzy")


def test_prepend_moves_and_keeps_each_folder_once() -> None:
    environment = {"A": "/x:/y:/z"}
    prepend(environment, "A", [Path("/z"), Path("/n")])
    assert environment["A"] == "/z:/n:/x:/y"
    prepend(environment, "B", [Path("/z")])
    assert environment["B"] == "/z"


def make_layout(root: Path) -> Layout:
    """A checkout that was set up."""
    layout = Layout(root)
    (layout.venv / "bin").mkdir(parents=True)
    (layout.venv / "lib" / "python3.11" / "site-packages" / "ros_rcl.libs").mkdir(parents=True)
    (layout.prefix / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    return layout


def test_workspace_environment_has_sources_first(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "a place")
    environment = workspace_environment(layout, WHEELS, {"PATH": "/bin", "PYTHONPATH": "/mine"})
    site = layout.prefix / "lib" / "python3.11" / "site-packages"
    assert environment["PYTHONPATH"] == f"{layout.root / 'src'}:{site}:/mine"
    assert environment["AMENT_PREFIX_PATH"] == f"{layout.prefix}:{layout.venv}"
    assert environment["PATH"] == f"{layout.venv / 'bin'}:/bin"
    assert str(layout.venv / "lib") in environment["LD_LIBRARY_PATH"].split(":")
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["ROS_PYTHON_CHECK_FIELDS"] == "1"


def test_workspace_environment_twice_is_the_same(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    once = workspace_environment(layout, WHEELS, {"PATH": "/bin"})
    assert workspace_environment(layout, WHEELS, once) == once


def test_users_settings_are_kept(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "PIP_INDEX_URL": "u"}
    environment = workspace_environment(make_layout(tmp_path), WHEELS, given)
    assert given.items() - {("PATH", "/bin")} <= environment.items()


def test_a_build_does_not_see_its_own_results(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    used = workspace_environment(layout, WHEELS, {"PATH": "/bin"})
    environment = base_environment(layout, WHEELS, used)
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH"):
        assert str(layout.install) not in environment[name]
        assert str(layout.venv) in environment[name]
    assert "PYTHONPATH" not in environment


def test_a_sourced_ros_stays_below_the_workspace(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    given = {"PATH": "/ros/bin", "AMENT_PREFIX_PATH": "/ros", "PYTHONPATH": "/ros/py"}
    environment = workspace_environment(layout, Ros("kilted", Path("/ros")), given)
    assert environment["AMENT_PREFIX_PATH"] == f"{layout.prefix}:/ros"
    assert environment["PYTHONPATH"].endswith(":/ros/py")
    assert str(layout.venv / "lib/python3.11/site-packages") in environment["PYTHONPATH"]
    assert "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in environment


@pytest.mark.parametrize("ros", [WHEELS, Ros("jazzy", Path("/ros"))])
def test_setup_file_works_in_a_path_with_spaces(tmp_path: Path, ros: Ros) -> None:
    venv = make_layout(tmp_path / "a place").venv
    (venv / "bin" / "python3").symlink_to(sys.executable)
    (venv / "setup.bash").write_text(setup_file(ros))
    script = 'set -eu; AMENT_PREFIX_PATH=/ros; source "$0/setup.bash"; source "$0/setup.bash"; env'
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-c", script, str(venv)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert done.stderr == ""
    assert variables["VIRTUAL_ENV"] == str(venv)
    assert variables["PATH"].split(":").count(str(venv / "bin")) == 1
    assert variables["ROS_PYTHON_CHECK_FIELDS"] == "1"
    assert variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert variables["COLCON_PYTHON_EXECUTABLE"] == os.path.realpath(sys.executable)


def make_checkout(root: Path) -> Layout:
    """The files that stamps look at."""
    layout = make_layout(root)
    for name in ("CMakeLists.txt", "package.xml", "setup.cfg", "colcon.meta"):
        (root / name).write_text(name)
    layout.lock_file.write_text("# == build\ncmake==1\n# == runtime\nrich==1\nnumpy==1\n")
    (root / "msgs" / "msg").mkdir(parents=True)
    (root / "msgs" / "msg" / "A.msg").write_text("int32 a\n")
    (root / "config").mkdir()
    layout.python.touch()
    (layout.prefix / "share" / "shopfloor").mkdir(parents=True)
    (layout.prefix / "share" / "shopfloor" / "package.xml").touch()
    (layout.install / "setup.bash").touch()
    layout.build.mkdir()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    write_stamp(layout.venv_stamp, setup.venv_stamp(layout, WHEELS, python))
    write_stamp(layout.build_stamp, setup.build_stamp(layout))
    return layout


class Steps:
    """Stands in for the two long steps and notes that they ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr(setup, "_make_venv", self._make_venv)
        monkeypatch.setattr(setup, "build", self._build)

    def _make_venv(self, layout: Layout, ros: Ros, environment: dict[str, str]) -> None:
        self.names.append("venv")

    def _build(self, layout: Layout, ros: Ros, environment: dict[str, str]) -> None:
        self.names.append("build")

    def after(self, layout: Layout, environment: dict[str, str] | None = None) -> list[str]:
        """The steps that `ensure_ready` takes now."""
        self.names.clear()
        setup.ensure_ready(layout, WHEELS, environment or {})
        return list(self.names)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_what_is_current_is_left_alone(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    (tmp_path / "msgs" / "README.md").write_text("words")
    (tmp_path / "src").mkdir()
    assert steps.after(layout) == []
    assert not layout.guard.exists()


def test_a_changed_type_or_a_new_data_file_asks_for_a_build(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    (tmp_path / "config" / "new.yaml").touch()
    assert steps.after(layout) == ["build"]
    write_stamp(layout.build_stamp, setup.build_stamp(layout))
    (tmp_path / "msgs" / "msg" / "A.msg").write_text("int64 a\n")
    assert steps.after(layout) == ["build"]


def test_a_changed_lock_file_asks_for_packages(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    layout.lock_file.write_text(layout.lock_file.read_text() + "extra==1\n")
    assert steps.after(layout) == ["venv"]


def restamp(layout: Layout) -> None:
    """As if `.venv` had just been brought up to the lock file."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    write_stamp(layout.venv_stamp, setup.venv_stamp(layout, WHEELS, python))


def test_only_packages_that_a_build_uses_ask_for_a_build(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    text = layout.lock_file.read_text()
    layout.lock_file.write_text(text.replace("rich==1", "rich==2"))
    restamp(layout)
    assert steps.after(layout) == []
    for name in ("cmake", "numpy"):
        layout.lock_file.write_text(text.replace(f"{name}==1", f"{name}==2"))
        restamp(layout)
        assert steps.after(layout) == ["build"]


def test_half_finished_steps_are_done_again(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    layout.build_stamp.unlink()
    assert steps.after(layout) == ["build"]
    layout.venv_stamp.unlink()
    assert steps.after(layout) == ["venv", "build"]


def test_removed_results_are_made_again(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    (layout.install / "setup.bash").unlink()
    assert steps.after(layout) == ["build"]
    layout.python.unlink()
    assert "venv" in steps.after(layout)


def test_a_moved_checkout_is_set_up_again(tmp_path: Path, steps: Steps) -> None:
    make_checkout(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert steps.after(Layout(tmp_path / "b")) == ["venv"]


def test_venv_keeps_its_python_unless_another_is_asked_for(tmp_path: Path, steps: Steps) -> None:
    layout = make_checkout(tmp_path)
    write_stamp(layout.venv_stamp, setup.venv_stamp(layout, WHEELS, "3.99"))
    write_stamp(layout.build_stamp, setup.build_stamp(layout))
    assert steps.after(layout) == []
    assert steps.after(layout, {"PYTHON": sys.executable}) == ["venv"]


def test_a_second_run_waits_for_the_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    tried: list[int] = []
    real = fcntl.flock

    def flock(file: object, operation: int) -> None:
        tried.append(operation)
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError
        real(file.fileno(), operation)  # type: ignore[attr-defined]

    monkeypatch.setattr(fcntl, "flock", flock)
    with setup.exclusive(layout):
        assert tried == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert "another ./run is setting up" in capfd.readouterr().err


def fake_colcon(layout: Layout, script: str) -> None:
    """A colcon that does this, in the root of the checkout."""
    colcon = layout.venv / "bin" / "colcon"
    colcon.write_text(f"#!/bin/sh\n{script}\n")
    colcon.chmod(0o755)


def build(layout: Layout) -> None:
    """Builds with the colcon of the layout."""
    setup.build(layout, WHEELS, {"PATH": os.environ["PATH"]})


def test_a_failed_build_is_not_current_and_shows_the_compilers_words(tmp_path: Path) -> None:
    layout = make_checkout(tmp_path)
    log = "log/latest_build/shopfloor"
    fake_colcon(
        layout,
        f"mkdir -p {log}; printf 'fine\\nFAILED: a.o\\na.c:1: error: no b\\n'"
        f" > {log}/stdout_stderr.log; echo all went wrong; exit 3",
    )
    with pytest.raises(BootstrapError) as error:
        build(layout)
    assert "colcon failed with 3" in str(error.value)
    assert str(error.value).endswith("all went wrong\nFAILED: a.o\na.c:1: error: no b")
    assert read_stamp(layout.build_stamp) != setup.build_stamp(layout)


def test_an_old_builds_output_is_not_shown(tmp_path: Path) -> None:
    layout = make_checkout(tmp_path)
    old = layout.logs / "latest_build" / "shopfloor" / "stdout_stderr.log"
    old.parent.mkdir(parents=True)
    old.write_text("FAILED: last year\n")
    os.utime(old, (1, 1))
    fake_colcon(layout, "exit 3")
    with pytest.raises(BootstrapError) as error:
        build(layout)
    assert "last year" not in str(error.value)


def test_a_build_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    layout = make_checkout(tmp_path)
    (layout.build / "shopfloor").mkdir()
    fake_colcon(layout, "exit 3")
    with pytest.raises(BootstrapError):
        build(layout)
    fake_colcon(layout, "exit 0")
    build(layout)
    assert (layout.build / "shopfloor").is_dir()
    assert read_stamp(layout.build_stamp) == setup.build_stamp(layout)


@pytest.mark.parametrize("change", ["type removed", "type new", "python"])
@pytest.mark.parametrize("failed_before", [False, True])
def test_old_results_go_where_they_would_mislead(
    tmp_path: Path, change: str, failed_before: bool
) -> None:
    layout = make_checkout(tmp_path)
    if failed_before:
        fake_colcon(layout, "exit 3")
        with pytest.raises(BootstrapError):
            build(layout)
    (layout.build / "shopfloor").mkdir()
    message = tmp_path / "msgs" / "msg" / "A.msg"
    if change == "type removed":
        message.unlink()
    elif change == "type new":
        message.with_name("B.msg").touch()
    else:
        write_stamp(layout.venv_stamp, setup.venv_stamp(layout, WHEELS, "3.99"))
    fake_colcon(layout, "test ! -e build/shopfloor && test ! -e install/shopfloor")
    build(layout)

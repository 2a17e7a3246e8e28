"""What `./run` decides: which ROS 2, which Python, what is missing, what is up to date."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.bootstrap import cli, host, setup
from shopfloor.bootstrap.checks import names_tests, suites
from shopfloor.bootstrap.environment import base_environment, prepend, workspace_environment
from shopfloor.bootstrap.errors import BootstrapError
from shopfloor.bootstrap.layout import Layout
from shopfloor.bootstrap.ros import Ros, check_python, find_ros
from shopfloor.bootstrap.stamps import read_stamp, write_stamp

ROOT = Path(__file__).resolve().parents[2]
WHEELS = Ros("jazzy")


def make_ros(prefix: Path, python: str = "python3.12") -> Path:
    """A prefix that looks like an installed ROS 2."""
    (prefix / "share" / "rclpy").mkdir(parents=True)
    (prefix / "lib" / python / "site-packages").mkdir(parents=True)
    return prefix


@pytest.mark.parametrize("distribution", ["jazzy", "kilted", "lyrical"])
def test_a_sourced_ros_is_used(tmp_path: Path, distribution: str) -> None:
    prefix = make_ros(tmp_path / "opt" / distribution)
    overlay = tmp_path / "ws" / "install"
    environment = {"ROS_DISTRO": distribution, "AMENT_PREFIX_PATH": f"{overlay}:{prefix}"}
    assert find_ros(environment) == Ros(distribution, prefix)


def test_without_a_sourced_ros_wheels_are_used(tmp_path: Path) -> None:
    assert find_ros({}).from_wheels
    assert find_ros({"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": ""}).from_wheels
    assert find_ros({"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": str(tmp_path)}).from_wheels


def test_our_own_setup_file_is_no_sourced_ros(tmp_path: Path) -> None:
    venv = make_ros(tmp_path / "some checkout" / ".venv")
    (venv / "pyvenv.cfg").touch()
    assert find_ros({"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": str(venv)}).from_wheels


def test_an_unsupported_ros_is_refused_with_the_ones_that_are_not(tmp_path: Path) -> None:
    prefix = make_ros(tmp_path)
    with pytest.raises(BootstrapError, match=r"'humble'.*jazzy, kilted, lyrical"):
        find_ros({"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": str(prefix)})


@pytest.mark.parametrize("version", [(3, 9), (3, 14), (2, 7), (4, 0)])
def test_unsupported_python_says_which_are(version: tuple[int, int]) -> None:
    with pytest.raises(BootstrapError, match=r"3\.10 to 3\.13.*PYTHON="):
        check_python(WHEELS, version, "linux", "x86_64")


@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_supported_pythons_pass(version: tuple[int, int]) -> None:
    check_python(WHEELS, version, "linux", "x86_64")


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64")])
def test_no_wheels_for_other_machines(system: str, machine: str, tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match=f"{system} on {machine}"):
        check_python(WHEELS, (3, 12), system, machine)
    check_python(Ros("jazzy", make_ros(tmp_path)), (3, 12), system, machine)


def test_python_must_be_the_one_of_the_sourced_ros(tmp_path: Path) -> None:
    ros = Ros("jazzy", make_ros(tmp_path, "python3.12"))
    with pytest.raises(BootstrapError, match=r"built for python3\.12, not for Python 3\.11"):
        check_python(ros, (3, 11), "linux", "x86_64")


def make_bin(folder: Path, *names: str) -> dict[str, str]:
    """A PATH with these programs alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_nothing_is_missing_where_all_is_there(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    environment = make_bin(tmp_path / "bin", "cc", "c++")
    assert host.missing_packages(environment, lambda name: True, tmp_path) == []


def test_missing_compiler_headers_and_venv_are_named(tmp_path: Path) -> None:
    environment = make_bin(tmp_path / "bin", "cc")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    missing = host.missing_packages(environment, lambda name: name == "venv", tmp_path)
    assert missing == ["g++", f"{python}-dev", f"{python}-venv"]


def test_a_compiler_named_by_cxx_counts(tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    environment = make_bin(tmp_path / "bin", "clang", "clang++")
    environment |= {"CC": "clang -m64", "CXX": "clang++ -m64"}
    assert host.missing_packages(environment, lambda name: True, tmp_path) == []


def test_without_root_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "missing_packages", lambda environment: ["g++"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BootstrapError) as error:
        host.ensure_host_packages(make_bin(tmp_path, "apt-get"))
    assert str(error.value) == "missing: g++. Install with: sudo apt-get install --yes g++"


def test_without_apt_the_debian_names_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "missing_packages", lambda environment: ["g++"])
    with pytest.raises(BootstrapError, match=r"missing \(names as in Debian\): g\+\+"):
        host.ensure_host_packages(make_bin(tmp_path))


def test_apt_cannot_complete_a_python_of_another_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "missing_packages", lambda environment: ["python3.11-venv"])
    monkeypatch.setattr(sys, "base_prefix", "/opt/mine")
    with pytest.raises(BootstrapError, match=r"/opt/mine; take another one: PYTHON="):
        host.ensure_host_packages(make_bin(tmp_path, "apt-get"))


def test_root_installs_with_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["g++"], []]
    monkeypatch.setattr(host, "missing_packages", lambda environment: answers.pop(0))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environment = make_bin(tmp_path / "bin")
    apt = tmp_path / "bin" / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> "{tmp_path}/calls"\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", environment["PATH"])
    host.ensure_host_packages(environment)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [
        "noninteractive update",
        "noninteractive install --yes g++ --no-install-recommends",
    ]


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


def make_checkout(root: Path) -> Layout:
    """The files that stamps look at."""
    layout = make_layout(root)
    for name in ("CMakeLists.txt", "package.xml", "setup.cfg", "colcon.meta", "requirements.lock"):
        (root / name).write_text(name)
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
    layout.lock_file.write_text("# == ros\n")
    assert steps.after(layout) == ["venv"]


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


def test_a_failed_build_leaves_no_stamp_and_shows_its_end(tmp_path: Path) -> None:
    layout = make_checkout(tmp_path)
    colcon = layout.venv / "bin" / "colcon"
    colcon.write_text("#!/bin/sh\necho all went wrong\nexit 3\n")
    colcon.chmod(0o755)
    with pytest.raises(BootstrapError, match=r"(?s)colcon failed with 3.*all went wrong"):
        setup.build(layout, WHEELS, {"PATH": os.environ["PATH"]})
    assert read_stamp(layout.build_stamp) == {}


def test_suites_without_tests_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "test" / "unit").mkdir(parents=True)
    (tmp_path / "test" / "graph").mkdir()
    (tmp_path / "test" / "unit" / "test_a.py").touch()
    assert suites(tmp_path) == ["test/unit"]


def test_paths_among_pytest_arguments_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    assert names_tests(tmp_path, ["-x", "a.py::test_b"])
    assert not names_tests(tmp_path, ["-k", "ledger", "-x"])


def test_benchmarks_are_the_files_with_a_main(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "bench"
    folder.mkdir(parents=True)
    (folder / "vision.py").write_text('if __name__ == "__main__":\n    main()\n')
    (folder / "table.py").write_text("x = 1\n")
    assert list(cli.benchmarks(Layout(tmp_path))) == ["vision"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--help"], 0, "examples:"),
        ([], 2, "verbs:"),
        (["dem"], 2, "no verb 'dem'; there are: demo, test,"),
        (["exec"], 2, "exec needs a command"),
        (["clean", "all"], 2, "clean takes no arguments, got: all"),
        (["bench", "nothing"], 2, "no benchmark 'nothing'; there are: "),
    ],
)
def test_wrong_words_get_one_clear_line(
    words: list[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == code
    output = capfd.readouterr()
    assert text in output.out + output.err
    assert "Traceback" not in output.err


def run_script(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "run"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def fake_python(folder: Path, version: str, fits: bool) -> Path:
    """A program that answers `run` as a Python of that version would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python3"
    body = f"exec {sys.executable} " + '"$@"' if fits else f"echo Python {version}; exit 1"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_run_refuses_the_python_that_is_named(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "bin", "3.9.2", fits=False)
    done = run_script({**os.environ, "PYTHON": str(python)}, "--help")
    assert done.returncode == 2
    assert f"PYTHON={python} is not Python 3.10 to 3.13 (it says: Python 3.9.2)" in done.stderr


def test_run_looks_past_an_unsupported_python(tmp_path: Path) -> None:
    fake_python(tmp_path / "old", "3.9.2", fits=False)
    fake_python(tmp_path / "new place", "3.11.7", fits=True)
    path = f"{tmp_path / 'old'}:{tmp_path / 'new place'}:/usr/bin:/bin"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    done = run_script({**environment, "PATH": path}, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples:" in done.stdout

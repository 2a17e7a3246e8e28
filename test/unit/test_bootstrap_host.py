"""Which ROS 2 and Python `./run` takes, and what it says when something is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from shopfloor.bootstrap import host
from shopfloor.bootstrap.errors import BootstrapError
from shopfloor.bootstrap.ros import Ros, check_python, find_ros

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

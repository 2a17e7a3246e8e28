"""Restart counter, shared-memory clean-up, claims, the group's command line, the log printer."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from shopfloor.plant import cli as program
from shopfloor.plant.claims import Claims, ClashError
from shopfloor.plant.console import LINES_PER_S, LogPrinter
from shopfloor.plant.group_arguments import NodeArgument, parse
from shopfloor.plant.plant_file import RestartPolicy
from shopfloor.plant.restart import RestartCounter
from shopfloor.plant.segments import lock_files_of, remove_orphans
from shopfloor.plant.supervisor import Event, EventKind
from shopfloor.ros.network import EXIT_CODE

# Restart counter ---------------------------------------------------------------------------------


def test_back_off_doubles_up_to_its_limit_then_gives_up() -> None:
    counter = RestartCounter(RestartPolicy("on_failure", 4, 60.0, 0.5, 3.0))
    assert [counter.next_delay_s(now) for now in (0, 1, 2, 3, 4)] == [0.5, 1.0, 2.0, 3.0, None]


def test_who_ended_to_meet_the_other_hosts_starts_again_whatever_the_limit() -> None:
    counter = RestartCounter(RestartPolicy("never", 0, 60.0, 0.5, 3.0))
    assert counter.wanted(EXIT_CODE) and not counter.wanted(1)
    assert [counter.next_delay_s(0, EXIT_CODE) for _ in range(3)] == [0.5] * 3


def test_old_restarts_are_forgiven() -> None:
    counter = RestartCounter(RestartPolicy("always", 1, 10.0, 0.5, 3.0))
    assert counter.next_delay_s(0) == 0.5
    assert counter.next_delay_s(5) is None
    assert counter.next_delay_s(10.5) == 0.5


def test_a_limit_of_zero_means_none_and_a_huge_one_does_not_overflow() -> None:
    assert RestartCounter(RestartPolicy("always", 0, 10.0, 0.5, 3.0)).next_delay_s(0) is None
    counter = RestartCounter(RestartPolicy("always", 3000, 1e9, 0.5, 3.0))
    assert {counter.next_delay_s(0) for _ in range(3000)} == {0.5, 1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    ("when", "code", "wanted"),
    [
        ("always", 0, True),
        ("on_failure", 0, False),
        ("on_failure", -9, True),
        ("never", 1, False),
    ],
)
def test_when_a_restart_is_wanted(when: str, code: int, wanted: bool) -> None:
    assert RestartCounter(RestartPolicy(when, 5, 60.0, 0.5, 3.0)).wanted(code) is wanted


# Shared memory -----------------------------------------------------------------------------------


def make_port(folder: Path, name: str) -> list[str]:
    files = [name, f"{name}_el", f"sem.{name}_mutex"]
    for file in files:
        (folder / file).touch()
    return files


def test_orphans_go_and_what_somebody_holds_stays(tmp_path: Path) -> None:
    dead = make_port(tmp_path, "fastrtps_port7411")
    alive = make_port(tmp_path, "fastrtps_port7413")
    (tmp_path / "fastrtps_00aabbccddeeff11").touch()
    (tmp_path / "fastrtps_00aabbccddeeff11_el").touch()
    (tmp_path / "fastrtps_99aabbccddeeff11").touch()
    with (tmp_path / "fastrtps_port7413_el").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        names = ["fastrtps_port7411_el", "fastrtps_port7413_el", "fastrtps_00aabbccddeeff11_el"]
        removed = remove_orphans([*names, "fastrtps_port1_el"], tmp_path)
    assert set(removed) == {*dead, "fastrtps_00aabbccddeeff11", "fastrtps_00aabbccddeeff11_el"}
    assert {path.name for path in tmp_path.iterdir()} == {*alive, "fastrtps_99aabbccddeeff11"}


def test_a_port_without_its_lock_file_goes_too(tmp_path: Path) -> None:
    (tmp_path / "fastrtps_port7001").touch()
    assert "fastrtps_port7001" in remove_orphans(["fastrtps_port7001_el"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["other_el", "../fastrtps_port1_el", "fastrtps_port1", "fastrtps_port1_el/x"]
)
def test_nothing_but_lock_files_of_fast_dds_is_touched(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no lock file of Fast DDS"):
        remove_orphans([name], tmp_path)


def test_lock_files_of_a_process_are_those_it_has_open(tmp_path: Path) -> None:
    make_port(tmp_path, "fastrtps_port7411")
    make_port(tmp_path, "fastrtps_port7413")
    with (tmp_path / "fastrtps_port7411_el").open(), (tmp_path / "fastrtps_port7413").open():
        assert lock_files_of(os.getpid(), tmp_path) == {"fastrtps_port7411_el"}
    assert lock_files_of(2**22 + 1, tmp_path) == set()


# Claims ------------------------------------------------------------------------------------------


def test_a_name_is_claimed_once_a_domain(tmp_path: Path) -> None:
    with Claims(3, ["/a/camera", "/a/gate"], "first", tmp_path):
        with pytest.raises(ClashError) as caught:
            Claims(3, ["/a/gate", "/a/other"], "second", tmp_path)
        assert "on ROS domain 3 these nodes run already: /a/gate by plant 'first'" in str(
            caught.value
        )
        assert str(os.getpid()) in str(caught.value)
        Claims(4, ["/a/gate"], "other domain", tmp_path).release()
        Claims(3, ["/a/other"], "the failed try gave it back", tmp_path).release()
    Claims(3, ["/a/camera", "/a/gate"], "after the end", tmp_path).release()


def test_a_killed_owner_leaves_no_claim(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shopfloor.plant.claims import Claims\n"
        f"claims = Claims(3, ['/a/gate'], 'killed', Path({str(tmp_path)!r}))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(ClashError, match=f"plant 'killed', process {owner.pid}"):
            Claims(3, ["/a/gate"], "second", tmp_path)
        owner.kill()
        owner.wait()
    Claims(3, ["/a/gate"], "second", tmp_path).release()


def test_an_unreadable_claim_is_still_a_claim(tmp_path: Path) -> None:
    with Claims(3, ["/a/gate"], "first", tmp_path):
        (tmp_path / "domain_3.a.gate").write_text("[]")
        with pytest.raises(ClashError, match="/a/gate by another process"):
            Claims(3, ["/a/gate"], "second", tmp_path)


# group -------------------------------------------------------------------------------------------


def test_node_arguments() -> None:
    own = ["--node", "camera:c1", "--node", "inspector:/cell/i1"]
    arguments = [*own, "--ros-args", "-r", "__ns:=/x", "--node", "y"]
    assert list(parse(arguments).nodes) == [
        NodeArgument("camera", "c1", None),
        NodeArgument("inspector", "i1", "/cell"),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "--node"),
        ("--node camera", "'camera' is not TYPE:NAME"),
        ("--node camera:/cell/", "is not TYPE:NAME"),
        ("--node camara:c1", "did you mean 'camera'"),
        ("--node camera:c --node inspector:c", "two nodes are called 'c'"),
        ("--node camera:c --bogus", "unrecognized arguments: --bogus"),
    ],
)
def test_wrong_group_command_lines_say_why(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments.split())
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_plant_imports_neither_ros_nor_features() -> None:
    script = (
        "import sys, shopfloor.plant.specs, shopfloor.plant.group, shopfloor.plant.cli\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('rclpy', 'launch', 'cv2', 'numpy')\n"
        "       or m.startswith(('shopfloor.camera', 'shopfloor.inspection', 'shopfloor.sim'))]\n"
        "print(bad); sys.exit(bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# The log -----------------------------------------------------------------------------------------


def printed(events: list[Event], **console: object) -> str:
    stream = io.StringIO()
    printer = LogPrinter(["camera"], Console(file=stream, soft_wrap=True, **console))  # type: ignore
    for event in events:
        printer(event)
    return stream.getvalue()


def line(text: str, at_s: float = 0.0) -> Event:
    return Event(EventKind.LINE, "camera", text, False, at_s)


def test_plain_lines_without_a_terminal_and_no_markup() -> None:
    text = printed([line("[ERROR] [node] not [bold]markup[/bold] :smile:")])
    clock = time.strftime("%H:%M:%S", time.localtime(0))
    assert text == f"{clock} camera | [ERROR] [node] not [bold]markup[/bold] :smile:\n"


def test_colours_on_a_terminal_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in printed([line("[ERROR] x")], force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in printed([line("[ERROR] x")], force_terminal=True)


def test_a_flood_is_cut_and_counted() -> None:
    text = printed([line(str(n)) for n in range(LINES_PER_S + 50)] + [line("next", 1.0)])
    assert text.count("\n") == LINES_PER_S + 2
    assert "... 50 more lines in this second" in text


# The program -------------------------------------------------------------------------------------


def test_check_tells_all_problems_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plant.yaml"
    path.write_text("plant: X\nhosts: {}\n")
    assert program.main(["check", "--plant", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}:1: plant:" in error
    assert "5 problems; nothing was started" in error or "4 problems; nothing was started" in error


def test_a_domain_that_is_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "line3")
    assert program.main(["up", "--plant", "demo"]) == 2
    assert "ROS_DOMAIN_ID is 'line3'; allowed: a whole number" in capsys.readouterr().err


def test_unknown_plant_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["up", "--plant", "nowhere"]) == 2
    assert "demo" in capsys.readouterr().err


def test_specs_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert program.main(["specs", "--plant", "plant", "--host", "jetson_1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [process["name"] for process in data] == ["vision", "jetson_watchdog", "jetson_manager"]
    assert data[0]["environment"]["ROS_DOMAIN_ID"] == "20"
    assert "PARAMETERS_FILE" in data[0]["command"]


def test_specs_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["specs", "--plant", "demo"]) == 0
    assert "station_inspector" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["102", "-1", "x", "1.5"])
def test_wrong_domain(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["up", f"--domain-id={value}"])
    assert "allowed: 0 to 101" in capsys.readouterr().err

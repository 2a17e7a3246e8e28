"""Launch files of single nodes with the real `launch`; skipped where it is not installed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch.actions", reason="ROS 2's `launch` is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "graph")]
from harness import ACTIVE, Graph
from test_plant_launch import LIMIT_S, RUN, domain

FOLDER = Path(__file__).resolve().parents[2] / "launch"
PIECES = sorted(path for path in FOLDER.glob("*.launch.py") if path.name != "plant.launch.py")


def start(folder: Path, file: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "ROS_LOG_DIR": str(folder),
        "SHOPFLOOR_RUN_DIR": str(folder),
        "SHOPFLOOR_STATE_DIR": str(folder / "state"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(FOLDER / file), domain(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        start_new_session=True,
    )


def node_type(path: Path) -> str:
    (found,) = re.findall(r'piece\("(\w+)"\)', path.read_text("utf-8"))
    return str(found)


@pytest.mark.parametrize("path", PIECES, ids=lambda path: path.stem)
def test_every_parameter_is_an_argument_that_says_what_is_allowed(path: Path) -> None:
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from shopfloor.plant.nodes import NODE_TYPES, load
    from shopfloor.ros.parameters import specs

    type_ = node_type(path)
    source = PythonLaunchDescriptionSource(str(path))
    entities = source.try_get_launch_description_without_context().entities  # type: ignore
    declared = [a for a in entities if isinstance(a, DeclareLaunchArgument)]
    arguments = {a.name: a for a in declared}
    assert len(arguments) == len(declared)
    for name, spec in specs(load(NODE_TYPES[type_].parameters)).items():
        argument = arguments[name]
        assert argument.description.startswith(spec.description)
        assert argument.choices or f"Allowed: {spec.allowed}" in argument.description
    assert {"node_name", "namespace", "domain_id", "log_level"} <= set(arguments)


# What a node cannot do without: pictures, a problem, a folder, a PLC's mapping, a board's sensors.
NEEDS = {
    "plc_bridge": ["mapping:={folder}/plc.yaml"],
    "camera": ["source:=folder", f"address:={FOLDER.parent / 'docs' / 'pictures'}"],
    "scheduler": ["problem_file:=demo_orders.json", "processes:=0"],
    "recorder": ["folder:={folder}/bags"],
    "thermal_watchdog": ["system_root:=board", "nvml:=false"],
}


@pytest.mark.parametrize("path", PIECES, ids=lambda path: path.stem)
def test_every_piece_becomes_active_and_ends_clean(tmp_path: Path, path: Path) -> None:
    type_ = node_type(path)
    zone = tmp_path / "state" / "board" / "sys" / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("41000\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        modbus = f"modbus: {{address: 127.0.0.1, port: {free.getsockname()[1]}}}"
    (tmp_path / "plc.yaml").write_text(f"plc: plc1\n{modbus}\n")
    graph = Graph(int(domain().split("=")[1]), tmp_path)
    run = start(tmp_path, path.name, *(a.format(folder=tmp_path) for a in NEEDS.get(type_, [])))
    try:
        graph.until_state(f"/cell_1/{type_}", ACTIVE)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=LIMIT_S)
        assert run.returncode == 0 and "process has finished cleanly" in output, output
    finally:
        run.kill()
        graph.close()


def test_a_camera_starts_says_what_is_wrong_and_ends_clean(tmp_path: Path) -> None:
    run = start(tmp_path, "camera.launch.py", "source:=folder", f"address:={tmp_path}/none")
    assert run.stdout is not None
    try:
        output = ""
        for line in run.stdout:
            output += line
            if re.search(r"cell_1\.camera\].*none", line):
                break
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=LIMIT_S)
        assert run.returncode == 0, output + rest
        assert "process has finished cleanly" in rest
    finally:
        run.kill()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rate_hz:=-3"], "rate_hz: -3.0 is not allowed; allowed: float from 0 to 1000 Hz"),
        (["rate_hz:=fast"], "rate_hz: .*fast.*allowed: float"),
        (["source:=v5"], "v5.*is not valid"),
        (["node_name:=Not A Name"], "Not A Name"),
        (["domain_id:=500"], "domain_id '500'; allowed: 0 to 101"),
    ],
)
def test_wrong_arguments_fail_with_a_message(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    run = start(tmp_path, "camera.launch.py", *arguments)
    output, _ = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 1 and re.search(expected, output), output
    assert "process started" not in output

"""Launch files of single nodes with the real `launch`; skipped where it is not installed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch.actions", reason="ROS 2's `launch` is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

sys.path.append(str(Path(__file__).parent))
from test_plant_launch import LIMIT_S, RUN, domain

FOLDER = Path(__file__).resolve().parents[2] / "launch"
PIECES = sorted(path for path in FOLDER.glob("*.launch.py") if path.name != "plant.launch.py")


def start(folder: Path, file: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "ROS_LOG_DIR": str(folder), "SHOPFLOOR_RUN_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(FOLDER / file), domain(), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.parametrize("path", PIECES, ids=lambda path: path.stem)
def test_every_parameter_is_an_argument_that_says_what_is_allowed(path: Path) -> None:
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from shopfloor.plant.nodes import NODE_TYPES, load
    from shopfloor.ros.parameters import specs

    (type_,) = re.findall(r'piece\("(\w+)"\)', path.read_text("utf-8"))
    source = PythonLaunchDescriptionSource(str(path))
    entities = source.try_get_launch_description_without_context().entities  # type: ignore
    arguments = {a.name: a for a in entities if isinstance(a, DeclareLaunchArgument)}
    for name, spec in specs(load(NODE_TYPES[type_].parameters)).items():
        argument = arguments[name]
        assert argument.description.startswith(spec.description)
        assert argument.choices or f"Allowed: {spec.allowed}" in argument.description
    assert {"name", "namespace", "domain_id", "log_level"} <= set(arguments)


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
        (["name:=Not A Name"], "Not A Name"),
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

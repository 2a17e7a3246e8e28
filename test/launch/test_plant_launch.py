"""launch/plant.launch.py with the real `launch`; skipped where it is not installed.

`launch` runs its own processes and event loop: here each run is a process of its own, as a user
starts it, so that exit codes, signals and what is printed are the real ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("launch.actions", reason="ROS 2's `launch` is not installed")
pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "launch" / "plant.launch.py"
LIMIT_S = 60.0
RUN = (
    "import sys; from launch import LaunchDescription, LaunchService\n"
    "from launch.actions import IncludeLaunchDescription\n"
    "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
    "service = LaunchService()\n"
    "source = PythonLaunchDescriptionSource(sys.argv[1])\n"
    "pairs = [a.split(':=', 1) for a in sys.argv[2:]]\n"
    "include = IncludeLaunchDescription(source, launch_arguments=pairs)\n"
    "service.include_launch_description(LaunchDescription([include]))\n"
    "sys.exit(service.run())\n"
)
PLANT = """\
plant: trial
hosts:
  here: {hostname: "*", role: single}
cells:
  line_1:
    nodes:
      gate: {type: quality_gate}
      manager: {type: line_manager}
processes:
  quality: {host: here, nodes: [gate], restart: {limit: LIMIT, backoff_s: 0.1}}
  manager: {host: here, nodes: [manager]}
"""


class Launch:
    """One run of the launch file, in a domain of the test's own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {
            **os.environ,
            "ROS_LOG_DIR": str(folder / "log"),
            "XDG_RUNTIME_DIR": str(folder),
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(FILE), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self.output = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until a line matches; fails when the run ends first, or says nothing more."""
        assert self.process.stdout is not None
        timer = threading.Timer(LIMIT_S, self.process.terminate)  # a quiet run would block for ever
        timer.start()
        try:
            for line in self.process.stdout:
                self.output += line
                found = re.search(pattern, line)
                if found:
                    return found
        finally:
            timer.cancel()
        raise AssertionError(f"ended without {pattern!r}:\n{self.output}")

    def finish(self) -> int:
        """Exit code, with all output read."""
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        self.output += rest
        return self.process.returncode


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.yaml"
    path.write_text(PLANT.replace("LIMIT", "5"), "utf-8")
    return path


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[object]:
    started: list[Launch] = []

    def start(*arguments: str) -> Launch:
        started.append(Launch(tmp_path, *arguments))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.communicate(timeout=LIMIT_S)


def domain() -> str:
    """A domain for this process; launch tests run one after the other."""
    return f"domain_id:={90 + os.getpid() % 10}"


def test_nodes_become_active_and_the_end_is_clean(start, plant: Path) -> None:  # type: ignore
    run = start(f"plant:={plant}", domain())
    pids = [int(run.wait_for(r"process started with pid \[(\d+)\]")[1]) for _ in range(2)]
    run.wait_for("here: RUNNING")
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0, run.output
    assert run.output.count("process has finished cleanly") == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_killed_process_is_restarted_by_its_policy(start, plant: Path) -> None:  # type: ignore
    run = start(f"plant:={plant}", domain())
    pid = int(run.wait_for(r"quality-\d+\]: process started with pid \[(\d+)\]")[1])
    run.wait_for("here: RUNNING")
    os.kill(pid, signal.SIGKILL)
    run.wait_for("quality: restart in 0.1 s")
    run.wait_for(rf"here: FAILED: .*process {pid} has ended")
    run.wait_for("here: RUNNING")
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0, run.output


def test_an_essential_process_that_gives_up_ends_the_launch(start, plant: Path) -> None:  # type: ignore
    plant.write_text(PLANT.replace("LIMIT", "0"), "utf-8")
    run = start(f"plant:={plant}", domain())
    pid = int(run.wait_for(r"quality-\d+\]: process started with pid \[(\d+)\]")[1])
    run.wait_for("here: RUNNING")
    os.kill(pid, signal.SIGKILL)
    assert run.finish() == 1
    assert "quality gave up: 0 restarts within 60 s; the line cannot run without it" in run.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_launch(start, plant: Path, number: signal.Signals) -> None:  # type: ignore
    run = start(f"plant:={plant}", domain())
    pids = [int(run.wait_for(r"process started with pid \[(\d+)\]")[1]) for _ in range(2)]
    run.wait_for("here: RUNNING")
    run.process.send_signal(number)
    run.finish()
    deadline = time.monotonic() + LIMIT_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["plant:=nowhere"], "no plant file 'nowhere'"),
        (["plant:=demo", "host:=nobody"], "no host 'nobody'"),
        (["plant:=demo", "only:=nothing"], "no node 'nothing' to run here"),
        (["plant:=demo", "log_level:=loud"], "not in provided choices|not a valid choice|loud"),
        (["plant:=demo", "domain_id:=500"], "domain_id '500'; allowed: 0 to 101"),
    ],
)
def test_wrong_arguments_fail_with_a_message(start, arguments: list[str], expected: str) -> None:  # type: ignore
    run = start(*arguments)
    assert run.finish() == 1
    assert re.search(expected, run.output), run.output
    assert "process started" not in run.output


def test_a_second_launch_on_the_domain_is_refused(start, plant: Path) -> None:  # type: ignore
    first = start(f"plant:={plant}", domain())
    first.wait_for("here: RUNNING")
    second = start(f"plant:={plant}", domain())
    assert second.finish() == 1
    assert "these nodes run already" in second.output
    first.process.send_signal(signal.SIGINT)
    assert first.finish() == 0


def test_arguments_are_described() -> None:
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(FILE))
    entities = source.try_get_launch_description_without_context().entities  # type: ignore
    arguments = [entity for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    names = [argument.name for argument in arguments]
    assert names == ["plant", "host", "only", "domain_id", "log_level"]
    assert all(len(argument.description) > 20 for argument in arguments)

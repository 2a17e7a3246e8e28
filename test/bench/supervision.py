"""How soon a failure is flagged, how soon the node is back in service, and false trips under load.

./run bench supervision                about 5 minutes
./run bench supervision --quick        about 1 minute
./run bench supervision --minutes 60   the same, with an hour of false trips at 100 % CPU

A small plant is run by `plant up`; the faults happen in real processes. A failure counts as flagged
when a host state arrives in which the node is not OK, as back when one arrives in which it is OK
in another process. Under load the demo's plant runs beside busy loops on every core.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.progress import track
from shopfloor_msgs.msg import HostState, NodeStatus
from table import Results, run

from shopfloor.plant.environment import transport_environment
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import subscription_qos

LIMIT_S = 60.0
DOMAIN_ID = 19
GATE = "/line_1/gate"
FAULTS = Path(__file__).resolve().parents[1] / "graph" / "faults"
PLANT = """\
plant: bench
hosts: {this_machine: {hostname: "*", role: single}}
cells:
  line_1:
    nodes:
      gate: {type: quality_gate}
      line_manager: {type: line_manager}
processes:
  gate:
    {host: this_machine, nodes: [gate], memory_mb: 500, restart: {limit: 1000, backoff_max_s: 0.5}}
  manager: {host: this_machine, nodes: [line_manager]}
"""
CASES = {
    "kill -9": signal.SIGKILL,
    "SIGSTOP": signal.SIGSTOP,
    "callback in a loop": "loop_for_ever",
    "callback that waits": "wait_for_ever",
    "stuck worker (limit 0.5 s)": "worker",
    "exception in a thread": "thread",
    "exception in a callback": "exception",
    "memory limit": "memory",
}
FLAGS_ONLY = "exception in a callback"
_DOWN = (NodeStatus.HEALTH_STALE, NodeStatus.HEALTH_FAILED, NodeStatus.HEALTH_DEGRADED)


class Watcher:
    """Host states as they come, each with the moment of its arrival (steady clock)."""

    def __init__(self) -> None:
        no = SignalHandlerOptions.NO  # Ctrl-C is for Python: rclpy would end its context below us
        rclpy.init(args=[], domain_id=DOMAIN_ID, signal_handler_options=no)
        self._node = Node("bench")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.reports: list[tuple[int, HostState]] = []
        row = interface("host_state")
        self._node.create_subscription(
            HostState, f"/line_1/{row.resolve(host='this_machine')}",
            lambda message: self.reports.append((time.monotonic_ns(), message)),
            subscription_qos(row.qos),
        )  # fmt: skip

    def until(self, wanted: Callable[[HostState], bool], since_ns: int) -> int:
        """Moment of the first report after `since_ns` that is wanted."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for at_ns, report in self.reports:
                if at_ns >= since_ns and wanted(report):
                    return at_ns
            self._executor.spin_once(timeout_sec=0.05)
        raise TimeoutError(f"not within {LIMIT_S:g} s; last: {self.reports[-1:]}")

    def listen(self, seconds: float) -> None:
        """Take in what comes for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """End listening."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown()


class Line:
    """`plant up` of a plant file, and its output."""

    def __init__(self, plant: str, folder: Path) -> None:
        self.fault_file = folder / "fault"
        paths = [str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(DOMAIN_ID),
            "PYTHONPATH": ":".join(paths),
            "SHOPFLOOR_TEST_FAULT": str(self.fault_file),
            "SHOPFLOOR_STATE_DIR": str(folder / "state"),
            "SHOPFLOOR_RUN_DIR": str(folder / "run"),
            "COLUMNS": "400",
        }
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shopfloor.plant", "up", "--plant", plant],
            env=environment, cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    def matching(self, pattern: str) -> list[str]:
        """Lines of the runner so far."""
        return [line for line in list(self.lines) if re.search(pattern, line)]

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(LIMIT_S)
        self._reader.join(5.0)


@contextlib.contextmanager
def running(plant: str) -> Iterator[tuple[Line, Watcher]]:
    """A plant with all its nodes active, and a watcher."""
    folder = Path(tempfile.mkdtemp(prefix="shopfloor-bench-"))
    file = folder / "plant.yaml"
    if "\n" in plant:
        file.write_text(plant, "utf-8")
        plant = str(file)
    watcher = Watcher()
    line = Line(plant, folder)
    try:
        watcher.until(lambda report: report.state == HostState.STATE_RUNNING, 0)
        yield line, watcher
    finally:
        line.close()
        watcher.close()
        shutil.rmtree(folder, ignore_errors=True)


def status(report: HostState, name: str = GATE) -> NodeStatus:
    """What a report says of one node."""
    return next(node for node in report.nodes if node.node == name)


def fail(line: Line, watcher: Watcher, what: signal.Signals | str) -> tuple[float, float, str]:
    """Let the gate fail: seconds until flagged and until back in service, and the first cause."""
    started = time.monotonic_ns()
    watcher.until(lambda report: report.state == HostState.STATE_RUNNING, started)
    watcher.reports[:-1] = []
    pid = status(watcher.reports[-1][1]).pid
    began = time.monotonic_ns()
    if isinstance(what, signal.Signals):
        os.kill(pid, what)
    else:
        moment = line.fault_file.with_suffix(".at")
        moment.unlink(missing_ok=True)
        line.fault_file.write_text(what)
        os.kill(pid, signal.SIGUSR1)
    flagged = watcher.until(lambda report: status(report).health in _DOWN, began)
    cause = next(status(r).cause for at_ns, r in watcher.reports if at_ns == flagged)
    if not isinstance(what, signal.Signals):
        began = int(moment.read_text())

    def is_back(report: HostState) -> bool:
        gate = status(report)
        return gate.health == NodeStatus.HEALTH_OK and (gate.pid != pid or what == "exception")

    back = watcher.until(is_back, flagged)
    return (flagged - began) / 1e9, (back - began) / 1e9, cause


def failures(results: Results, times: int) -> None:
    """Each failure, `times` times."""
    with running(PLANT) as (line, watcher):
        for name, what in CASES.items():
            rows = [fail(line, watcher, what) for _ in track(range(times), name, transient=True)]
            flags, backs = [row[0] for row in rows], [row[1] for row in rows]
            results.add(
                f"{name}: flagged", float(np.median(flags)), "s", limit="0.5 s",
                note=f"longest of {times}: {max(flags):.2f} s; {rows[-1][2]}",
            )  # fmt: skip
            if name != FLAGS_ONLY:
                results.add(
                    f"{name}: back in service", float(np.median(backs)), "s", limit="5 s",
                    note=f"longest of {times}: {max(backs):.2f} s",
                )  # fmt: skip


def false_trips(results: Results, minutes: float, loops: int) -> None:
    """The demo's plant beside busy loops on every core: whatever is flagged or ended is wrong."""
    with running("demo") as (line, watcher):
        before = len(line.matching(r"\* (started|stuck|stopped|restart)"))
        since = time.monotonic_ns()
        hogs = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(loops * (os.cpu_count() or 1))
        ]
        wrong: Counter[str] = Counter()
        try:
            for _ in track(range(max(1, round(minutes * 6))), "under load", transient=True):
                watcher.listen(10.0)
                wrong.update(
                    f"{node.node}: {node.cause}"
                    for at_ns, report in watcher.reports
                    for node in report.nodes
                    if at_ns >= since and node.health in _DOWN[:2]
                )
                watcher.reports[:-1] = []
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        seconds = (time.monotonic_ns() - since) / 1e9
        ended = len(line.matching(r"\* (started|stuck|stopped|restart)")) - before
        nodes = len(watcher.reports[-1][1].nodes) if watcher.reports else math.nan
        note = f"{nodes} nodes, {seconds / 60.0:.1f} min; {len(hogs)} busy loops"
        most = "".join(f"; {count} times {what}" for what, count in wrong.most_common(5))
        flags = wrong.total()
        results.add("false flags under load", flags, "reports", limit="0", note=note + most)
        results.add("processes ended under load", ended, "", limit="0", note=note)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="each failure twice, load for 20 s")
    parser.add_argument("--minutes", type=float, help="of load; default: 1")
    parser.add_argument("--loops", type=int, default=2, help="busy loops a core; default: 2")
    options = parser.parse_args()
    os.environ.update(transport_environment(False), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    minutes = options.minutes if options.minutes is not None else 1 / 3 if options.quick else 1.0
    results = Results("supervision")
    failures(results, 2 if options.quick else 10)
    false_trips(results, minutes, options.loops)
    results.finish()


if __name__ == "__main__":
    run(main)

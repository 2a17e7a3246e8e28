"""Parts through a real quality gate over DDS: does each end in one verdict, how fast, at what cost?

Edge and server results come in any order, some twice, some late, some never.

./run bench quality               10 minutes at 100 parts a second
./run bench quality --quick       half a minute
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rich.progress import Progress
from shopfloor_msgs.msg import (
    DetailResult,
    FrameInfo,
    InspectionResult,
    PartVerdict,
    RejectCommand,
)
from table import Results

from shopfloor.plant.environment import transport_environment
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos, subscription_qos

DEADLINE_S, DETAIL_DEADLINE_S = 0.5, 1.5
PARAMETERS = {
    "cameras": "['camera']", "deadline_ms": 1e3 * DEADLINE_S,
    "detail_deadline_ms": 1e3 * DETAIL_DEADLINE_S, "remember_s": 10.0,
    "reject_by": "delay", "belt_speed_m_per_s": 1.0, "reject_distance_m": "[2.5]",
    "reject_window_m": 0.008, "reject_lead_ms": 50.0, "reject_margin_ms": 150.0,
}  # fmt: skip
NEAR = 0.8
"""Evidence sent after this share of its deadline may be late without anybody's fault."""


@dataclass
class Part:
    """What was sent of a part and when (seconds from its first message), and what came back."""

    finding: int
    crops: int
    outcomes: tuple[int, ...]
    first_s: float = 0.0
    sent: dict[str, float] = field(default_factory=dict)
    said: list[tuple[float, PartVerdict]] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)

    @property
    def complete_in_time(self) -> bool:
        """Whether all of its evidence was sent well before its deadline."""
        limits = [("edge", DEADLINE_S)] + [
            (f"crop{i}", DETAIL_DEADLINE_S) for i in range(self.crops)
        ]
        return all(
            what in self.sent and self.sent[what] - self.first_s < NEAR * limit_s
            for what, limit_s in limits
        )


class Floor:
    """Plays cameras, inspectors and the server, and hears the gate."""

    def __init__(self, rate_hz: float, seed: int) -> None:
        self.rate_hz = rate_hz
        self.parts: dict[str, Part] = {}
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, str, str]] = []
        self._order = count()
        self.node = rclpy.create_node("bench_floor")
        self._out = {key: self._publisher(key) for key in ("inspection_result", "detail_result")}
        self._out["frame_info"] = self._publisher("frame_info", camera="camera")
        for key, hear in (("part_verdict", self._on_verdict), ("reject_command", self._on_command)):
            row = interface(key)
            self.node.create_subscription(
                message_type(row.type), row.name, hear, subscription_qos(row.qos)
            )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to listen; the interpreter must not end under a spinning executor."""
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)

    def wait_for_gate(self, process: subprocess.Popen[bytes]) -> None:
        """Until a probe comes back."""
        end = time.monotonic() + 60.0
        probe = self.parts["probe"] = Part(InspectionResult.VERDICT_FAIL, 0, ())
        while not probe.said or not probe.commands:
            assert time.monotonic() < end and process.poll() is None, "the gate does not answer"
            self._send("probe", "edge")
            time.sleep(0.2)
        del self.parts["probe"]

    def run(self, seconds: float) -> float:
        """Send for so long; returns the seconds that it took."""
        total, made = int(seconds * self.rate_hz), 0
        start = ended = time.monotonic()
        with Progress(transient=True) as progress:
            task = progress.add_task("parts", total=total)
            while made < total or self._events:
                now = time.monotonic()
                while made < total and start + made / self.rate_hz <= now:
                    self._plan(f"part{made}", start + made / self.rate_hz)
                    made, ended = made + 1, now
                while self._events and self._events[0][0] <= now:
                    _, _, part_id, what = heapq.heappop(self._events)
                    self._send(part_id, what)
                progress.update(task, completed=made)
                time.sleep(0.001)
        return ended - start

    def _plan(self, part_id: str, at_s: float) -> None:
        rng = self._rng
        pass_, fail, suspect = (
            InspectionResult.VERDICT_PASS, InspectionResult.VERDICT_FAIL,
            InspectionResult.VERDICT_SUSPECT,
        )  # fmt: skip
        finding = rng.choices([pass_, fail, suspect], [70, 10, 20])[0]
        crops = rng.randint(1, 3) if finding == suspect else 0
        outcomes = tuple(
            rng.choices([DetailResult.OUTCOME_NO_DEFECT, DetailResult.OUTCOME_DEFECT], [3, 1])[0]
            for _ in range(crops)
        )
        self.parts[part_id] = Part(finding, crops, outcomes)
        events = [("info", rng.uniform(0.0, 0.05), 0.02, 0.0)]
        events.append(("edge", rng.uniform(0.0, 0.2), 0.01, DEADLINE_S))
        events += [
            (f"crop{i}", rng.uniform(0.0, 0.6), 0.01, DETAIL_DEADLINE_S) for i in range(crops)
        ]
        for what, after_s, lost, deadline_s in events:
            if rng.random() < lost:
                continue
            if deadline_s and rng.random() < 0.01:
                after_s += deadline_s
            for _ in range(1 + (rng.random() < 0.05)):
                heapq.heappush(self._events, (at_s + after_s, next(self._order), part_id, what))
                after_s += rng.uniform(0.0, 0.2)

    def _send(self, part_id: str, what: str) -> None:
        part = self.parts[part_id]
        now = time.monotonic()
        part.first_s = part.first_s or now
        part.sent.setdefault(what, now)
        # The part's exposure: its first message, so that delays don't move it on the belt.
        ros_ns = self.node.get_clock().now().nanoseconds - int((now - part.first_s) * 1e9)
        if what == "info":
            key, message = "frame_info", FrameInfo(part_id=part_id, sequence=1)
        elif what == "edge":
            key, message = (
                "inspection_result",
                InspectionResult(
                    part_id=part_id, station="s", frame_sequence=1, verdict=part.finding
                ),
            )
        else:
            index = int(what.removeprefix("crop"))
            key, message = "detail_result", DetailResult(
                part_id=part_id, station="s", frame_sequence=1, crop_index=index,
                crop_count=part.crops, outcome=part.outcomes[index],
            )  # fmt: skip
        message.header.frame_id = "camera"
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(ros_ns, 10**9)
        self._out[key].publish(message)

    def _publisher(self, key: str, **names: str) -> Any:
        row = interface(key)
        return self.node.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )

    def _on_verdict(self, message: PartVerdict) -> None:
        part = self.parts.get(message.part_id)
        if part is not None:
            part.said.append((time.monotonic(), message))

    def _on_command(self, message: RejectCommand) -> None:
        part = self.parts.get(message.part_id)
        if part is not None:
            part.commands.append(message.action)


class Gate:
    """The gate's process, its memory and its CPU."""

    def __init__(self, folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "shopfloor.plant.group",
            "--node",
            "quality_gate:quality_gate",
        ]
        command.append("--ros-args")
        for key, value in PARAMETERS.items():
            command += ["-p", f"{key}:={value}"]
        self.log = folder / "log"
        self.process = subprocess.Popen(
            command, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
            env={**os.environ, "SHOPFLOOR_STATE_DIR": str(folder / "state")},
        )  # fmt: skip
        self._usage = psutil.Process(self.process.pid)
        self.rss_mb: list[tuple[float, float]] = []
        self._stop = threading.Event()

    def cpu_s(self) -> float:
        """Used so far."""
        return sum(self._usage.cpu_times()[:2])

    def watch(self) -> None:
        """Read its memory once a second from now on."""

        def read() -> None:
            while not self._stop.wait(1.0) and self.process.poll() is None:
                self.rss_mb.append((time.monotonic(), self._usage.memory_info().rss / 1e6))

        threading.Thread(target=read, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def judge(results: Results, parts: list[Part]) -> None:
    """Hold what came back against what was sent."""
    heard = [part for part in parts if part.sent]
    results.add("parts of which anything was sent", len(heard), "parts")
    results.add("without a verdict", sum(not p.said for p in heard), "parts", None, "0")
    unordered = open_ = unexplained = unsaid = escaped = refined_wrongly = late = missing = 0
    for part in heard:
        said = [message for _, message in part.said]
        if not said:
            continue
        unordered += [m.revision for m in said] != list(range(1, len(said) + 1))
        finals = [m for m in said if m.stage == PartVerdict.STAGE_FINAL]
        open_ += not finals or said[-1] is not finals[-1]
        told = [m.timing in (PartVerdict.TIMING_LATE, PartVerdict.TIMING_MISSING) for m in finals]
        late += any(m.timing == PartVerdict.TIMING_LATE for m in said)
        missing += any(m.timing == PartVerdict.TIMING_MISSING for m in said)
        changed = len({m.verdict for m in finals}) > 1
        unexplained += (changed or part.complete_in_time) and (changed != any(told))
        failed = part.finding == InspectionResult.VERDICT_FAIL and "edge" in part.sent
        failed |= any(
            outcome == DetailResult.OUTCOME_DEFECT and f"crop{i}" in part.sent
            for i, outcome in enumerate(part.outcomes)
        )
        absent = "edge" not in part.sent or any(
            f"crop{i}" not in part.sent for i in range(part.crops)
        )
        unsaid += absent and not failed and not any(told)
        escaped += said[-1].verdict == PartVerdict.VERDICT_PASS and (failed or absent)
        refined_wrongly += failed and said[-1].verdict != PartVerdict.VERDICT_FAIL
    results.add("revisions out of order, twice or left out", unordered, "parts", None, "0")
    results.add("whose verdict in force is not a final one", open_, "parts", None, "0")
    results.add("final verdict changed, LATE or MISSING without a cause", unexplained, "parts",
                None, "0", f"{late} LATE and {missing} MISSING in all")  # fmt: skip
    results.add("evidence never sent and not said", unsaid, "parts", None, "0")
    results.add("PASS against or without the evidence", escaped, "parts", None, "0")
    results.add("a defect that was told and is not FAIL", refined_wrongly, "parts", None, "0")
    acts = [[a for a in p.commands if a != RejectCommand.ACTION_LATE_REJECT] for p in heard]
    alarms = sum(RejectCommand.ACTION_LATE_REJECT in p.commands for p in heard)
    results.add("more than one REJECT or PASS", sum(len(a) > 1 for a in acts), "parts", None, "0")
    results.add("neither REJECT, PASS nor LATE_REJECT", sum(not p.commands for p in heard), "parts",
                None, "0", f"{alarms} LATE_REJECT")  # fmt: skip
    wrong = sum(
        p.commands[-1] == RejectCommand.ACTION_PASS
        and p.said[-1][1].verdict != PartVerdict.VERDICT_PASS
        for p in heard if p.commands and p.said
    )  # fmt: skip
    results.add("let on against the verdict in force", wrong, "parts", None, "0")


def latencies(parts: list[Part]) -> np.ndarray:
    """Milliseconds from the sending of an edge result to the verdict, where it decided."""
    return np.array([
        (p.said[0][0] - p.sent["edge"]) * 1e3
        for p in parts
        if p.said and p.complete_in_time and p.sent["edge"] > p.first_s
        and all(p.sent[f"crop{i}"] > p.said[0][0] for i in range(p.crops))
    ])  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="parts a second")
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "95")
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(transport_environment())
    results = Results("quality")
    rclpy.init()
    with tempfile.TemporaryDirectory(prefix="bench_quality_") as folder:
        gate = Gate(Path(folder))
        try:
            floor = Floor(args.rate, args.seed)
            floor.wait_for_gate(gate.process)
            gate.watch()
            used_s = gate.cpu_s()
            took_s = floor.run(30.0 if args.quick else 60.0 * args.minutes)
            used_s = gate.cpu_s() - used_s
            time.sleep(3.0)  # the last deadlines and commands
        except BaseException:
            print(gate.log.read_text()[-3000:])
            raise
        finally:
            gate.close()
    parts = list(floor.parts.values())
    results.add("parts a second", len(parts) / took_s, "1/s", args.rate, f"{args.rate:g}/s")
    judge(results, parts)
    times = latencies(parts)
    for q in (50, 99):
        results.add(f"edge result to verdict p{q}", float(np.percentile(times, q)), "ms", None, "",
                    f"over DDS and back, {len(times)} parts")  # fmt: skip
    results.add("CPU of the gate", 100.0 * used_s / took_s, "% of a core")
    rss = np.array([mb for _, mb in gate.rss_mb])
    results.add("memory before the first part", float(rss[0]), "MB")
    results.add("memory at the end", float(rss[-1]), "MB", float(rss[len(rss) // 2]), "",
                "baseline: half way")  # fmt: skip
    floor.close()
    rclpy.try_shutdown()
    results.finish()


if __name__ == "__main__":
    main()

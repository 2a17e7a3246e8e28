"""What the recorder costs, and whether all is in the bag: 1080p JPEG at 30 Hz and a cell's rest.

./run bench recorder                   about 2.5 minutes (--minutes 2)
./run bench recorder --quick           about 40 s
./run bench recorder --minutes 10      the run of the aim
./run bench recorder --mode both       with a FAIL, and so a cut, every 30 s

A process of its own publishes what a cell with one camera, four vibration sensors and twenty nodes
says; what it sent is compared by topic with what is in the bags. CPU and memory are the recorder
process's, from its first message to its last. Then a second recorder is killed with SIGKILL, and
its bag is repaired. With the role `publisher` this is the publishing process.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import psutil
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from shopfloor_msgs.msg import (
    Detection,
    FrameInfo,
    Heartbeat,
    InspectionResult,
    MachineHealth,
    PartVerdict,
    VibrationBlock,
    VibrationFeatures,
)
from table import Results

from shopfloor.plant.environment import transport_environment
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.repair import repair
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos

FRAME_HZ = 30
PARTS_HZ, BLOCKS_HZ, FEATURES_HZ, HEARTBEAT_HZ, HEALTH_HZ = 5, 40, 4, 10, 1
NODES, SAMPLES, AXES = 20, 2560, 3
JPEG_BYTES = 518_000
"""A quarter of a byte a pixel, as `plant check` assumes for 1080p."""

FAIL_EVERY_S = 30
OWN = "/bench_cell"
START_S = 30.0
CPU_AIM = "<= 25 % of a core"


def jpeg() -> bytes:
    """A 1080p JPEG of about JPEG_BYTES: noise, as coarse as it takes."""
    noise = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    for blur in np.arange(0.5, 4.0, 0.1):
        image = cv2.GaussianBlur(noise, (0, 0), float(blur))
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        if len(data) <= JPEG_BYTES:
            break
    return data


class Cell:
    """Publishes what a cell says, at its rates, in steps of one frame."""

    def __init__(self) -> None:
        self._node = Node("bench_cell")
        block = VibrationBlock(
            machine_id="press", channels=["x", "y", "z"], samples_per_channel=SAMPLES
        )
        block.data = array.array("f", np.zeros(SAMPLES * AXES, np.float32).tobytes())
        result = InspectionResult(part_id="part", detections=[Detection()] * 3)
        self._fail = PartVerdict(part_id="bad", verdict=PartVerdict.VERDICT_FAIL)
        good = PartVerdict(part_id="good", verdict=PartVerdict.VERDICT_PASS)
        camera = {"camera": "bench_camera"}
        picture = CompressedImage(format="jpeg", data=array.array("B", jpeg()))
        self._rows = [
            (self._publisher(key, **names), bytes(serialize_message(message)), rate_hz)
            for key, names, message, rate_hz in (
                ("image_compressed", camera, picture, FRAME_HZ),
                ("frame_info", camera, FrameInfo(part_id="part"), FRAME_HZ),
                ("inspection_result", {}, result, FRAME_HZ),
                ("part_verdict", {}, good, PARTS_HZ),
                ("vibration_block", {}, block, BLOCKS_HZ),
                ("vibration_features", {}, VibrationFeatures(), FEATURES_HZ),
                ("machine_health", {"machine": "press"}, MachineHealth(), HEALTH_HZ),
                *[("heartbeat", {}, Heartbeat(node=OWN), HEARTBEAT_HZ)] * NODES,
            )
        ]
        self._verdicts = self._rows[3][0]
        self.sent: Counter[str] = Counter()
        self.bytes_per_s = sum(len(data) * rate_hz for _, data, rate_hz in self._rows)

    def _publisher(self, key: str, **names: str) -> Publisher:
        row = interface(key)
        return self._node.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )

    def wait(self) -> None:
        """Until somebody hears each topic."""
        deadline = time.monotonic() + START_S
        while not all(publisher.get_subscription_count() for publisher, _, _ in self._rows):
            if time.monotonic() > deadline:
                raise TimeoutError("the recorder does not hear every topic")
            time.sleep(0.05)
        time.sleep(1.0)  # discovery is mutual: the other side gets the same moment

    def run(self, seconds: float, fails: bool) -> None:
        """Publish for so long."""
        begun = time.monotonic()
        owed = [i / len(self._rows) for i in range(len(self._rows))]
        for step in range(int(seconds * FRAME_HZ)):
            time.sleep(max(0.0, begun + step / FRAME_HZ - time.monotonic()))
            for i, (publisher, data, rate_hz) in enumerate(self._rows):
                owed[i] += rate_hz / FRAME_HZ
                while owed[i] >= 1.0 - 1e-9:
                    owed[i] -= 1.0
                    publisher.publish(data)
                    self.sent[publisher.topic_name] += 1
            if fails and step % (FAIL_EVERY_S * FRAME_HZ) == FRAME_HZ * 5:
                self._fail.part_id = f"bad {step}"
                self._verdicts.publish(self._fail)
                self.sent[self._verdicts.topic_name] += 1


def publish(seconds: float, fails: bool) -> None:
    """The role of the cell; prints what it sent."""
    rclpy.init()
    cell = Cell()
    cell.wait()
    print("begun", flush=True)
    cell.run(seconds, fails)
    print("ended", flush=True)
    time.sleep(2.0)  # reliable topics may still be on their way
    print(json.dumps({"sent": cell.sent, "bytes_per_s": cell.bytes_per_s}), flush=True)
    rclpy.shutdown()


class Recorder:
    """The recorder's process, with its highest memory."""

    def __init__(self, folder: Path, mode: str) -> None:
        values = {"folder": folder, "name": "bag", "images": "camera", "mode": mode}
        command = [sys.executable, "-m", "shopfloor.plant.group", "--node", "recorder:recorder"]
        command += ["--ros-args"]
        for key, value in values.items():
            command += ["-p", f"{key}:={value}"]
        self.process = subprocess.Popen(command)
        self._of_system = psutil.Process(self.process.pid)
        self.memory_max_mb = 0.0
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def cpu_s(self) -> float:
        """Of the process, user and system."""
        times = self._of_system.cpu_times()
        return float(times.user + times.system)

    def end(self, number: int) -> None:
        """End it by signal `number`."""
        self._stopping.set()
        self._watcher.join()
        self.process.send_signal(number)
        self.process.wait(60)

    def _watch(self) -> None:
        while not self._stopping.wait(0.5):
            memory_mb = self._of_system.memory_info().rss / 1e6
            self.memory_max_mb = max(self.memory_max_mb, memory_mb)


def start_cell(seconds: float, fails: bool) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "publisher", "--seconds", str(seconds)]
    cell = subprocess.Popen(command + ["--fails"] * fails, stdout=subprocess.PIPE, text=True)
    assert cell.stdout is not None
    if cell.stdout.readline() != "begun\n":
        raise RuntimeError("the publishing process did not begin")
    return cell


def counted(folder: Path) -> tuple[Counter[str], int]:
    """Messages by topic in the running bags, and the number of cuts."""
    counts: Counter[str] = Counter()
    cuts = 0
    for path in folder.iterdir():
        if "_event_" in path.name:
            cuts += 1
            continue
        with BagReader(path) as reader:
            for item in reader.messages():
                # The recorder's own heartbeats must not make up for a lost one.
                if item.topic != "/heartbeat" or OWN.encode() in item.data:
                    counts[item.topic] += 1
    return counts, cuts


def lost_percent(sent: dict[str, int], found: Counter[str], topic: str = "") -> float:
    """Of `topic`, or of all."""
    topics = [topic] if topic else list(sent)
    missing = sum(max(0, sent[t] - found[t]) for t in topics)
    return 100.0 * missing / sum(sent[t] for t in topics)


def record(results: Results, folder: Path, seconds: float, mode: str) -> None:
    """A whole recording: loss, CPU, memory."""
    recorder = Recorder(folder, mode)
    try:
        cell = start_cell(seconds, fails=mode == "both")
        cpu_s, begun_s = recorder.cpu_s(), time.monotonic()
        assert cell.stdout is not None
        cell.stdout.readline()
        cpu_percent = 100.0 * (recorder.cpu_s() - cpu_s) / (time.monotonic() - begun_s)
        output, _ = cell.communicate(timeout=60)
    finally:
        recorder.end(signal.SIGINT)
    said = json.loads(output.splitlines()[-1])
    sent: dict[str, int] = said["sent"]
    found, cuts = counted(folder)
    images = "/bench_camera/image_raw/compressed"
    note = f"{seconds:g} s, mode {mode}"
    total = float(sum(sent.values()))
    results.add("sent", total, "messages", note=f"{said['bytes_per_s'] / 1e6:.1f} MB/s")
    results.add("lost", lost_percent(sent, found), "%", limit="0", note=note)
    results.add("lost, 1080p JPEG", lost_percent(sent, found, images), "%", limit="0", note=note)
    results.add("CPU", cpu_percent, "% of a core", limit=CPU_AIM, note=note)
    results.add("memory, highest", recorder.memory_max_mb, "MB", note="resident, every 0.5 s")
    size_mb = sum(file.stat().st_size for file in folder.rglob("*.mcap")) / 1e6
    results.add("on the disk", size_mb, "MB", note=f"{cuts} cuts beside the running bags")


def kill(results: Results, folder: Path, seconds: float) -> None:
    """kill -9 while it records: what can be read afterwards."""
    recorder = Recorder(folder, "continuous")
    cell = start_cell(seconds + 30.0, fails=False)
    try:
        time.sleep(seconds)
    finally:
        killed_ns = time.time_ns()
        recorder.end(signal.SIGKILL)
        cell.kill()
        cell.wait()
    begun_s = time.monotonic()
    saved = repair(folder / "bag", folder / "whole")
    took_s = time.monotonic() - begun_s
    with BagReader(folder / "whole") as reader:
        readable = sum(1 for _ in reader.messages())
    results.add("kill -9: readable", float(readable), "messages", note="after `repair`")
    lost_s = (killed_ns - saved.end_ns) / 1e9
    results.add("kill -9: lost at the end", lost_s, "s", limit="<= 1 s and a chunk")
    results.add("repair", took_s, "s", note=f"of {seconds:g} s of recording")


def main() -> int:
    """Run the benchmark, or its publishing process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", nargs="?", choices=("publisher",))
    parser.add_argument("--quick", action="store_true", help="10 s")
    parser.add_argument("--minutes", type=float, default=2.0, help="of recording; default: 2")
    parser.add_argument("--mode", default="continuous", choices=("continuous", "both"))
    parser.add_argument("--seconds", type=float, default=10.0, help=argparse.SUPPRESS)
    parser.add_argument("--fails", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "publisher":
        publish(options.seconds, options.fails)
        return 0
    os.environ.update(transport_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", "96")
    results = Results("recorder")
    seconds = 10.0 if options.quick else 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        record(results, Path(folder) / "recorded", seconds, options.mode)
        kill(results, Path(folder) / "killed", min(seconds, 10.0))
    results.finish()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What every node pays: hand-over, throughput, 1080p between processes, idle cost.

./run bench foundation            about 6 minutes (1080p for 2 minutes on each profile)
./run bench foundation --quick    about 1 minute
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rich.progress import track
from shopfloor_msgs.msg import FrameInfo, InspectionResult
from table import Results
from transport import between_processes

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.node import InspectorNode
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria
from shopfloor.ros.frame_endpoints import FramePublisher
from shopfloor.ros.frames import Frame
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import BaseParameters
from shopfloor.ros.paths import model_folder
from shopfloor.sim.parts import render

CAMERA = "bench_camera"
FRAMES = 32


class FeederNode(ShopfloorNode[BaseParameters]):
    """A camera that has its frames in memory already."""

    def __init__(self) -> None:
        super().__init__(CAMERA, parameter_overrides=[Parameter("autostart", value=False)])

    def setup(self) -> None:
        """Make the endpoints."""
        self.frames = FramePublisher(self, CAMERA)

    def teardown(self) -> None:
        """Offer no more."""
        self.frames.close()

    def feed(self, image: Any, sequence: int) -> None:
        """Hand over one frame now."""
        stamp_ns = self.now_ns()
        height, width = image.shape[:2]

        def make_info() -> FrameInfo:
            info = FrameInfo(sequence=sequence, width=width, height=height, encoding="bgr8")
            info.header.stamp = self.stamp(stamp_ns)
            info.header.frame_id = CAMERA
            return info

        frame = Frame(image, "bgr8", stamp_ns, sequence, CAMERA, f"p{sequence}", self.steady_ns())
        self.frames.publish(frame, make_info)


def in_one_process(results: Results, seconds: float, model: str) -> None:
    """Throughput of graph and bare engine in turns, then the hand-over at half load."""
    images = [render("board", 10_000 + i).image for i in range(FRAMES)]
    package = load_model_package(model_folder(model))
    engine = load_engine("onnxruntime", package, EngineOptions(threads=1))
    criteria = Criteria(fail=package.thresholds.fail, suspect=package.thresholds.suspect)
    bare = Inspector(package, engine, criteria)
    tensors = []
    for image in images:
        bare._letterbox(image)
        tensors.append(bare._letterbox.batch.copy())

    rclpy.init()
    executor = SingleThreadedExecutor()
    feeder = FeederNode()
    inspector = InspectorNode(
        "bench_inspector",
        parameter_overrides=[
            Parameter("autostart", value=False),
            Parameter("camera", value=CAMERA),
            Parameter("model", value=str(model_folder(model))),
        ],
    )
    seen: list[dict[str, float]] = []
    inspector_publish = inspector._publish

    def watch(session: Any, shown: Any, result: InspectionResult) -> bool:
        published = inspector_publish(session, shown, result)
        if published:
            seen.append({stage.name: stage.duration_ms for stage in result.provenance.stages})
        return published

    inspector._publish = watch  # type: ignore[method-assign]
    for node in (feeder, inspector):
        executor.add_node(node)
        node.trigger_configure()
        node.trigger_activate()
        assert node.is_active, "see the log above"

    def spin_and_feed(rate_hz: float, length_s: float) -> tuple[float, list[Any]]:
        """Results per second while frames come at `rate_hz`, and the stages of each result."""
        seen.clear()
        stop = threading.Event()

        def run() -> None:
            due, sequence = time.monotonic(), 0
            while not stop.is_set():
                feeder.feed(images[sequence % FRAMES], sequence)
                sequence += 1
                due += 1.0 / rate_hz
                stop.wait(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=run)
        thread.start()
        start = time.perf_counter()
        while time.perf_counter() - start < length_s:
            executor.spin_once(timeout_sec=0.05)
        rate = len(seen) / (time.perf_counter() - start)
        stop.set()
        thread.join()
        return rate, list(seen)

    rates: dict[str, list[float]] = {"engine": [], "pipeline": [], "graph": []}
    for _ in track(range(3), description="graph and bare engine in turns"):
        rates["engine"].append(_rate(seconds, lambda i: engine.infer(tensors[i % FRAMES])))
        rates["pipeline"].append(_rate(seconds, lambda i: bare.inspect(images[i % FRAMES], "bgr8")))
        rates["graph"].append(spin_and_feed(1.2 * rates["engine"][-1], seconds)[0])
    engine_hz, pipeline_hz, graph_hz = (float(np.median(r)) for r in rates.values())
    results.add("bare engine, frames prepared", engine_hz, "Hz", note="onnxruntime, 1 thread, 640")
    results.add("bare pipeline", pipeline_hz, "Hz", engine_hz, note="with pre- and postprocessing")
    results.add("graph in one process", graph_hz, "Hz", engine_hz, "ratio >= 0.9 of the engine",
                "camera to InspectionResult, saturated")  # fmt: skip
    _, stages = spin_and_feed(engine_hz / 2, 2 * seconds)
    waits = [stage["queue"] for stage in stages if "queue" in stage]
    p50, p99 = np.percentile(waits, [50, 99])
    results.add(
        "hand-over p50", float(p50), "ms", limit="<= 0.3", note="publish to inference start"
    )
    results.add("hand-over p99", float(p99), "ms", note=f"{len(waits)} frames at half load")
    for node in (inspector, feeder):
        node.close()
        node.destroy_node()
    executor.shutdown()
    rclpy.shutdown()


def _rate(seconds: float, work: Callable[[int], object]) -> float:
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work(done)
        done += 1
    return done / (time.perf_counter() - start)


_EMPTY = """
import rclpy
from rclpy.node import Node
rclpy.init(); node = Node('empty'); rclpy.spin(node)
"""
_OURS = """
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
run_node(lambda: ShopfloorNode('ours'))
"""


def idle(results: Results, seconds: float) -> None:
    """What the base of every node costs while nothing happens."""
    empty, ours = _idle(_EMPTY, seconds), _idle(_OURS, seconds)
    results.add("idle node CPU", ours[0], "% of a core", empty[0] or None,
                note="10 Hz heartbeat, diagnostics; baseline: empty rclpy node")  # fmt: skip
    results.add("idle node memory", ours[1], "MB", empty[1], note="resident")


def _idle(code: str, seconds: float) -> tuple[float, float]:
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    time.sleep(3.0)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    cpu = 100.0 * (sum(process.cpu_times()[:2]) - before) / seconds
    memory = process.memory_info().rss / 1e6
    child.terminate()
    child.wait(10)
    return cpu, memory


def ends(results: Results, runs: int) -> None:
    """How many nodes end clean when SIGTERM comes at a random moment of their start."""
    rng = random.Random(1)
    clean, longest = 0, 0.0
    for _ in track(range(runs), description="SIGTERM while starting"):
        child = subprocess.Popen([sys.executable, "-c", _OURS], stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(0.0, 1.5))
        child.terminate()
        start = time.monotonic()
        try:
            _, errors = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            continue
        longest = max(longest, time.monotonic() - start)
        clean += child.returncode in (0, -signal.SIGTERM) and "Traceback" not in errors
    results.add("clean ends on SIGTERM at start-up", clean, "runs", runs, f"{runs} of {runs}")
    results.add("longest of these ends", longest, "s")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--model", default="surface_nano/1", help="model package")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "97")
    results = Results("foundation")
    in_one_process(results, 2.0 if args.quick else 8.0, args.model)
    idle(results, 4.0 if args.quick else 20.0)
    ends(results, 10 if args.quick else 80)
    between_processes(results, 8.0 if args.quick else 120.0)
    results.finish()


if __name__ == "__main__":
    main()

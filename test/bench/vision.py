"""What the graph costs beside the bare engine, by each road, and beside the design of yolo_ros.

./run bench vision                about 5 minutes
./run bench vision --quick        about 1 minute
./run bench vision --minutes 10   1080p30 for so long by each road between processes, for losses

Every contender runs the same ONNX file in the same engine with one thread, on the same 1080p
frames, in processes of its own. At full load it takes turns with the bare loop, and ratios are
medians over the turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from shopfloor_msgs.msg import InspectionResult
from table import Results
from transport import RATE_HZ, STOCK, copy_ms
from vision_ends import CAMERA, MODEL, pictures
from vision_figures import Figures, joined

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria
from shopfloor.plant.environment import transport_environment
from shopfloor.ros.interfaces import interface
from shopfloor.ros.paths import model_folder
from shopfloor.ros.qos import subscription_qos

_FOLDER = str(Path(__file__).resolve().parent)
_ENDS = ["-c", f"import sys; sys.path.insert(0, {_FOLDER!r}); import vision_ends; "
         "sys.exit(vision_ends.main())"]  # fmt: skip
SILENCE_S = 1.0
TURNS = 3


@dataclass
class Contender:
    """A way to inspect: its processes, and their environment over ours."""

    name: str
    commands: list[list[str]]
    environment: dict[str, str]
    children: list[subprocess.Popen[str]] = field(default_factory=list)


class Watcher:
    """Runs contenders and collects their verdicts."""

    def __init__(self) -> None:
        rclpy.init(args=[])
        self._node = Node("bench_watcher")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._results: list[InspectionResult] = []
        self._arrivals_s: list[float] = []
        row = interface("inspection_result")
        self._node.create_subscription(
            InspectionResult, row.resolve(), self._on_result, subscription_qos(row.qos)
        )

    def _on_result(self, result: InspectionResult) -> None:
        self._results.append(result)
        self._arrivals_s.append(time.monotonic())

    @contextlib.contextmanager
    def running(self, contender: Contender) -> Iterator[Callable[[int, float], Figures]]:
        """Start its processes; gives `measure(frames, rate_hz)`, and ends them afterwards."""
        environment = {**os.environ, **contender.environment}
        environment = {key: value for key, value in environment.items() if value}
        children = [
            subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if index == 0 else subprocess.DEVNULL,
                text=True,
            )
            for index, command in enumerate(contender.commands)
        ]
        try:
            camera = children[0]
            assert camera.stdout is not None
            while "ready" not in (line := camera.stdout.readline()):
                if not line:
                    raise SystemExit(f"vision: the camera of '{contender.name}' ended")
            self._warm_up(children)
            yield lambda frames, rate_hz: self._measure(children, frames, rate_hz)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()

    def _warm_up(self, children: list[subprocess.Popen[str]]) -> None:
        """Send a frame now and then until ten verdicts came, then let the roads settle."""
        self._results.clear()
        deadline = time.monotonic() + 90.0
        while len(self._results) < 10:
            if time.monotonic() > deadline or any(c.poll() is not None for c in children):
                raise SystemExit("vision: no verdict comes; is a process missing? see above")
            self._send(children[0], 3, 10.0)
        self._spin(2.0)

    def _send(self, camera: subprocess.Popen[str], frames: int, rate_hz: float) -> None:
        """Have frames sent; returns when the last one is out and it stays silent after it."""
        assert camera.stdin is not None and camera.stdout is not None
        camera.stdin.write(f"{frames} {rate_hz}\n")
        camera.stdin.flush()
        os.set_blocking(camera.stdout.fileno(), False)
        line = ""
        while "done" not in line:
            self._executor.spin_once(timeout_sec=0.05)
            line = camera.stdout.readline() or ""
            if camera.poll() is not None:
                raise SystemExit("vision: the camera ended")
        os.set_blocking(camera.stdout.fileno(), True)

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def _measure(
        self, children: list[subprocess.Popen[str]], frames: int, rate_hz: float
    ) -> Figures:
        base = self._results[-1] if self._results else None
        self._results.clear()
        self._arrivals_s.clear()
        processes = [psutil.Process(child.pid) for child in children]
        cpu_s = -sum(sum(p.cpu_times()[:2]) for p in processes)
        self._send(children[0], frames, rate_hz)
        self._spin(SILENCE_S)
        cpu_s += sum(sum(p.cpu_times()[:2]) for p in processes)
        memory_mb = sum(p.memory_full_info().pss for p in processes) / 1e6
        times = self._arrivals_s
        hz = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        return Figures(frames, list(self._results), hz, cpu_s, memory_mb, base)


def contenders(engine: str, precision: str) -> dict[str, Contender]:
    """All of them by key; the camera's process is the first of each."""
    ours = transport_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    stock = {**ours, **STOCK}
    both = [engine, precision]

    def apart(road: str) -> list[list[str]]:
        settings = {"camera": CAMERA, "model": MODEL, "road": road, "engine": engine}
        settings["precision"] = precision
        group = ["-m", "shopfloor.plant.group", "--node", "inspector:bench_inspector", "--ros-args"]
        for key, value in settings.items():
            group += ["-p", f"{key}:={value}"]
        return [[*_ENDS, "camera"], group]

    yolo_ros = [
        [*_ENDS, "stock-camera"],
        [*_ENDS, "stock-detector", *both],
        [*_ENDS, "stock-debug"],
    ]
    return {
        "one": Contender("one process", [[*_ENDS, "local", *both]], ours),
        "ring": Contender("ring", apart("auto"), ours),
        "image": Contender("Image", apart("image"), ours),
        "yolo_ros": Contender("yolo_ros design", yolo_ros, stock),
        "yolo_ros_profile": Contender("yolo_ros design, our profile", yolo_ros, ours),
    }


class Bare:
    """The engine, and the pipeline around it, without any graph."""

    def __init__(self, engine: str, precision: str) -> None:
        package = load_model_package(model_folder(MODEL))
        self._engine = load_engine(engine, package, EngineOptions(1, precision))
        limits = package.thresholds
        self._inspector = Inspector(package, self._engine, Criteria(limits.fail, limits.suspect))
        self._images = pictures()
        self._tensors = []
        for image in self._images:
            self._inspector._letterbox(image)
            self._tensors.append(self._inspector._letterbox.batch.copy())

    def engine_hz(self, seconds: float) -> float:
        """Inferences a second, frames prepared."""
        return _rate(seconds, lambda i: self._engine.infer(self._tensors[i % len(self._tensors)]))

    def pipeline_hz(self, seconds: float) -> float:
        """Inspections a second."""
        images = self._images
        return _rate(seconds, lambda i: self._inspector.inspect(images[i % len(images)], "bgr8"))

    def paced_ms(self, frames: int, rate_hz: float) -> float:
        """Median time of an inspection when one begins every 1 / rate_hz."""
        due, times = time.perf_counter(), []
        for index in range(frames):
            due += 1.0 / rate_hz
            time.sleep(max(0.0, due - time.perf_counter()))
            started = time.perf_counter()
            self._inspector.inspect(self._images[index % len(self._images)], "bgr8")
            times.append(1e3 * (time.perf_counter() - started))
        return float(np.median(times))


def _rate(seconds: float, work: Callable[[int], object]) -> float:
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        work(done)
        done += 1
    return done / spent


def run(results: Results, seconds: float, engine: str, precision: str) -> None:
    """All contenders: at full load, at a rate that they keep up with, and overloaded."""
    watcher, console = Watcher(), Console()
    bare = Bare(engine, precision)
    table = contenders(engine, precision)
    engine_hz: list[float] = []
    loop_hz: list[float] = []
    ratios: dict[str, float] = {}
    paced: dict[str, Figures] = {}
    full: dict[str, Figures] = {}
    over: dict[str, Figures] = {}
    over_bare: dict[str, list[float]] = {key: [] for key in table}
    share = seconds / TURNS
    for key, contender in table.items():
        console.print(f"{contender.name} ...")
        with watcher.running(contender) as measure:
            turns, pairs = [], []
            for _ in range(TURNS):
                engine_hz.append(bare.engine_hz(share / 2))
                loop_hz.append(bare.pipeline_hz(share / 2))
                rate_hz = 1.2 * loop_hz[-1]
                turns.append(measure(int(rate_hz * share), rate_hz))
                pairs.append(turns[-1].hz / loop_hz[-1])
            full[key], ratios[key] = joined(turns), float(np.median(pairs))
            # A rate that one thread keeps up with: above it, age is waiting for the engine.
            steady_hz = min(RATE_HZ, 0.75 * float(np.median(loop_hz)))
            frames, apart = int(steady_hz * share), []
            for _ in range(TURNS):
                alone_ms = bare.paced_ms(frames, steady_hz)
                apart.append(measure(frames, steady_hz))
                over_bare[key].append(float(np.median(apart[-1].ages())) - alone_ms)
            paced[key] = joined(apart)
            if key in ("one", "ring"):
                rate_hz = 2 * float(np.median(loop_hz))
                over[key] = measure(int(rate_hz * share), rate_hz)
    loop = float(np.median(loop_hz))
    results.add("bare loop", loop, "Hz", float(np.median(engine_hz)), "",
                f"1080p in, detections out, no graph; baseline: prepared tensors into "
                f"{engine} {precision}, 1 thread, 640")  # fmt: skip
    limits = {"one": ">= 0.97", "ring": ">= 0.95", "image": ">= 0.85"}
    for key, contender in table.items():
        results.add(f"{contender.name}: throughput", ratios[key] * loop, "Hz", loop,
                    limits.get(key, ""), f"camera at 1.2 x, {TURNS} turns with the bare loop; "
                    f"{full[key].drops()}")  # fmt: skip
    limits = {"one": "p50 <= 0.4 ms", "ring": "p50 <= 1.5 ms", "image": "p50 <= 4 ms"}
    floor = copy_ms(1 / RATE_HZ)
    for key in ("one", "ring", "image"):
        figures = paced[key]
        p50, p99 = np.percentile(figures.over_engine(), [50, 99])
        turns_ms = ", ".join(f"{ms:.2f}" for ms in over_bare[key])
        results.add(f"{table[key].name}: age over a bare inspection", float(np.median(
                    over_bare[key])), "ms", floor if key != "one" else None, limits[key],
                    f"p50, in turns at the same rate: {turns_ms}")  # fmt: skip
        note = f"p99 {p99:.2f} ms at {figures.sent / seconds:.0f} Hz; {figures.drops()}"
        results.add(f"{table[key].name}: age less the inspection's stages", float(p50), "ms",
                    note=note)  # fmt: skip
    results.add("copy of a 1080p frame", floor, "ms",
                limit="floor: ring 1, Image 8 copies on the way",
                note="33 ms apart, as frames come")  # fmt: skip
    around = paced["one"].stages("convert", "preprocess", "postprocess", "decide")
    p50, p99 = np.percentile(around, [50, 99])
    gauges, message = (np.median(paced["one"].stages(name)) for name in ("gauges", "meanwhile"))
    note = f"p50 {p50:.2f} ms; beside the engine: gauges {gauges:.2f}, message {message:.2f} ms"
    results.add("pre + post, 1080p in", float(p99), "ms", limit="p99 <= 1.5 ms", note=note)
    _side_by_side(results, full, paced)
    _ages(results, table, full, over)


def _side_by_side(results: Results, full: dict[str, Figures], paced: dict[str, Figures]) -> None:
    aims = (">= 2", "<= 0.5")
    for stock, words in (("yolo_ros", "yolo_ros"), ("yolo_ros_profile", "it, our profile")):
        theirs = full[stock]
        for key, name in (("one", "one process"), ("ring", "ring")):
            ours = full[key]
            at_hz = paced[stock].sent / theirs.sent
            for what, unit, values, aim, note in (
                ("verdicts", "Hz", (ours.hz, theirs.hz), aims[0], f"theirs: {theirs.drops()}"),
                ("CPU a verdict", "ms", (ours.cpu_ms, theirs.cpu_ms), aims[1],
                 "all processes, the engine included"),
                ("memory", "MB", (ours.memory_mb, theirs.memory_mb), "",
                 "all processes, shared pages shared out"),
                ("frame age p50", "ms", tuple(float(np.median(paced[k].ages())) for k in
                 (key, stock)), "", f"at {at_hz:.2f} x the rate of the other rows"),
            ):  # fmt: skip
                results.add(f"{name} / {words}: {what}", *(values[0], unit, values[1], aim, note))
        aims = ("", "")


def _ages(
    results: Results,
    table: dict[str, Contender],
    full: dict[str, Figures],
    over: dict[str, Figures],
) -> None:
    for key, figures in over.items():
        for load, those in (("1.2 x", full[key]), ("2 x", figures)):
            p50, p99, top = np.percentile(those.ages(), [50, 99, 100])
            first, last = np.array_split(those.ages(), 2)
            results.add(f"{table[key].name}: frame age at {load} the engine's rate", float(p50),
                        "ms", None, "bounded: latest wins",
                        f"p99 {p99:.0f}, max {top:.0f}; medians of the halves "
                        f"{np.median(first):.0f}, {np.median(last):.0f}; "
                        f"{those.drops()}")  # fmt: skip


def endurance(results: Results, minutes: float, roads: list[str], engine: str, bits: str) -> None:
    """1080p30 between processes, for losses and ages."""
    watcher = Watcher()
    table = contenders(engine, bits)
    for key in roads:
        with watcher.running(table[key]) as measure:
            figures = measure(int(minutes * 60 * RATE_HZ), RATE_HZ)
        p50, p99, top = np.percentile(figures.ages(), [50, 99, 100])
        results.add(f"{table[key].name}: lost at 1080p30", figures.lost, "frames", None, "0",
                    f"of {figures.sent} in {minutes:g} min; {figures.drops()}")  # fmt: skip
        results.add(f"{table[key].name}: frame age at 1080p30", float(p50), "ms", None, "",
                    f"p99 {p99:.1f}, max {top:.0f}; over the inspection p50 "
                    f"{np.median(figures.over_engine()):.2f}")  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--minutes", type=float, default=0.0, help="losses over so long, instead")
    parser.add_argument("--roads", nargs="*", default=["one", "ring", "image"],
                        help="with --minutes: which of one, ring, image")  # fmt: skip
    fast = "bfloat16" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else "float32"
    parser.add_argument("--engine", default="openvino", help="the faster it is, the more the graph "
                        "weighs")  # fmt: skip
    parser.add_argument("--precision", default=fast, help=f"here by default {fast}")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "96")
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if args.minutes:
        results = Results("vision_endurance")
        endurance(results, args.minutes, args.roads, args.engine, args.precision)
    else:
        results = Results("vision")
        run(results, 3.0 if args.quick else 12.0, args.engine, args.precision)
    results.finish()


if __name__ == "__main__":
    main()

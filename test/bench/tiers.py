"""The two tiers: what the edge decides when, what the second look costs and what it is worth.

./run bench tiers            about 4 minutes
./run bench tiers --quick    about 1 minute
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from foundation import CAMERA, FeederNode
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.time import Time
from rich.progress import track
from shopfloor_msgs.msg import DetailResult, InspectionResult, PartVerdict
from shopfloor_msgs.srv import SetInspectorRung
from table import Results

from shopfloor.inspection.crops import CropLimits, cut_crops
from shopfloor.inspection.detail import Examiner, Outcome
from shopfloor.inspection.metrics import paired_iou
from shopfloor.inspection.node import InspectorNode
from shopfloor.inspection.offline import load_inspector, read_truth
from shopfloor.inspection.pipeline import InspectionOutcome, Inspector
from shopfloor.inspection.score_map import overlay, peak, score_map
from shopfloor.inspection.verdict import Criteria, Verdict
from shopfloor.quality.node import QualityGateNode
from shopfloor.ros.images import decode
from shopfloor.sim.parts import render

DEFECT_FROM = 0.3
"""As the demo's detail inspector."""
SEED = 6_000_000
SAME_IOU = 0.33

Boxes = np.ndarray[Any, np.dtype[np.float32]]


def cores(results: Results, parts: int, model: str, second: str, zooms: tuple[float, ...]) -> None:
    """Costs of each step, and what the second look is worth, on simulated parts."""
    edge, detail = load_inspector(model), load_inspector(second)
    suspect = edge.criteria.suspect
    criteria = Criteria(DEFECT_FROM, min(detail.criteria.suspect, DEFECT_FROM))
    look = Examiner(detail, criteria, zooms=zooms, mirrored=True)
    edge_ms, cut_ms, look_ms, kilobytes = [], [], [], []
    true: list[tuple[float, Outcome]] = []
    false: list[tuple[float, Outcome]] = []
    sizes: list[float] = []
    heat = _Heat()
    for number in track(range(parts), "edge and detail", transient=True):
        part = render(("board", "steel")[number % 2], SEED + number)
        started = time.perf_counter()
        outcome = edge.inspect(part.image, "bgr8")
        edge_ms.append((time.perf_counter() - started) * 1e3)
        heat.add(outcome, edge, part.boxes)
        assert outcome.image is not None
        unsure = outcome.detections[outcome.detections.scores < edge.criteria.fail]
        if not len(unsure.above(suspect)):
            continue
        started = time.perf_counter()
        crops = cut_crops(outcome.image, unsure, suspect, CropLimits())
        cut_ms.append((time.perf_counter() - started) * 1e3)
        for crop in crops:
            assert crop.detection is not None
            kilobytes.append(len(crop.jpeg) / 1e3)
            box = unsure.xyxy[crop.detection]
            shift = np.array([crop.x, crop.y] * 2, np.float32)
            started = time.perf_counter()
            found = look.examine(decode(crop.jpeg), box - shift)
            look_ms.append((time.perf_counter() - started) * 1e3)
            match = _best(box, part.boxes)
            score = float(unsure.scores[crop.detection])
            (true if match is not None else false).append((score, found.outcome))
            if match is not None and found.box is not None and found.outcome is Outcome.DEFECT:
                sizes.append(_side_error(found.box + shift, match))
    p50, p99 = np.percentile(edge_ms, [50, 99])
    results.add("edge verdict, 640, one thread p50", p50, "ms", limit="frame budget")
    results.add("edge verdict p99", p99, "ms", p50)
    results.add("crops cut and encoded p50", float(np.median(cut_ms)), "ms", p50)
    results.add("crop", float(np.median(kilobytes)), "kB", limit="256 kB")
    note = f"{look.views} views, {second}"
    baseline = p50
    p50, p99 = np.percentile(look_ms, [50, 99])
    results.add("second look at a crop p50", p50, "ms", baseline, "2-3 s", note)
    results.add("second look p99", p99, "ms", p50)
    for name, seen in (("true", true), ("false", false)):
        share = {o: sum(s[1] is o for s in seen) / max(len(seen), 1) for o in Outcome}
        note = f"{len(seen)} crops from suspect to fail threshold"
        results.add(f"{name} defects: DEFECT", share[Outcome.DEFECT], "", note=note)
        results.add(f"{name} defects: UNDECIDED", share[Outcome.UNDECIDED], "", note=note)
        results.add(f"{name} defects: NO_DEFECT", share[Outcome.NO_DEFECT], "", note=note)
    results.add("longer side against the truth, median error", float(np.median(sizes)), "",
                note=f"{len(sizes)} confirmed defects")  # fmt: skip
    heat.report(results, "simulator")
    data = Path(os.environ.get("SHOPFLOOR_DATA", "../shared/data")) / "deeppcb"
    if data.is_dir():
        _deeppcb(results, edge, data, parts // 4)


def _deeppcb(results: Results, edge: Inspector, data: Path, count: int) -> None:
    import cv2

    held = (Path("models") / "surface_nano" / "1" / "holdout.txt").read_text("utf-8").split()
    heat = _Heat()
    for name in track(held[:: max(1, len(held) // count)], "DeepPCB", transient=True):
        paths = list(data.rglob(f"{Path(name).stem.removesuffix('_test')}_test.jpg"))
        image = cv2.imread(str(paths[0])) if paths else None
        if image is None:
            continue
        stem = paths[0].stem.removesuffix("_test")
        truth = read_truth(data / "boxes" / f"{stem}.txt", 1)
        heat.add(edge.inspect(np.asarray(image, np.uint8), "bgr8"), edge, truth[:, :4])
    if heat.fails:
        heat.report(results, "DeepPCB, boards never seen")


class _Heat:
    """Score maps of FAILs: time, and whether the peak lies in a true defect."""

    def __init__(self) -> None:
        self.fails = self.hits = 0
        self.map_ms: list[float] = []
        self.overlay_ms: list[float] = []

    def add(self, outcome: InspectionOutcome, edge: Inspector, boxes: Any) -> None:
        if outcome.decision.verdict is not Verdict.FAIL or not len(boxes):
            return
        assert outcome.output is not None and outcome.geometry is not None
        assert outcome.image is not None
        started = time.perf_counter()
        heat = score_map(outcome.output, edge.package.output)
        self.map_ms.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        overlay(outcome.image, heat, outcome.geometry)
        self.overlay_ms.append((time.perf_counter() - started) * 1e3)
        x, y = peak(heat, outcome.geometry)
        inside = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
        self.fails += 1
        self.hits += bool(inside.any())

    def report(self, results: Results, where: str) -> None:
        note = f"{self.fails} failed parts, {where}"
        results.add("score map p50", float(np.median(self.map_ms)), "ms", limit="0.3 ms", note=note)
        results.add("its overlay p50", float(np.median(self.overlay_ms)), "ms", note="when watched")
        share = self.hits / self.fails
        results.add("its peak lies in a true defect", share, "", limit="> 0.9", note=note)


def _best(box: Boxes, truth: Boxes) -> Boxes | None:
    if not len(truth):
        return None
    ious = paired_iou(np.repeat(box[None], len(truth), 0), truth)
    return truth[int(ious.argmax())] if ious.max() >= SAME_IOU else None


def _side_error(box: Boxes, truth: Boxes) -> float:
    measured, real = (float(max(b[2] - b[0], b[3] - b[1])) for b in (box, truth))
    return abs(measured - real) / real


class _Line:
    """Feeder, inspector and gate here; the detail inspector in a process of its own."""

    def __init__(self, model: str) -> None:
        rclpy.init()
        self.feeder = FeederNode()
        overrides = {
            "autostart": False, "camera": CAMERA, "model": model, "detail_deadline_s": 10.0,
            "rung_names": ["full", "half rate", "reserve"],
            "rung_modes": ["inspect"] * 3, "rung_strides": [1, 2, 1],
        }  # fmt: skip
        self.inspector = InspectorNode(parameter_overrides=_overrides(overrides))
        gate = {"autostart": False, "cameras": [CAMERA], "deadline_ms": 5000.0,
                "detail_deadline_ms": 10_000.0}  # fmt: skip
        self.gate = QualityGateNode(parameter_overrides=_overrides(gate))
        self.nodes = [self.gate, self.inspector, self.feeder]
        self.executor = SingleThreadedExecutor()
        for node in self.nodes:
            self.executor.add_node(node)
        self.verdicts: list[PartVerdict] = []
        self.results: list[InspectionResult] = []
        self.details: list[DetailResult] = []
        tool = self.feeder
        tool.create_subscription(PartVerdict, "parts/verdict", self.verdicts.append, 100)
        tool.create_subscription(InspectionResult, "inspection/result", self.results.append, 100)
        tool.create_subscription(DetailResult, "inspection/detail", self.details.append, 100)
        self.detail = subprocess.Popen(
            [sys.executable, "-m", "shopfloor.plant.group", "--node",
             "detail_inspector:detail_inspector", "--ros-args", "-p", f"model:={model}",
             "-p", f"fail_threshold:={DEFECT_FROM}"]
        )  # fmt: skip
        for node in self.nodes:
            node.trigger_configure()
            node.trigger_activate()
        self.until(lambda: self.feeder.count_publishers("inspection/detail"), 60.0)

    def until(self, done: Callable[[], Any], limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > end:
                return False
            self.executor.spin_once(timeout_sec=0.005)
        return True

    def close(self) -> None:
        self.detail.terminate()
        self.detail.wait(20)
        for node in self.nodes:
            node.close()
            node.destroy_node()
        self.executor.shutdown()
        rclpy.try_shutdown()


def _overrides(values: dict[str, Any]) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def in_the_graph(results: Results, parts: int, switches: int, model: str) -> None:
    """Exposure to first and final verdict of SUSPECT parts; a rung change to its first result."""
    line = _Line(model)
    try:
        sequence = _suspects(results, line, parts)
        _rungs(results, line, sequence, switches)
    finally:
        line.close()


def _suspects(results: Results, line: _Line, parts: int) -> int:
    first, final = [], []
    edge = load_inspector(model="surface_nano/1")
    images = []
    number = 0
    while len(images) < parts:
        part = render(("board", "steel")[number % 2], SEED + 500 + number)
        number += 1
        if edge.inspect(part.image, "bgr8").decision.verdict is Verdict.SUSPECT:
            images.append(part.image)
    for sequence, image in enumerate(track(images, "suspect parts", transient=True), 1):
        line.feeder.feed(image, sequence)

        def last(sequence: int = sequence) -> PartVerdict | None:
            mine = [v for v in line.verdicts if v.part_id == f"p{sequence}"]
            return mine[-1] if mine and mine[-1].stage == PartVerdict.STAGE_FINAL else None

        if not line.until(last, 12.0):
            continue
        mine = [v for v in line.verdicts if v.part_id == f"p{sequence}"]
        first.append(mine[0].latency_ms)
        final.append(mine[-1].latency_ms)
    p50, p99 = np.percentile(first, [50, 99])
    note = f"{len(first)} SUSPECT parts, one at a time"
    results.add("exposure to first verdict p50", p50, "ms", note=note)
    results.add("exposure to first verdict p99", p99, "ms", p50)
    p50, p99 = np.percentile(final, [50, 99])
    crops = sum(d.crop_count for d in line.details if d.crop_index == 0) / max(len(final), 1)
    results.add("exposure to final verdict p50", p50 / 1e3, "s", limit="2-3 s",
                note=f"{crops:.1f} crops a part")  # fmt: skip
    results.add("exposure to final verdict p99", p99 / 1e3, "s", limit="2-3 s")
    return len(images)


def _rungs(results: Results, line: _Line, sequence: int, switches: int) -> None:
    period_s = 1 / 15
    client = line.feeder.create_client(SetInspectorRung, "inspector/set_rung")
    line.until(client.service_is_ready, 10.0)
    image = render("board", SEED, defects=0).image
    delays = []
    for number in track(range(switches), "rung changes", transient=True):
        rung = (1, 2, 0)[number % 3]
        request = SetInspectorRung.Request(rung=rung)
        request.command.command_id = f"{os.getpid()}-{time.time_ns()}"
        request.command.caller = "bench"
        future = None
        line.results.clear()
        changed: list[InspectionResult] = []
        ask_at = time.monotonic() + 3 * period_s
        due = time.monotonic()
        end = due + 3.0
        while not changed and time.monotonic() < end:
            if time.monotonic() >= due:
                sequence += 1
                due += period_s
                line.feeder.feed(image, sequence)
            if future is None and time.monotonic() >= ask_at:
                future = client.call_async(request)
            line.executor.spin_once(timeout_sec=0.002)
            changed = [r for r in line.results if r.provenance.rung == rung]
        if changed and future is not None and future.done():
            shown_ns = _ns(changed[0].header.stamp) + changed[0].frame_age_ms * 1e6
            delays.append((shown_ns - _ns(future.result().result.acted_stamp)) / 1e6)
    infer = [s.duration_ms for r in line.results for s in r.provenance.stages if s.name == "infer"]
    bound = period_s * 1e3 + float(np.median(infer))
    note = f"{len(delays)} changes at 15 frames/s"
    results.add("rung change to first result p50", float(np.median(delays)), "ms", bound,
                "a frame period + an inference (baseline)", note)  # fmt: skip
    results.add("rung change to first result max", max(delays), "ms", bound,
                "a frame period + an inference (baseline)", note)  # fmt: skip


def _ns(stamp: Any) -> int:
    return int(Time.from_msg(stamp).nanoseconds)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer parts")
    parser.add_argument("--model", default="surface_nano/1")
    parser.add_argument("--second", default="surface_nano/1", help="the detail tier's model")
    parser.add_argument("--zooms", type=float, nargs="+", default=(1.0, 0.75))
    parser.add_argument("--cores", action="store_true", help="without the graph")
    args = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "77")
    results = Results("tiers")
    cores(results, 120 if args.quick else 400, args.model, args.second, tuple(args.zooms))
    if not args.cores:
        in_the_graph(results, 6 if args.quick else 25, 12 if args.quick else 45, args.model)
    results.finish()


if __name__ == "__main__":
    main()

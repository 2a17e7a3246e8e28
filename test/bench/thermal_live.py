"""The real node, in its own process: what it costs, and how fast an inspector follows its rung."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from table import Results

sys.path.append(str(Path(__file__).resolve().parents[1] / "graph"))
from harness import ACTIVE, Graph
from shopfloor_msgs.msg import InspectionResult, StageTime, ThermalState
from shopfloor_msgs.srv import SetRung

from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos
from shopfloor.sim.board_tree import BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, throttling_from

DOMAIN = 19
CAMERA_HZ = 5.0
MODELS = ("surface_nano/1", "surface_server/1")
"""At 640 and at 256 pixels: the shipped pair of the same classes."""

_EMPTY = """
import rclpy
from rclpy.node import Node
rclpy.init(); node = Node('empty'); rclpy.spin(node)
"""
_BASE = """
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
run_node(lambda: ShopfloorNode('base'))
"""


@contextmanager
def _board(folder: Path) -> Iterator[Path]:
    """A board whose files change five times a second."""
    plant = ThermalPlant(throttling_from(32.0, BoardSpec()), hall_celsius=20.0)
    tree = BoardTree(folder, plant)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.2):
            plant.step(0.2)
            tree.update()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield folder
    finally:
        stop.set()
        thread.join()


def cost(results: Results, seconds: float) -> None:
    """CPU and memory of the node beside an empty node, with 30 results a second to listen to."""
    with tempfile.TemporaryDirectory() as folder, _board(Path(folder)):
        graph = Graph(DOMAIN, Path(folder))
        try:
            empty = graph.python("-c", _EMPTY)
            base = graph.python("-c", _BASE)
            node = graph.start(
                "thermal_watchdog:watchdog", parameters={"system_root": folder, "host_name": "b"}
            )
            graph.until_state("/watchdog", ACTIVE)
            row = interface("inspection_result")
            talker = graph.node.create_publisher(InspectionResult, row.name, publisher_qos(row.qos))
            graph.until(talker.get_subscription_count, "the watchdog to listen")
            children = [psutil.Process(c.process.pid) for c in (empty, base, node)]
            quiet = _cpu(children, seconds, lambda: None)
            result = InspectionResult(station="s")
            result.provenance.host = "b"
            result.provenance.stages = [StageTime(name="infer", duration_ms=28.0)]
            busy = _cpu(children, seconds, lambda: talker.publish(result))
            memory = [child.memory_info().rss / 1e6 for child in children]
            own = [child.memory_full_info().uss / 1e6 for child in children]
        finally:
            graph.close()
    results.add(
        "node CPU",
        quiet[2] - quiet[1],
        "% of a core",
        None,
        "<= 1",
        f"over the base of every node ({quiet[1]:.1f}); empty rclpy node {quiet[0]:.1f}",
    )
    results.add(
        "node CPU, 30 results/s",
        busy[2] - busy[1],
        "% of a core",
        None,
        "",
        "with an inspector's results to listen to",
    )
    results.add(
        "node memory",
        memory[2] - memory[0],
        "MB",
        None,
        "<= 20",
        f"over an empty rclpy node ({memory[0]:.0f}); base {memory[1] - memory[0]:.0f}",
    )
    results.add(
        "node memory, its own",
        own[2] - own[0],
        "MB",
        None,
        "",
        "over an empty rclpy node; without the pages that it shares with the host's other nodes",
    )


def _cpu(children: list[psutil.Process], seconds: float, act: object) -> list[float]:
    """Per cent of a core of each child while `act` is called 30 times a second."""
    before = [sum(child.cpu_times()[:2]) for child in children]
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        act()  # type: ignore[operator]
        time.sleep(1.0 / 30.0)
    length_s = time.monotonic() - start
    after = [sum(child.cpu_times()[:2]) for child in children]
    return [100.0 * (b - a) / length_s for a, b in zip(before, after, strict=True)]


def rung_change(results: Results, changes: int) -> None:
    """From a ThermalState with a new rung to the first result at it, of a real inspector.

    Its two rungs are two shipped models, so a change is one of engine.
    """
    with tempfile.TemporaryDirectory() as folder, _board(Path(folder)):
        graph = Graph(DOMAIN, Path(folder))
        try:
            delays, inference_ms = _changes(graph, folder, changes)
        finally:
            graph.close()
    period_ms = 1000.0 / CAMERA_HZ
    for rung, model in enumerate(MODELS):
        delays[rung].sort()
        results.add(
            f"to rung {rung} ({model}): first result",
            delays[rung][len(delays[rung]) // 2],
            "ms",
            period_ms + inference_ms[rung],
            "<= baseline",
            f"median of {len(delays[rung])}, worst {delays[rung][-1]:.0f}; baseline: a frame "
            f"period and an inference of this run ({inference_ms[rung]:.0f} ms)",
        )


def _changes(
    graph: Graph, folder: str, changes: int
) -> tuple[dict[int, list[float]], dict[int, float]]:
    """Delays in ms by rung, and the median time of an inference there, queue left out."""
    states: list[tuple[float, ThermalState]] = []
    seen: list[tuple[float, InspectionResult]] = []
    for key, type_, into, names in (
        ("thermal_state", ThermalState, states, {"host": "b"}),
        ("inspection_result", InspectionResult, seen, {}),
    ):
        row = interface(key)
        graph.node.create_subscription(
            type_,
            row.resolve(**names),
            lambda message, into=into: into.append((time.monotonic(), message)),
            publisher_qos(row.qos),
        )
    graph.start(
        "thermal_watchdog:watchdog",
        "camera:camera",
        "inspector:inspector",
        "line_simulator:belt",
        parameters={
            "host_name": "b",
            "watchdog:system_root": folder,
            "camera:source": "simulated",
            "belt:parts_per_minute": 60.0 * CAMERA_HZ,
            "belt:distinct_parts": 8,
            "inspector:model": MODELS[0],
            "inspector:rung_names": "[full,small,hold]",
            "inspector:rung_modes": "[inspect,inspect,hold]",
            "inspector:rung_models": f"['',{MODELS[1]},'']",
            "watchdog:rung_names": "[full,small,hold]",
            "watchdog:rung_fps": "[10.0,10.0,0.0]",
            "watchdog:rung_p99_ms": "[5000.0,5000.0,0.0]",
        },
    )
    graph.until(lambda: states and len(seen) > 10, "results and states", 90.0)
    delays: dict[int, list[float]] = {0: [], 1: []}
    for number, rung in zip(range(2 * changes), itertools.cycle((1, 0)), strict=False):
        request = SetRung.Request(rung=rung, duration_s=60.0)
        request.command.caller, request.command.command_id = "bench", str(number)
        request.command.reason = "measure"
        count = len(seen), len(states)
        graph.call(SetRung, interface("set_rung").resolve(host="b"), request)
        said_s = graph.until(
            lambda c=count, r=rung: [t for t, s in states[c[1] :] if s.rung == r], "the state"
        )[0]
        first_s, first = graph.until(
            lambda c=count, r=rung: [x for x in seen[c[0] :] if x[1].provenance.rung == r],
            "a result at the new rung",
        )[0]
        if f"{first.provenance.model}/{first.provenance.model_version}" != MODELS[rung]:
            raise RuntimeError(f"rung {rung} answered with {first.provenance.model}")
        delays[rung].append(1e3 * (first_s - said_s))
        graph.until(lambda c=count: len(seen) > c[0] + 5, "some results")
    inference_ms = {}
    for rung in delays:
        times = sorted(
            sum(s.duration_ms for s in result.provenance.stages if s.name != "queue")
            for _, result in seen
            if result.provenance.rung == rung
        )
        inference_ms[rung] = times[len(times) // 2]
    return delays, inference_ms

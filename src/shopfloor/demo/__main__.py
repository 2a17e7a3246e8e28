"""`./run demo`: start the whole graph, watch it for a minute, and answer how it did."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live

from shopfloor.demo import report, screen
from shopfloor.demo.monitor import MonitorNode, ProcessMeter
from shopfloor.demo.options import parse
from shopfloor.demo.tally import Tally, Usage
from shopfloor.plant.claims import ClashError, claim
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.problems import PlantError
from shopfloor.plant.specs import ProcessSpec, make_specs
from shopfloor.plant.supervisor import Event, EventKind, Supervisor
from shopfloor.ros.paths import share_folder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_SCREEN_PERIOD_S = 0.5
_START_LIMIT_S = 60.0
_LAST_FRAMES_S = 1.0


class DemoError(RuntimeError):
    """The demo cannot run; the message says why."""


class Demo:
    """One run of the demo."""

    def __init__(self, args: argparse.Namespace, console: Console) -> None:
        self._args = args
        self._console = console
        self._started_s = time.monotonic()
        self._meter = ProcessMeter()
        self._stop_asked = False
        self._interrupted = False
        self.tally = Tally()
        self.output: Path = (
            args.output or Path("build") / "demo" / time.strftime("%Y%m%d_%H%M%S")
        ).resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        self._log = (self.output / "graph.log").open("w", encoding="utf-8")
        self._plant = self._make_plant()

    def run(self) -> int:
        """Start, watch, stop, report; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(self, "_stop_asked", True))
        specs = make_specs(self._plant, "all")
        os.environ.update(specs[0].environment)
        os.environ.setdefault("SHOPFLOOR_STATE_DIR", str(self.output / "state"))
        with claim(self._plant, specs):
            code, seconds = self._watch(specs)
        return self._finish(code, seconds)

    def _make_plant(self) -> Plant:
        """The plant file of this run, written beside its results so that it can be run again."""
        name = "demo_images.yaml" if self._args.images else "demo.yaml"
        source = self._args.plant or share_folder() / "config" / name
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        bag = {"folder": str(self.output), "name": "bag"}
        for cell in content["cells"].values():
            for node in cell["nodes"].values():
                if node["type"] == "recorder":
                    node["parameters"] = {**node.get("parameters", {}), **bag}
                if node["type"] == "camera" and self._args.images:
                    node["parameters"]["address"] = str(_picture_folder(self._args.images))
        path = self.output / "plant.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return load_plant(path)

    def _watch(self, specs: list[ProcessSpec]) -> tuple[int, float]:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor()
        cells = {node.namespace for spec in specs for node in spec.nodes}
        monitor = MonitorNode(self.tally, cells, self._started_s)
        executor.add_node(monitor)
        supervisor = Supervisor(specs, on_event=self._on_event)
        first_s: float | None = None
        shown_s = 0.0
        try:
            supervisor.start()
            with Live(console=self._console, refresh_per_second=2, transient=True) as live:
                while not self._stop_asked and not supervisor.done:
                    executor.spin_once(timeout_sec=0.05)
                    supervisor.poll(0.0)
                    now = time.monotonic()
                    if first_s is None and self.tally.started_to_verdict_s is not None:
                        first_s = now
                    if self._over(now, first_s, monitor):
                        break
                    if now - shown_s > _SCREEN_PERIOD_S:
                        shown_s = now
                        self._measure(supervisor, specs)
                        elapsed_s = now - first_s if first_s is not None else 0.0
                        live.update(
                            screen.live(self.tally, self.tally.usage, monitor.host_lines(),
                                        elapsed_s, self._args.seconds)
                        )  # fmt: skip
            self._interrupted = self._stop_asked and not self._args.keep
            self._measure(supervisor, specs)
            seconds = time.monotonic() - (first_s or time.monotonic())
        finally:
            supervisor.close()
            executor.shutdown(timeout_sec=1.0)
            monitor.destroy_node()
            rclpy.try_shutdown()
        return supervisor.exit_code, seconds

    def _over(self, now: float, first_s: float | None, monitor: MonitorNode) -> bool:
        if first_s is None:
            if now - self._started_s > _START_LIMIT_S:
                self.tally.alarms[f"no verdict within {_START_LIMIT_S:g} s of the start"] += 1
                return True
            return False
        if self._args.keep:
            return False
        judged_all = all(part.verdict for part in self.tally.parts.values())
        # The last frames may still be on their way when the camera says that it is at the end.
        at_the_end = monitor.all_ended_s() > _LAST_FRAMES_S and judged_all
        return at_the_end or now - first_s >= self._args.seconds

    def _measure(self, supervisor: Supervisor, specs: list[ProcessSpec]) -> None:
        restarts = supervisor.restarts
        usage = []
        for spec in specs:
            pid = supervisor.running.get(spec.name)
            cpu, memory = self._meter.sample(pid) if pid else (0.0, 0.0)
            nodes = tuple(node.name for node in spec.nodes)
            usage.append(Usage(spec.name, nodes, cpu, memory, restarts[spec.name]))
        self.tally.usage = usage

    def _on_event(self, event: Event) -> None:
        print(f"{event.process}: {event.text}", file=self._log, flush=True)
        if event.kind in (EventKind.EXITED, EventKind.GAVE_UP) and event.bad:
            self.tally.alarms[f"{event.process}: {event.text}"] += 1
        if event.kind is EventKind.LINE and ("[ERROR]" in event.text or "[FATAL]" in event.text):
            self.tally.alarms[f"{event.process}: {event.text}"] += 1

    def _finish(self, code: int, seconds: float) -> int:
        self._log.close()
        summary = self.tally.summary(seconds, self._interrupted)
        page = self.output / "report.html"
        report.write(page, self.tally, summary, "shopfloor demo")
        data = json.dumps(summary, indent=1) + "\n"
        (self.output / "summary.json").write_text(data, encoding="utf-8")
        if self._args.json:
            self._args.json.parent.mkdir(parents=True, exist_ok=True)
            self._args.json.write_text(data, encoding="utf-8")
        self._console.print(screen.final(summary, self.tally))
        for name, path in (("report", page), ("bag", self.output / "bag"), ("log", self._log.name)):
            # Whole, however narrow the screen is: people copy it.
            self._console.print(f"{name:7}{path}", soft_wrap=True, highlight=False, markup=False)
        if self._stop_asked:
            return 0
        if not summary["parts"]:
            self._console.print(f"no part was judged: see {self.output / 'graph.log'}", style="red")
            return code or 1
        return code


def _picture_folder(path: Path) -> Path:
    """The folder, resolved; raises DemoError where it is none or holds no picture."""
    path = path.expanduser().resolve()
    if not path.is_dir():
        raise DemoError(f"--images: {path} is no folder")
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir()):
        raise DemoError(f"--images: {path} holds no picture; allowed: {', '.join(IMAGE_SUFFIXES)}")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 2 when it cannot start, with the reason on stderr."""
    args = parse(arguments)
    try:
        return Demo(args, Console()).run()
    except (DemoError, PlantError, ClashError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())

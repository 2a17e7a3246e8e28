"""Vibration: speed beside pandas + scipy, accuracy, detection, false alarms, CWRU by fault size.

./run bench vibration            about 6 minutes
./run bench vibration --quick    about 1 minute: smaller sets, not for quoting
"""

from __future__ import annotations

import argparse
import gc
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import scipy.fft
import scipy.stats
import vibration_sets
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.signal import welch
from table import Results
from vibration_sets import RATE, STEP_NS, ZONES, N, machines

from shopfloor.sim.machines import MACHINES, MachineStream
from shopfloor.vibration import messages
from shopfloor.vibration.analysis import Analyser, Speed, SpeedSource
from shopfloor.vibration.clock import ClockLimits
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.features import DEFAULT_BANDS_HZ, FeatureExtractor, Layout
from shopfloor.vibration.health import HealthLimits
from shopfloor.vibration.monitoring import Monitoring, Settings
from shopfloor.vibration.signal import Block, Unit, Window

CHANNELS = 36
MONITOR = "vibration_monitor"


def median_ms(work: Callable[[], object], runs: int) -> float:
    work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken) * 1e3)


# Speed ----------------------------------------------------------------------------------------


def pandas_loop(x: np.ndarray, lean: bool = False) -> list[list[float]]:
    """The script that one finds: a Series per channel, scipy's kurtosis and Welch, a mask per band.

    lean: with pandas' own kurtosis, which is quicker than scipy's.
    """
    rows = []
    for channel in x:
        series = pd.Series(channel.astype(np.float64))
        series = series - series.mean()
        rms = float(np.sqrt((series**2).mean()))
        peak = float(series.abs().max())
        tails = series.kurt() + 3 if lean else scipy.stats.kurtosis(series, fisher=False)
        row = [rms, peak, peak / rms, float(tails)]
        hz, psd = welch(series, RATE, nperseg=2048)
        for low, high in DEFAULT_BANDS_HZ:
            inside = (hz >= low) & (hz < high)
            row.append(float(psd[inside].sum() * hz[1]))
        rows.append(row)
    return rows


def speed(results: Results, quick: bool) -> None:
    """The basic set against the loop, the FFT floor, and everything that a window gets."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((CHANNELS, N)).astype(np.float32)
    extractor = FeatureExtractor(Layout(RATE, N))
    runs = 20 if quick else 100
    loop, lean, ours, floor = [], [], [], []
    segments = np.lib.stride_tricks.sliding_window_view(x, 2048, axis=1)[:, ::1024].copy()
    for _ in range(3):  # in turns: the machine's clock moves
        loop.append(median_ms(lambda: pandas_loop(x), max(3, runs // 10)))
        lean.append(median_ms(lambda: pandas_loop(x, lean=True), max(3, runs // 10)))
        ours.append(median_ms(lambda: extractor.basic(x), runs))
        floor.append(median_ms(lambda: scipy.fft.rfft(segments, axis=2), runs))
    loop_ms, lean_ms, ours_ms, floor_ms = (float(np.median(t)) for t in (loop, lean, ours, floor))
    per_channel = 1e3 / CHANNELS
    results.add(
        "basic set",
        ours_ms * per_channel,
        "us per channel-second",
        loop_ms * per_channel,
        "ratio <= 1/15",
        "baseline: pandas + scipy loop, float64",
    )
    results.add(
        "basic set, times faster",
        loop_ms / ours_ms,
        "x",
        limit=">= 15",
        note="loop with scipy.stats.kurtosis",
    )
    results.add(
        "basic set, times faster than a leaner loop",
        lean_ms / ours_ms,
        "x",
        note="Series.kurt instead of scipy.stats.kurtosis",
    )
    results.add(
        "floor: its FFTs alone",
        floor_ms * per_channel,
        "us per channel-second",
        ours_ms * per_channel,
        "physical limit of the basic set",
        "baseline: basic set",
    )
    expected = np.array(pandas_loop(x))[:, 4:]
    error = float(np.abs(extractor.basic(x).bands / expected - 1).max())
    results.add("basic set, band error", error, "relative", limit="<= 1e-5", note="against scipy")

    analyser = Analyser(machines(), ZONES)
    names = [spec.name for spec in MACHINES] * 2
    windows = [
        Window(name, f"s{k}", "", 0, 0, 9, RATE, ("x", "y", "z"), Unit.ACCELERATION,
               MachineStream(MACHINES[k % 6], k).take(N), 490.0, (11.0, 11.0, 11.0))
        for k, name in enumerate(names)
    ]  # fmt: skip
    speeds = [Speed(MACHINES[k % 6].speed_rpm, SpeedSource.MEASURED) for k in range(len(windows))]
    all_ms = median_ms(lambda: analyser.analyse(windows, speeds), runs)
    results.add("validation, all features, bearing", all_ms * per_channel,
                "us per channel-second", note="12 sensors in one batch")  # fmt: skip


def messages_too(results: Results, quick: bool) -> None:
    """CPU of one core for 36 channels, from serialised blocks to serialised answers, and memory."""
    from rclpy.serialization import deserialize_message, serialize_message
    from shopfloor_msgs.msg import VibrationBlock

    analyser = Analyser(machines(), ZONES)
    monitoring = Monitoring(_settings(), machines())
    origin = messages.Origin("0" * 64, "bench", "/bench")
    sensors = [(f"s{k}", MACHINES[k % 6]) for k in range(CHANNELS // 3)]
    second = {name: MachineStream(spec, k).take(N) for k, (name, spec) in enumerate(sensors)}
    process = psutil.Process()
    seconds = 60 if quick else 3600
    warm, memory, cpu = seconds // 4, [], 0.0
    at_ns = 1_800_000_000_000_000_000
    for s in track(range(seconds), description="an hour of 36 channels"):
        incoming = []
        for k in range(10):
            for name, spec in sensors:
                data = second[name][:, k * 1000 : (k + 1) * 1000]
                stamp = at_ns + (10 * s + k) * STEP_NS
                block = Block(spec.name, name, 10 * s + k, stamp, stamp + STEP_NS, RATE,
                              ("x", "y", "z"), Unit.ACCELERATION, data, 490.0)  # fmt: skip
                incoming.append(serialize_message(messages.block_message(block)))
        for spec in MACHINES:
            monitoring.hear_speed(spec.name, stamp, spec.speed_rpm, 1)
        start = time.process_time()
        waiting = []
        for data in incoming:
            message = deserialize_message(data, VibrationBlock)
            for window in monitoring.add(messages.block(message, stamp), 0):
                waiting.append((window, monitoring.speed(window)))
        stages = {"features": 1.0}
        for found in analyser.analyse([w for w, _ in waiting], [v for _, v in waiting]):
            serialize_message(messages.features(found, analyser.bands_hz, origin, stages))
            report = monitoring.judge(found, stamp)
            serialize_message(
                messages.machine_health(report.machine_id, report.sensor_id, report.health,
                                        report.book.alert, report.work_order, stamp, origin, stages)
            )  # fmt: skip
        cpu += time.process_time() - start
        if s % max(1, seconds // 60) == 0:
            gc.collect()
            memory.append(process.memory_info().rss / 2**20)
    share = cpu / seconds
    results.add("36 channels, features and messages", 100 * share, "% of a core", limit="<= 10",
                note="120 blocks/s in, 12 windows/s out, both serialised; no DDS")  # fmt: skip
    results.add("the same", share / CHANNELS * 1e6, "us per channel-second")
    later = [m for m, s in zip(memory, range(0, seconds, max(1, seconds // 60)), strict=False)
             if s >= warm]  # fmt: skip
    results.add("memory growth after warm-up", later[-1] - later[0], "MiB", limit="flat",
                note=f"{seconds} s of data, {later[-1]:.0f} MiB at the end")  # fmt: skip


def _settings() -> Settings:
    return Settings(1.0, DEFAULT_BANDS_HZ, ClockLimits(), HealthLimits(), DiagnosisLimits(),
                    None, 3.0, 5.0, 64)  # fmt: skip


def live(results: Results, quick: bool) -> None:
    """The node itself over DDS, with two lengths of block: each block costs a turn of rclpy."""
    for block_s in (0.1, 0.5):
        _live(results, 10 if quick else 40, block_s)


def _live(results: Results, seconds: int, block_s: float) -> None:
    """CPU of the node's process while 36 channels come in, in real time."""
    import os
    import subprocess
    import tempfile

    import rclpy
    from rclpy.serialization import serialize_message

    from shopfloor.ros.endpoint_node import message_type
    from shopfloor.ros.interfaces import interface
    from shopfloor.ros.qos import publisher_qos, subscription_qos

    os.environ.setdefault("ROS_DOMAIN_ID", "96")
    per_second, size = round(1 / block_s), round(block_s * RATE)
    with tempfile.TemporaryDirectory() as folder:
        machines_file = Path(folder) / "machines.yaml"
        rows = {
            spec.name: {"nominal_rpm": spec.speed_rpm, "iso": {"group": 2, "foundation": "rigid"},
                        "bearing": dict(zip(("bpfo", "bpfi", "bsf", "ftf"), spec.orders,
                                            strict=True))}
            for spec in MACHINES
        }  # fmt: skip
        machines_file.write_text(yaml.safe_dump({"machines": rows}))
        words = (
            f"-m shopfloor.plant.group --node {MONITOR}:{MONITOR} --ros-args "
            f"-p machines_file:={machines_file} -p baseline_folder:={folder}"
        )
        child = subprocess.Popen(
            [sys.executable, *words.split()],
            env={**os.environ, "SHOPFLOOR_STATE_DIR": folder, "OMP_NUM_THREADS": "1"},
        )
        rclpy.init()
        node = rclpy.create_node("bench_sensors")
        row = interface("vibration_block")
        blocks = node.create_publisher(message_type(row.type), row.name, publisher_qos(row.qos))
        row = interface("tachometer")
        speeds = node.create_publisher(message_type(row.type), row.name, publisher_qos(row.qos))
        row, heard = interface("vibration_features"), []
        node.create_subscription(
            message_type(row.type), row.name, heard.append, subscription_qos(row.qos)
        )
        try:
            while not (blocks.get_subscription_count() and speeds.get_subscription_count()):
                rclpy.spin_once(node, timeout_sec=0.1)
            process = psutil.Process(child.pid)
            streams = [
                (f"s{k}", MACHINES[k % 6], MachineStream(MACHINES[k % 6], k).take(N))
                for k in range(CHANNELS // 3)
            ]
            due, start_ns = time.monotonic(), time.time_ns() - round(block_s * 1e9)
            before = start = 0.0
            for k in track(range(per_second * (seconds + 5)), description="36 channels over DDS"):
                if k == 5 * per_second:  # the first seconds load what is loaded once
                    before, start = sum(process.cpu_times()[:2]), time.monotonic()
                    heard.clear()
                stamp = time.time_ns()
                for name, spec, data in streams:
                    first = k % per_second * size
                    part = data[:, first : first + size]
                    begin = start_ns + round(k * block_s * 1e9)
                    block = Block(spec.name, name, k, begin, stamp, RATE, ("x", "y", "z"),
                                  Unit.ACCELERATION, part, 490.0)  # fmt: skip
                    blocks.publish(serialize_message(messages.block_message(block)))
                    if k % per_second == 0:
                        speeds.publish(messages.tachometer(block, spec.speed_rpm, 1))
                due += block_s
                while (left := due - time.monotonic()) > 0:
                    rclpy.spin_once(node, timeout_sec=left)
            share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - start)
            valid = sum(f.quality.status == 1 for f in heard)
            key = f"36 channels over DDS, blocks of {block_s:g} s"
            note = (
                f"{len(heard)} windows in {seconds} s, {valid} valid; "
                f"{process.memory_info().rss / 2**20:.0f} MiB"
            )
            results.add(key, 100 * share, "% of a core", limit="<= 10", note=note)
        finally:
            child.terminate()
            child.wait(10)
            rclpy.try_shutdown()


# Accuracy -------------------------------------------------------------------------------------


def accuracy(results: Results) -> None:
    """Against closed forms, over frequencies that fall anywhere between bins."""
    extractor = FeatureExtractor(Layout(RATE, N))
    rng = np.random.default_rng(2)
    t = np.arange(N) / RATE
    line, velocity = [], []
    for hz in rng.uniform(12, 990, 200):
        phase = rng.uniform(0, 2 * np.pi)
        x = np.sin(2 * np.pi * hz * t + phase).astype(np.float32)[None]
        spectrum = extractor.spectrum(x)
        found = extractor.lines(spectrum, np.array([[hz]]))
        line.append(abs(float(found.amplitude[0, 0]) - 1))
        rms = 1e3 / (2 * np.pi * hz) / math.sqrt(2)
        velocity.append(abs(extractor.velocity_rms_mm_s(spectrum, Unit.ACCELERATION)[0] / rms - 1))
    results.add("line amplitude, worst of 200 tones", 100 * max(line), "%", limit="<= 0.5")
    results.add("velocity RMS, worst of 200 tones", 100 * max(velocity), "%", limit="<= 1",
                note="12 to 990 Hz")  # fmt: skip
    x = rng.standard_normal((8, N)).astype(np.float32)
    _, psd = welch(x.astype(float), RATE, nperseg=2048)
    worst = float(np.abs(extractor.welch(x) / psd - 1)[:, 1:].max())
    results.add("Welch against scipy, worst bin", worst, "relative", limit="<= 1e-5")


def main() -> None:
    """Run all of it, or the parts named."""
    parts: dict[str, Callable[[Results, bool], None]] = {
        "speed": speed,
        "messages": messages_too,
        "live": live,
        "accuracy": lambda results, quick: accuracy(results),
        "cwru": lambda results, quick: vibration_sets.cwru(results),
        "detection": vibration_sets.detection,
        "month": vibration_sets.healthy_month,
        "validation": vibration_sets.validation,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller sets, not for quoting")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="these parts")
    arguments = parser.parse_args()
    results = Results("vibration")
    for name in arguments.only:
        parts[name](results, arguments.quick)
    results.finish()
    must_show(results)


def must_show(results: Results) -> None:
    """The figures that have an aim, and whether it was met; `flat` is within 1 MiB."""
    shown = Table(title="aims")
    for column in ("what", "figure", "aim", "met"):
        shown.add_column(column)
    for row in results.rows:
        aim = re.fullmatch(r"(?:ratio )?(<=|>=)? ?([\d.e-]+)|flat", row.limit)
        if aim is None:
            continue
        bound = float(aim[2]) if aim[2] else 1.0
        met = row.value >= bound if aim[1] == ">=" else row.value <= bound
        shown.add_row(row.key, f"{row.value:.4g} {row.unit}", row.limit, "yes" if met else "NO")
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


if __name__ == "__main__":
    main()

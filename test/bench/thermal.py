"""The thermal watchdog against a simulated board: shift, forecast, sensor faults, cost.

./run bench thermal            about 15 minutes: a shift of four hours, eight other boards
./run bench thermal --quick    about 3 minutes: an hour, two other boards

Writes build/bench/thermal.json, thermal_shift.png, thermal_forecast.png and thermal.html.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import thermal_live
import thermal_plots
from rich.progress import track
from table import FOLDER, Results
from thermal_shift import PARAMETERS, Shift, run_shift

from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, random_board, throttling_from
from shopfloor.thermal.board import Board
from shopfloor.thermal.forecast import Trace
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.nvml import Nvml
from shopfloor.thermal.sensors import Sensors
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import Observer, Watchdog, WatchdogSettings

HOUR_S = 3600.0
FAULTS = {
    "offline": Fault.OFFLINE,
    "zero": Fault.OFFLINE,
    "absurd": Fault.ABSURD,
    "missing": Fault.MISSING,
    "frozen": Fault.FROZEN,
}


# The shift -------------------------------------------------------------------------------------


def shifts(results: Results, length_s: float, boards: int) -> tuple[Shift, Shift, list[Shift]]:
    """The first board with and without, and other boards with the watchdog."""
    jobs = [
        partial(run_shift, 0, length_s, watchdog=False),
        partial(run_shift, 0, length_s, watchdog=True),
    ]
    for seed in range(1, boards + 1):
        jobs.append(partial(run_shift, seed, length_s / 2.0, watchdog=True))
        jobs.append(partial(run_shift, seed, length_s / 2.0, watchdog=False))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(job) for job in jobs]
        done = [future.result() for future in track(futures, description="shifts")]
    without, with_, others = done[0], done[1], done[2::2]
    others_without = done[3::2]
    _first_board(results, without, with_)
    many = f"{len(others)} other boards, whole-degree sensors on every second"
    worst = max(others, key=lambda shift: shift.missed_at_30_fps)
    results.add(
        "other boards: missed at 30 fps",
        worst.missed_at_30_fps,
        "frames",
        max(s.missed_at_30_fps for s in others_without),
        "0",
        f"worst of {many}",
    )
    results.add(
        "other boards: notice",
        min(s.notice_s for s in others),
        "s",
        None,
        ">= 10",
        "shortest before a promise fell; inf: none fell",
    )
    results.add(
        "other boards: between steps", min(s.gap_s for s in others), "s", None, ">= 30", "shortest"
    )
    results.add(
        "other boards: superfluous steps",
        max(s.superfluous for s in others),
        "steps",
        None,
        "<= 2",
        "most in a shift",
    )
    results.add(
        "other boards: not recovered",
        sum(s.rung > 0 for s in others),
        "boards",
        None,
        "0",
        "not at full speed at the end",
    )
    results.add(
        "other boards: false sensor faults",
        sum(s.false_faults for s in others),
        "samples",
        None,
        "",
        "of healthy sensors",
    )
    return without, with_, others


def _first_board(results: Results, without: Shift, with_: Shift) -> None:
    hours = f"{with_.length_s / HOUR_S:g} h, hall 24-40-24 C"
    results.add(
        "inference without watchdog",
        without.latency_max_ms,
        "ms",
        28.0,
        "about 85",
        f"worst; baseline: cool board. {hours}",
    )
    results.add("inference with watchdog", with_.latency_max_ms, "ms", 28.0, "< 33.3", "worst")
    due = sum(with_.due)
    results.add(
        "missed 33 ms deadlines",
        with_.missed_at_30_fps,
        "frames",
        without.missed_at_30_fps,
        "0",
        f"on rungs of 30 fps, {due} frames in all; baseline: without, of {sum(without.due)}",
    )
    results.add(
        "throttled",
        with_.throttle_events,
        "times",
        without.throttle_events,
        "0",
        "by the board's governor",
    )
    results.add("notice of a lower promise", with_.notice_s, "s", None, ">= 10", "shortest")
    results.add("steps", len(with_.steps), "", None, "", f"{with_.rungs_needed} rungs down needed")
    results.add("superfluous steps", with_.superfluous, "", None, "<= 2")
    results.add("between two steps", with_.gap_s, "s", None, ">= 30", "shortest")
    results.add("rung at the end", with_.rung, "", None, "0", "full recovery")
    share = with_.due[0] + with_.due[1]
    results.add(
        "frames of 30 fps rungs",
        100.0 * share / (30.0 * with_.length_s),
        "%",
        note="of all that full speed has",
    )


def fan_failure(results: Results, seeds: Sequence[int]) -> None:
    """A fan that stops at the coolest hour: heat that no ramp announces."""
    jobs = [partial(run_shift, s, HOUR_S / 2.0, watchdog=True, fan_fails_at_s=60.0) for s in seeds]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        done = [future.result() for future in [pool.submit(job) for job in jobs]]
    results.add(
        "fan stops: missed at 30 fps",
        max(s.missed_at_30_fps for s in done),
        "frames",
        None,
        "0",
        f"worst of {len(done)} boards",
    )
    notices = [s.notice_s for s in done]
    results.add("fan stops: notice", min(notices), "s", None, ">= 10", "shortest of all boards")
    results.add("fan stops: throttled", max(s.throttle_events for s in done), "times", None, "0")


# The forecast ----------------------------------------------------------------------------------


def forecast_errors(
    slopes_per_min: tuple[float, float], traces: int, seed: int
) -> tuple[list[float], list[float]]:
    """Errors in seconds of a crossing 60 s ahead, by the forecast and by a straight line.

    Each trace is a random board whose load or fan changed a while ago, read by a sensor of whole
    degrees with noise, jitter and a gap. The limit lies where the board will be in 60 s.
    """
    dice = random.Random(seed)
    ours: list[float] = []
    line: list[float] = []
    while len(ours) < traces:
        truth = _trajectory(dice)
        fits = [
            i
            for i in range(150, len(truth) - 1)
            if slopes_per_min[0] <= 60.0 * (truth[i + 1] - truth[i]) <= slopes_per_min[1]
        ]
        if fits:
            crossing = dice.choice(fits)
            mine, straight = _forecast_once(dice, truth, crossing)
            ours.append(mine)
            line.append(straight)
    return ours, line


def _trajectory(dice: random.Random) -> list[float]:
    """Die temperatures, one a second, for half an hour after a change; nothing throttles."""
    spec = replace(random_board(dice.randrange(1 << 30)), trip_celsius=500.0)
    start = dice.uniform(0.0, 0.6)
    plant = ThermalPlant(spec, hall_celsius=dice.uniform(20.0, 35.0), fps=30.0 * start)
    drift = dice.uniform(0.0, 0.3) / 60.0
    fails = dice.random() < 0.4
    truth = []
    for second in range(1800):
        if second == 30:
            plant.fan_works = not fails
            plant.fps = plant.fps if fails else 30.0 * dice.uniform(start + 0.3, 1.0)
        plant.hall_celsius += drift
        plant.step(1.0)
        truth.append(plant.die_celsius)
    return truth


def _forecast_once(dice: random.Random, truth: list[float], crossing: int) -> tuple[float, float]:
    trace, now_s = Trace(), crossing - 60.0
    noise, offset = dice.uniform(0.1, 0.4), dice.random()
    gap_s = dice.uniform(max(0.0, now_s - 200.0), now_s - 10.0)
    at_s, times, values = max(0.0, now_s - 300.0), [], []
    while at_s < now_s:
        if not gap_s < at_s < gap_s + 5.0:
            celsius = float(np.interp(at_s, range(len(truth)), truth)) + offset
            celsius = round(celsius + dice.gauss(0.0, noise))
            trace.add(at_s, celsius)
            if round(at_s / 0.15) % 13 == 0:
                trace.forecast(at_s)
            times.append(at_s)
            values.append(celsius)
        at_s += 0.15 * dice.uniform(0.7, 1.3)
    limit = truth[crossing] + offset
    forecast = trace.forecast(now_s)
    mine = forecast.seconds_to(limit) - 60.0 if forecast is not None else math.inf
    recent = [i for i, t in enumerate(times) if t > now_s - 30.0]
    slope, base = np.polyfit([times[i] - now_s for i in recent], [values[i] for i in recent], 1)
    straight = (limit - base) / slope - 60.0 if slope > 1e-6 else math.inf
    return mine, straight


def forecasts(results: Results, traces: int) -> tuple[dict[str, list[float]], ...]:
    """Slow and fast slopes."""
    ours: dict[str, list[float]] = {}
    line: dict[str, list[float]] = {}
    classes = {"slow (1-3 C/min)": (1.0, 3.0), "fast (4-15 C/min)": (4.0, 15.0)}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {n: pool.submit(forecast_errors, s, traces, len(n)) for n, s in classes.items()}
    for name, job in jobs.items():
        ours[name], line[name] = job.result()
        for label, q in (("median", 50), ("p90", 90)):
            error = float(np.percentile(np.abs(ours[name]), q))
            straight = float(np.percentile(np.abs(line[name]), q))
            results.add(
                f"crossing in 60 s, {name}: {label}",
                error,
                "s",
                straight,
                "<= 10",
                f"error, {traces} traces; baseline: line through 30 s",
            )
    return ours, line


# Sensors ---------------------------------------------------------------------------------------


def sensor_faults(results: Results, trials: int) -> None:
    """Each fault at a random moment: seconds until it has its name, as the node samples."""
    dice = random.Random(11)
    for kind, fault in FAULTS.items():
        times = []
        with tempfile.TemporaryDirectory() as folder:
            for trial in range(trials):
                root = Path(folder) / str(trial)
                times.append(_until_flagged(root, dice, kind, fault))
        results.add(
            f"sensor {kind}: flagged after",
            max(times),
            "s",
            None,
            "<= 1",
            f"longest of {trials}, as {fault.name}; never read as OK",
        )


def _until_flagged(root: Path, dice: random.Random, kind: str, fault: Fault) -> float:
    plant = ThermalPlant(throttling_from(32.0, BoardSpec()))
    tree = BoardTree(root, plant, seed=dice.randrange(1 << 30))
    observer = Observer(Sensors(root / "sys"), Board(root), None, TrustSettings())
    zone, period_s = dice.choice(ZONES), PARAMETERS.sample_period_s
    now_s = 100.0
    for _ in range(200):
        now_s += period_s
        plant.step(period_s)
        tree.update()
        observer.observe(now_s)
    # At any moment between two samples; a value that a sensor freezes at is a new one.
    at_s = now_s + dice.uniform(0.0, period_s)
    tree.update()
    tree.set_fault(zone, kind)
    while now_s < at_s + 30.0:
        now_s += period_s
        plant.step(period_s)
        tree.update()
        seen = observer.observe(now_s)
        found = next(z for z in seen.zones if z.sensor.name == zone)
        if found.fault is fault:
            return now_s - at_s
    return math.inf


def all_lost(results: Results) -> None:
    """From the loss of the last zone to the cautious rung."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plant = ThermalPlant(throttling_from(32.0, BoardSpec()))
        tree = BoardTree(root, plant)
        observer = Observer(Sensors(root / "sys"), Board(root), None, TrustSettings())
        ladder = Ladder(PARAMETERS.rungs(), PARAMETERS.ladder_settings())
        watchdog = Watchdog(ladder, WatchdogSettings())
        for i in range(100):
            tree.update()
            watchdog.decide(i * 0.15, observer.observe(i * 0.15))
        for zone in ZONES:
            tree.set_fault(zone, "offline")
        verdict = watchdog.decide(15.15, observer.observe(15.15))
        results.add(
            "all zones lost: rung", verdict.ladder.rung, "", 0.0, ">= 1", verdict.ladder.text
        )


def main() -> None:
    """Everything, then table, pictures and page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="shorter, fewer boards")
    quick = parser.parse_args().quick
    results = Results("thermal")
    without, with_, others = shifts(results, HOUR_S if quick else 4 * HOUR_S, 2 if quick else 8)
    fan_failure(results, range(1, 3 if quick else 9))
    ours, line = forecasts(results, 60 if quick else 150)
    sensor_faults(results, 4 if quick else 20)
    all_lost(results)
    thermal_live.cost(results, 8.0 if quick else 30.0)
    thermal_live.rung_change(results, 3 if quick else 10)
    nvml = Nvml()
    results.add("NVIDIA GPUs read by NVML", len(nvml.read()), "", None, "", nvml.absent or "read")
    nvml.close()
    FOLDER.mkdir(parents=True, exist_ok=True)
    shift_png, forecast_png = FOLDER / "thermal_shift.png", FOLDER / "thermal_forecast.png"
    thermal_plots.plot_shift(shift_png, without, with_)
    thermal_plots.plot_forecast(forecast_png, ours, line)
    results.finish()
    page = FOLDER / "thermal.html"
    pictures = [("The shift", shift_png), ("The forecast", forecast_png)]
    thermal_plots.write_page(page, results.rows, pictures, [with_, *others])
    print(f"written: {shift_png}\nwritten: {page}")


if __name__ == "__main__":
    main()

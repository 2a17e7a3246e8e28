"""The thermal watchdog against a simulated board: shift, forecast, sensor faults, cost.

./run bench thermal            about 14 minutes: a shift of an hour, five other boards
./run bench thermal --quick    about 4 minutes: 20 minutes, one other board

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
from functools import partial
from pathlib import Path

import numpy as np
import thermal_live
import thermal_plots
from rich.progress import track
from table import FOLDER, Results
from thermal_learning import learned_boards
from thermal_limit import bounds, quantile
from thermal_shift import PARAMETERS, Shift, run_shift
from thermal_traces import forecast_errors

from shopfloor.sim.board_tree import ZONES, BoardTree
from shopfloor.sim.thermal_plant import BoardSpec, ThermalPlant, throttling_from
from shopfloor.thermal.board import Board
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.nvml import Nvml
from shopfloor.thermal.sensors import Sensors
from shopfloor.thermal.sysfs import Fault
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import Observer, Watchdog, WatchdogSettings

HOUR_S = 3600.0
FORECAST_SEED = 40_000
"""Of traces that nobody has looked at while the forecast was tuned."""

PRIOR_WIDTHS = (1.0, 3.0)
"""How well the boards are known to whom the forecast is compared with."""

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
        partial(run_shift, 0, length_s, watchdog=True),
        partial(run_shift, 0, length_s, watchdog=False),
        *(partial(run_shift, seed, length_s, watchdog=True) for seed in range(1, boards + 1)),
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(job) for job in jobs]
        done = [future.result() for future in track(futures, description="shifts")]
    with_, without, others = done[0], done[1], done[2:]
    _first_board(results, without, with_)
    many = f"{len(others)} other boards, whole-degree sensors on every second"
    worst = max(others, key=lambda shift: shift.missed_at_30_fps)
    results.add(
        "other boards: missed at 30 fps",
        worst.missed_at_30_fps,
        "frames",
        None,
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


def fan_failure(results: Results, seeds: Sequence[int], *, tachometer: bool) -> None:
    """A fan that stops at the coolest hour: heat that no ramp announces."""
    stops = "fan stops" if tachometer else "fan stops, no tachometer"
    jobs = [
        partial(
            run_shift,
            seed,
            HOUR_S / 2.0,
            watchdog=True,
            fan_fails_at_s=60.0,
            tachometer=tachometer,
        )
        for seed in seeds
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        done = [future.result() for future in [pool.submit(job) for job in jobs]]
    results.add(
        f"{stops}: missed at 30 fps",
        max(s.missed_at_30_fps for s in done),
        "frames",
        None,
        "0",
        f"worst of {len(done)} boards",
    )
    notices = [s.notice_s for s in done]
    results.add(f"{stops}: notice", min(notices), "s", None, ">= 10", "shortest of all boards")
    results.add(f"{stops}: throttled", max(s.throttle_events for s in done), "times", None, "0")


# The forecast ----------------------------------------------------------------------------------


def forecasts(results: Results, traces: int) -> tuple[dict[str, list[float]], ...]:
    """Slow and fast slopes, each in parts of their own seeds."""
    ours: dict[str, list[float]] = {}
    line: dict[str, list[float]] = {}
    classes = {"slow (1-3 C/min)": (1.0, 3.0), "fast (4-15 C/min)": (4.0, 15.0)}
    parts = 5
    seeds = {
        name: [FORECAST_SEED + 100 * len(name) + part for part in range(parts)] for name in classes
    }
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            (name, part): pool.submit(forecast_errors, slopes, traces // parts, seeds[name][part])
            for name, slopes in classes.items()
            for part in range(parts)
        }
        limits = {
            name: pool.submit(bounds, slopes, traces // parts, seeds[name], PRIOR_WIDTHS)
            for name, slopes in classes.items()
        }
        errors = {key: job.result() for key, job in jobs.items()}
    for name in classes:
        rows = np.array([row for part in range(parts) for row in errors[name, part]])
        ours[name], line[name] = rows[:, 0].tolist(), rows[:, 2].tolist()
        count = len(rows)
        for label, q in (("median", 50), ("p90", 90)):
            fan, blind, straight = (
                float(np.percentile(np.abs(rows[:, i]), q, method="higher")) for i in range(3)
            )
            results.add(
                f"crossing in 60 s, {name}: {label}",
                fan,
                "s",
                straight,
                "<= 10",
                f"error, {count} traces; {blind:.1f} where no fan speed is known; "
                "baseline: line through 30 s",
            )
            least = [quantile(column, q / 100.0) for column in limits[name].result().T]
            results.add(
                f"crossing in 60 s, {name}: least possible {label}",
                least[0],
                "s",
                None,
                "",
                "Cramer-Rao, for who knows the equations, the fan and how boards are spread; "
                f"{least[1]:.1f} with a prior {PRIOR_WIDTHS[1]:g} times as wide",
            )
        for label, column in (("", 0), (", no fan speed", 1)):
            results.add(
                f"crossing in 60 s, {name}: not foreseen{label}",
                int(np.isinf(rows[:, column]).sum()),
                "traces",
                int(np.isinf(rows[:, 2]).sum()),
                "0",
                f"within 10 s: {100 * float((np.abs(rows[:, column]) <= 10.0).mean()):.0f} %",
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
    without, with_, others = shifts(results, HOUR_S / 3.0 if quick else HOUR_S, 1 if quick else 5)
    for tachometer in (True, False):
        fan_failure(results, range(1, 2 if quick else 6), tachometer=tachometer)
    ours, line = forecasts(results, 30 if quick else 150)
    learned_boards(results, 20 if quick else 100)
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

"""Vibration without a running line: a page for a machine, tables, and a sender.

  python -m shopfloor.vibration report build/bags/demo --machine pump_1 --out pump_1.html
  python -m shopfloor.vibration report --live 20 --machine pump_1
  python -m shopfloor.vibration features IR_014.npy --rate 12000 --unit g --machine pump_1 \\
      --speed 1774 --out features.parquet
  python -m shopfloor.vibration diagnose 105.mat --variable FE --rate 12000 --unit g \\
      --bearing balls=8,ball_mm=6.75,pitch_mm=28.5 --speed 1797
  python -m shopfloor.vibration diagnose --index index.csv --bearing bpfo=3.053,bpfi=4.947,\\
      bsf=1.994,ftf=0.382 --resample 10000 --out diagnoses.csv
  python -m shopfloor.vibration align features.parquet --temperature t.csv --current i.csv \\
      --maintenance log.csv --out table.parquet
  python -m shopfloor.vibration send IR_014.npy --rate 12000 --unit g --machine pump_1 \\
      --speed 1774 --to 127.0.0.1:17001
"""

from __future__ import annotations

import argparse
import math
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shopfloor.ros.paths import message_folder, share_folder
from shopfloor.vibration import alignment, collector, report, tables, wire
from shopfloor.vibration import recorded_diagnosis as recorded
from shopfloor.vibration.analysis import Analyser
from shopfloor.vibration.bearing import BearingOrders
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.machines import bearing_orders, load_machines
from shopfloor.vibration.recordings import SUFFIXES, read_recording
from shopfloor.vibration.severity import load_zone_table
from shopfloor.vibration.signal import UNITS, Block


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 2 with the reason on stderr where it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.vibration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    _report_arguments(commands.add_parser("report", help="a page for one machine"))
    _recording_arguments(commands.add_parser("features", help="features of a recording"))
    _diagnose_arguments(commands.add_parser("diagnose", help="bearing faults in recordings"))
    _align_arguments(commands.add_parser("align", help="join signals of different rates"))
    _send_arguments(commands.add_parser("send", help="a recording as datagrams"))
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"shopfloor.vibration: {error}", file=sys.stderr)
        return 2


# report ---------------------------------------------------------------------------------------


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", nargs="?", type=Path, help="folder of a bag")
    parser.add_argument("--live", type=float, metavar="SECONDS", help="listen to a running line")
    parser.add_argument("--machine", required=True)
    parser.add_argument("--machines-file", type=Path, default=_config("machines.yaml"))
    parser.add_argument("--out", type=Path, help="page; a PNG goes beside it (MACHINE.html)")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    if (options.bag is None) == (options.live is None):
        raise ValueError("report needs a bag, or --live SECONDS")
    found = collector.Collector(options.machine)
    if options.bag is not None:
        _from_bag(options.bag, found)
    else:
        _from_line(options.live, found)
    story = found.finish()
    if story.latest is None and story.window is None:
        there = ", ".join(sorted(found.machines)) or "none"
        raise ValueError(f"nothing of machine '{options.machine}'; there are: {there}")
    machine = load_machines(options.machines_file).get(options.machine)
    zone_key = machine.zone_key if machine else None
    zones = load_zone_table(_config("iso20816_3_zones.yaml")).get(zone_key) if zone_key else None
    out = options.out or Path(f"{options.machine}.html")
    page, png = report.write(report.draw(story, machine, zones), story, out)
    table = Table(title=f"machine {options.machine}")
    table.add_column("what")
    table.add_column("is")
    if story.latest is not None:
        table.add_row("tier", report.TIERS[int(story.latest.tier)])
        table.add_row("reason", story.latest.reason)
        table.add_row("diagnosis", story.latest.diagnosis_text)
        table.add_row("alert", story.latest.alert_id or "none")
    table.add_row("judgements", str(len(story.trend)))
    table.add_row("page", f"{page}, {png}")
    Console().print(table)
    return 0


def _from_bag(path: Path, found: collector.Collector) -> None:
    from shopfloor.replay.bag import read, typestore
    from shopfloor.ros.interfaces import interface

    ends = {interface(key).name.split("}")[-1]: key for key in collector.KEYS}
    types = typestore([message_folder("shopfloor_msgs")])
    for topic, _, message in read(path, types):
        for end, key in ends.items():
            if topic.endswith(end) and hasattr(message, "machine_id"):
                found.add(key, message)


def _from_line(seconds: float, found: collector.Collector) -> None:
    import rclpy

    from shopfloor.ros.endpoint_node import message_type
    from shopfloor.ros.interfaces import interface
    from shopfloor.ros.qos import subscription_qos

    rclpy.init()
    try:
        node = rclpy.create_node("vibration_report")
        for key in collector.KEYS:
            row = interface(key)
            names = {"machine": found.story.machine_id}
            node.create_subscription(
                message_type(row.type),
                row.resolve(**{name: names[name] for name in row.placeholders}),
                lambda message, key=key: found.add(key, message),
                subscription_qos(row.qos),
            )
        for _ in track(range(max(1, round(10 * seconds))), description="listening"):
            end = time.monotonic() + 0.1
            while (left := end - time.monotonic()) > 0:
                rclpy.spin_once(node, timeout_sec=left)
    finally:
        rclpy.try_shutdown()


# features, align, send ------------------------------------------------------------------------


def _recording_arguments(parser: argparse.ArgumentParser) -> None:
    _signal_arguments(parser)
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument("--machines-file", type=Path, default=_config("machines.yaml"))
    parser.add_argument("--start", type=float, help="first sample, seconds since 1970 (file's age)")
    parser.add_argument("--out", type=Path, required=True, help=".parquet or .csv")
    parser.set_defaults(run=_features)


def _signal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help=", ".join(SUFFIXES))
    _file_arguments(parser)


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variable", default="", help="array of a .mat file, or part of its name")
    parser.add_argument("--rate", type=float, default=0.0, help="Hz, where the file has none")
    parser.add_argument("--unit", choices=UNITS, default="m/s^2")
    parser.add_argument("--machine", default="machine")
    parser.add_argument("--speed", type=float, default=0.0, help="shaft speed, rpm")


def _features(options: argparse.Namespace) -> int:
    recording = read_recording(options.file, options.variable)
    rate_hz = _rate(options.rate, recording.rate_hz, options.file)
    start_s = options.start if options.start is not None else options.file.stat().st_mtime
    unit, factor = UNITS[options.unit]
    windows = tables.recorded_windows(
        recording, rate_hz, unit, options.window, round(start_s * 1e9), options.machine, factor
    )
    zones = load_zone_table(_config("iso20816_3_zones.yaml"))
    analyser = Analyser(load_machines(options.machines_file), zones)
    speed_rpm = options.speed or recording.speed_rpm
    found = tables.analyse(analyser, windows, speed_rpm)
    table = tables.feature_table(found, analyser.bands_hz)
    alignment.write_table(table, options.out)
    print(f"{options.out}: {len(table)} windows, {int(table['valid'].sum())} of them valid, "
          f"{table.shape[1]} columns")  # fmt: skip
    return 0


def _diagnose_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help=", ".join(SUFFIXES))
    parser.add_argument("--index", type=Path, help="csv: file, rpm; sample_rate_hz, fault, size...")
    _file_arguments(parser)
    parser.add_argument("--bearing", help="KEY=VALUE,... as in a machines file: balls, "
                        "ball_mm, pitch_mm or bpfo, bpfi, bsf, ftf")  # fmt: skip
    parser.add_argument("--machines-file", type=Path, default=_config("machines.yaml"))
    parser.add_argument("--resample", type=float, default=0.0, help="Hz; 0: as recorded")
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument("--average", type=int, default=1, help="windows that a diagnosis is from")
    parser.add_argument("--out", type=Path, help=".parquet or .csv: a row per window")
    parser.set_defaults(run=_diagnose)


def _diagnose(options: argparse.Namespace) -> int:
    if bool(options.files) == bool(options.index):
        raise ValueError("diagnose needs files, or --index FILE")
    rate_hz = options.rate or math.nan
    records = (
        recorded.read_index(options.index)
        if options.index
        else [recorded.Record(path, options.speed, rate_hz) for path in options.files]
    )
    found = recorded.diagnose(
        records, _bearing(options), resample_hz=options.resample, window_s=options.window,
        variable=options.variable, unit=UNITS[options.unit],
        limits=DiagnosisLimits(windows=options.average),
    )  # fmt: skip
    if options.out:
        alignment.write_table(found, options.out)
    shown = Table(title="diagnoses, windows of each")
    for column in ("file", "windows", "stood by", "abstained", "most often, and why"):
        shown.add_column(column)
    for name, group in found.groupby("file", sort=False):
        taken = group[group.accepted]
        chosen = taken if len(taken) else group
        most = chosen.diagnosis.mode()[0]
        why = chosen[chosen.diagnosis == most].text.iloc[0]
        shown.add_row(str(name), str(len(group)), str(len(taken)), str(len(group) - len(taken)),
                      f"{most}: {why}")  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
    if found.truth.notna().any():
        _print_rates(found)
    return 0


def _print_rates(found: pd.DataFrame) -> None:
    shown = Table(title="where the fault is known")
    for column in ("fault", "size", "windows", "right", "coverage", "right of these"):
        shown.add_column(column)
    known = found[found.truth.notna()]
    groups = [*known.groupby(["truth", "size"]), (("all", ""), known)]
    for (truth, size), group in groups:
        rates = recorded.rates(group)
        if rates.faulty:
            shown.add_row(truth, str(size), str(rates.faulty), f"{rates.right:.3f}",
                          f"{rates.coverage:.3f}", f"{rates.accepted_right:.3f}")  # fmt: skip
        if rates.healthy:
            shown.add_row("healthy", "", str(rates.healthy), "", f"{rates.false:.3f}", "")
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _bearing(options: argparse.Namespace) -> BearingOrders:
    if options.bearing:
        pairs = [part.partition("=") for part in options.bearing.split(",") if part.strip()]
        return bearing_orders({key.strip(): value for key, _, value in pairs})
    machine = load_machines(options.machines_file).get(options.machine)
    if machine is None or machine.bearing is None:
        raise ValueError(
            f"no bearing of machine '{options.machine}' in {options.machines_file}: give --bearing"
        )
    return machine.bearing


def _align_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("features", type=Path, help="what `features` wrote")
    parser.add_argument("--temperature", type=Path, help="columns time, value")
    parser.add_argument("--current", type=Path, help="columns time, value")
    parser.add_argument("--maintenance", type=Path, help="columns time, text")
    parser.add_argument("--out", type=Path, required=True, help=".parquet or .csv")
    parser.set_defaults(run=_align)


def _align(options: argparse.Namespace) -> int:
    signals = {
        name: alignment.read_table(path)
        for name, path in (("temperature", options.temperature), ("current", options.current))
        if path is not None
    }
    log = alignment.read_table(options.maintenance) if options.maintenance else None
    table = alignment.align(alignment.read_table(options.features), signals, log)
    alignment.write_table(table, options.out)
    valid = ", ".join(f"{name} {table[f'{name}_valid'].mean():.0%}" for name in signals)
    print(f"{options.out}: {len(table)} rows{f'; valid: {valid}' if valid else ''}")
    return 0


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    _signal_arguments(parser)
    parser.add_argument("--sensor", default="sensor")
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--block", type=float, default=0.1, help="seconds")
    parser.set_defaults(run=_send)


def _send(options: argparse.Namespace) -> int:
    recording = read_recording(options.file, options.variable)
    rate_hz = _rate(options.rate, recording.rate_hz, options.file)
    host, _, port = options.to.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--to {options.to} is not ADDRESS:PORT")
    unit, factor = UNITS[options.unit]
    size = max(1, round(options.block * rate_hz))
    count = recording.data.shape[1] // size
    due, stamp_ns = time.monotonic(), time.time_ns()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for k in track(range(count), description=f"sending to {options.to}"):
            due += size / rate_hz
            time.sleep(max(0.0, due - time.monotonic()))
            data = recording.data[:, k * size : (k + 1) * size] * np.float32(factor)
            block = Block(options.machine, options.sensor, k,
                          stamp_ns + round(k * size / rate_hz * 1e9), 0, rate_hz,
                          recording.channels, unit, data)  # fmt: skip
            sender.sendto(wire.encode(block, options.speed or math.nan), (host, int(port)))
    print(f"{count} blocks of {size} samples sent")
    return 0


def _rate(asked: float, told: float, path: Path) -> float:
    rate = asked or told
    if not rate > 0:
        raise ValueError(f"{path} does not tell its sample rate: give --rate")
    return rate


def _config(name: str) -> Path:
    return share_folder() / "config" / "vibration" / name


if __name__ == "__main__":
    raise SystemExit(main())

"""The command line of replay."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from shopfloor.plant.problems import PlantError
from shopfloor.replay import plant_of_bag, report
from shopfloor.replay.bag import BagError
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.comparison import Comparison, compare
from shopfloor.replay.live_player import LiveRequest, play_live
from shopfloor.replay.plant_of_bag import ReplayError
from shopfloor.replay.player import Played, Request, play
from shopfloor.replay.repair import repair
from shopfloor.replay.topics import row_of
from shopfloor.ros.lock_step import PICTURES

EQUAL, DIFFERENT, CANNOT_RUN = 0, 1, 2

_EXAMPLES = """
examples:
  python -m shopfloor.replay run bags/monday --compare
  python -m shopfloor.replay run bags/monday --nodes inspector,quality_gate --compare \\
      --set inspector.fail_threshold=0.4 --report build/replay.html
  python -m shopfloor.replay run bags/monday --twice
  ROS_DOMAIN_ID=7 python -m shopfloor.replay play bags/monday --rate 4 --loop

exit codes: 0 equal (or nothing was to be compared), 1 differences, 2 it cannot run
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    main = argparse.ArgumentParser(
        prog="python -m shopfloor.replay",
        description="Yesterday's bag through today's code.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = main.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser(
        "run", help="run nodes on a bag in lock-step, as fast as they work",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    run.add_argument("bag", type=Path, help="folder of a rosbag2 bag, or an .mcap file")
    run.add_argument("--plant", type=Path, help="plant file; default: the one kept in the bag")
    run.add_argument(
        "--nodes", default="", metavar="A,B",
        help=f"names or types, default all of: {', '.join(plant_of_bag.DRIVEN)}",
    )  # fmt: skip
    run.add_argument("--compare", action="store_true", help="compare with the bag's outputs")
    run.add_argument("--twice", action="store_true", help="run twice and compare the hashes")
    run.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE",
        help="another value than the plant file's; repeat for more",
    )  # fmt: skip
    run.add_argument(
        "--remap", action="append", default=[], metavar="OLD:=NEW",
        help="read a topic of the bag under another name",
    )  # fmt: skip
    run.add_argument("--start", type=float, default=0.0, metavar="S", help="begin here in the bag")
    run.add_argument("--duration", type=float, default=0.0, metavar="S", help="stop after so long")
    run.add_argument(
        "--step-ms", type=float, default=20.0, metavar="MS",
        help="what one node says reaches the others so late (default 20)",
    )  # fmt: skip
    run.add_argument(
        "--state", type=Path,
        help="begin with a copy of the plant's state folder (baselines, ledgers)",
    )  # fmt: skip
    run.add_argument("--output", type=Path, help="keep what the nodes said, as a bag of this name")
    run.add_argument("--report", type=Path, metavar="HTML", help="page with the differences")
    run.add_argument("--json", type=Path, help="hashes, counts and differences as JSON")
    play_ = verbs.add_parser(
        "play", help="publish a bag's inputs and /clock into the graph of this ROS domain",
        description="Publish a bag's inputs and /clock into the graph of this ROS domain, for "
        "nodes with use_sim_time. What they say depends on the machine; `run` gives equal outputs.",
    )  # fmt: skip
    play_.add_argument("bag", type=Path, help="folder of a rosbag2 bag, or an .mcap file")
    play_.add_argument(
        "--topics", default="", metavar="A,B",
        help="default: what the nodes of a replay hear and none of them says",
    )  # fmt: skip
    play_.add_argument("--rate", type=float, default=1.0, help="times real time (default 1)")
    play_.add_argument("--loop", action="store_true", help="again and again; time jumps back")
    play_.add_argument("--start", type=float, default=0.0, metavar="S", help="begin here")
    play_.add_argument(
        "--duration", type=float, default=0.0, metavar="S", help="stop after so long"
    )
    play_.add_argument(
        "--remap", action="append", default=[], metavar="OLD:=NEW",
        help="play a topic under another name",
    )  # fmt: skip
    repair_ = verbs.add_parser("repair", help="save what is whole of a bag that was cut off")
    repair_.add_argument("bag", type=Path, help="its folder, or its .mcap file")
    repair_.add_argument("--output", type=Path, help="the new bag; default NAME_repaired beside it")
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; the exit code."""
    args = parser().parse_args(arguments)
    try:
        return _VERBS[args.verb](args, Console())
    except (ReplayError, BagError, PlantError, OSError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return CANNOT_RUN
    except Exception:  # Python's own exit code would read as "differences"
        traceback.print_exc()
        return CANNOT_RUN


def _run(args: argparse.Namespace, console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="replay_out_") as name:
        output = args.output or Path(name) / "replayed"
        request = _request(args, output)
        played = _play(request, console)
        code = EQUAL
        if args.twice:
            again = _play(_request(args, Path(name) / "again"), console)
            code = max(code, _say_hashes(played, again, console))
        found = None
        if args.compare or args.report:
            found = compare_bags(request, played)
            code = max(code, _say(found, console))
        if args.report and found is not None:
            title = f"Replay of {args.bag.name}"
            report.write_page(args.report, found, played, args.bag, output, title)
            console.print(f"report: {args.report}")
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(_data(played, found), indent=1) + "\n", "utf-8")
        return code


def _repair(args: argparse.Namespace, console: Console) -> int:
    whole = args.output or args.bag.with_name(f"{args.bag.stem}_repaired")
    saved = repair(args.bag, whole)
    seconds = (saved.end_ns - saved.start_ns) / 1e9
    console.print(f"{whole}: {saved.counts.total()} messages, {seconds:.1f} s")
    return EQUAL if saved.counts else CANNOT_RUN


def _play_live(args: argparse.Namespace, console: Console) -> int:
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda which, _: stop.append(which))
    request = LiveRequest(
        bag=args.bag,
        topics=[topic for topic in args.topics.split(",") if topic],
        remap=_remap(args.remap),
        start_s=args.start,
        duration_s=args.duration,
        rate=args.rate,
        loop=args.loop,
    )
    played = play_live(request, lambda: bool(stop))
    console.print(f"{played.messages} messages, the latest {played.late_ms:.0f} ms late")
    return EQUAL


_VERBS = {"run": _run, "repair": _repair, "play": _play_live}


def _remap(texts: Sequence[str]) -> dict[str, str]:
    remap = {}
    for text in texts:
        old, sign, new = text.partition(":=")
        if not (sign and old.startswith("/") and new.startswith("/")):
            raise ReplayError(f"--remap {text}: allowed: /OLD:=/NEW")
        remap[old] = new
    return remap


def _request(args: argparse.Namespace, output: Path) -> Request:
    if not args.step_ms > 0.0 or args.start < 0.0 or args.duration < 0.0:
        raise ReplayError("--step-ms is above 0, --start and --duration at least 0")
    with BagReader(args.bag) as reader:
        plant = plant_of_bag.load(args.plant, reader.plant)
        files = "" if args.plant else reader.files
    return Request(
        bag=args.bag,
        plant=plant,
        output=output,
        nodes=[name for name in args.nodes.split(",") if name],
        remap=_remap(args.remap),
        changes=plant_of_bag.settings(args.set),
        files=files,
        start_s=args.start,
        duration_s=args.duration,
        step_ms=args.step_ms,
        state=args.state,
        pictures=args.report is not None,
    )


def _play(request: Request, console: Console) -> Played:
    with console.status("starting the nodes") as status:
        played = play(request, lambda s: status.update(f"{s:.1f} s of the bag replayed"))
    console.print(
        f"{played.seconds:.1f} s of {request.bag} in {played.wall_s:.1f} s "
        f"({played.seconds / played.wall_s:.1f} times real time): "
        f"{sum(played.inputs.values())} messages in, {sum(played.outputs.values())} out\n"
        f"hash of the outputs: {played.total_hash}",
        soft_wrap=True,  # a program that reads this finds each figure on one line
    )
    return played


def compare_bags(request: Request, played: Played) -> Comparison:
    """What the nodes said against what the bag says they said."""
    with BagReader(request.bag, dict(request.remap)) as before, BagReader(request.output) as now:
        topics = {topic for topic in played.publishes if not _is_picture(topic)}
        return compare(
            before.messages(topics, *played.span_ns),
            now.messages(topics),
            before.decoder(),
            now.decoder(),
            played.span_ns,
        )


def _is_picture(topic: str) -> bool:
    row = row_of(topic)
    return row is not None and row.key in PICTURES


def _say(found: Comparison, console: Console) -> int:
    if found.differences:
        console.print(report.table(found))
        console.print(report.summary(found))
    for topic, why in found.skipped.items():
        console.print(f"not compared: {topic}: {why}")
    counts = ", ".join(f"{n} of {topic}" for topic, n in sorted(found.compared.items()))
    console.print(
        f"{len(found.differences)} differences; compared: {counts or 'nothing'}; "
        f"{found.at_the_edges} at the ends of the bag left out",
        soft_wrap=True,
    )
    if not found.compared:
        raise ReplayError("the bag has none of these nodes' outputs: nothing could be compared")
    return EQUAL if found.is_equal else DIFFERENT


def _say_hashes(one: Played, other: Played, console: Console) -> int:
    topics = sorted(set(one.hashes) | set(other.hashes))
    unequal = [topic for topic in topics if one.hashes.get(topic) != other.hashes.get(topic)]
    if unequal:
        console.print(f"the two runs differ on: {', '.join(unequal)}")
        return DIFFERENT
    console.print(f"the two runs are equal on all {len(topics)} topics")
    return EQUAL


def _data(played: Played, found: Comparison | None) -> dict[str, object]:
    data: dict[str, object] = {
        "hash": played.total_hash,
        "hashes": dict(played.hashes),
        "inputs": dict(played.inputs),
        "outputs": dict(played.outputs),
        "seconds": played.seconds,
        "wall_s": played.wall_s,
        "steps": played.steps,
    }
    if found is not None:
        data["compared"] = dict(found.compared)
        data["differences"] = [
            {
                "topic": d.topic,
                "node": d.node,
                "part": d.part,
                "stamp_ns": d.stamp_ns,
                "field": d.field,
                "before": report.text(d.before),
                "now": report.text(d.now),
            }
            for d in found.differences
        ]
    return data

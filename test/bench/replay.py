"""A recorded line through today's nodes, twice: are the outputs equal, and how fast does it go?

./run bench replay                  5 minutes of the demo, all nodes: about 11 minutes
./run bench replay --quick          20 s of it: about 2 minutes
./run bench replay --minutes 1
./run bench replay --bag FOLDER     a bag that there is, recorded with `images: camera` or `all`

Speed is seconds of the bag by seconds of the replay, the start of the processes left out: of all
nodes, and of all but the two that run a model, whose recorded results are the inputs then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from table import Results

from shopfloor.replay import plant_of_bag
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.cli import compare_bags
from shopfloor.replay.player import Played, Request, play
from shopfloor.replay.stepped_processes import free_domain
from shopfloor.ros.paths import share_folder

INFERENCE = ("inspector", "detail_inspector")
QUICK_S = 20.0


def main() -> int:
    """Record, replay twice, compare; 1 where the two differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:g} s of the demo")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the demo (default 5)")
    parser.add_argument("--bag", type=Path, help="replay this one instead")
    options = parser.parse_args()
    seconds = QUICK_S if options.quick else 60.0 * options.minutes
    results = Results("replay")
    with tempfile.TemporaryDirectory(prefix="bench_replay_") as name:
        folder = Path(name)
        equal = _measure(options.bag or _record(folder, seconds), folder, results)
    results.finish()
    return int(not equal)


def _record(folder: Path, seconds: float) -> Path:
    """The demo with the camera's pictures in the bag."""
    content = yaml.safe_load((share_folder() / "config" / "demo.yaml").read_text("utf-8"))
    for cell in content["cells"].values():
        for node in cell["nodes"].values():
            if node["type"] == "recorder":
                node["parameters"] = {"images": "camera"}
    plant = folder / "plant_of_the_bench.yaml"
    plant.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "shopfloor.demo", "--plant", str(plant)]
    with free_domain() as domain, (folder / "demo.txt").open("w") as log:
        subprocess.run(
            [*command, "--seconds", str(seconds), "--output", str(folder / "demo")],
            env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
            stdout=log,
            check=True,
        )
    return folder / "demo" / "bag"


def _measure(bag: Path, folder: Path, results: Results) -> bool:
    with BagReader(bag) as reader:
        plant = plant_of_bag.load(None, reader.plant)
        seconds = (reader.end_ns - reader.start_ns) / 1e9
    size = sum(file.stat().st_size for file in bag.iterdir())
    results.add("bag", seconds, "s", note=f"{size / 1e6:.0f} MB")
    driven = plant_of_bag.choose(plant, ())
    others = [node.name for node in driven if node.type not in INFERENCE]
    equal = True
    for what, nodes in (("all nodes", [n.name for n in driven]), ("without inference", others)):
        request = Request(bag, plant, folder / what.replace(" ", "_"), nodes)
        again = Request(bag, plant, folder / f"{request.output.name}_again", nodes)
        one, other = play(request), play(again)
        equal = _add_rows(what, nodes, one, other, results) and equal
        found = compare_bags(request, one)
        fields = sorted({f"{d.node.rpartition('/')[2]} {d.field}" for d in found.differences})
        results.add(
            f"{what}: differences from the recorded outputs", len(found.differences), "",
            limit="0", note=f"of {found.compared.total()} messages; {', '.join(fields[:3])}",
        )  # fmt: skip
    return equal


def _add_rows(
    what: str, nodes: Sequence[str], one: Played, other: Played, results: Results
) -> bool:
    topics = set(one.hashes) | set(other.hashes)
    same = sum(one.hashes.get(topic) == other.hashes.get(topic) for topic in topics)
    limit = "5 x real time" if what != "all nodes" else ""
    for number, played in enumerate((one, other), start=1):
        results.add(
            f"{what}: speed, run {number}", played.seconds / played.wall_s, "x real time",
            limit=limit, note=f"{played.steps} steps, start {played.start_s:.1f} s",
        )  # fmt: skip
    outputs = sum(one.outputs.values())
    results.add(
        f"{what}: topics with equal hashes", same, "", limit=str(len(topics)),
        note=f"{outputs} messages of {len(nodes)} nodes, {one.total_hash[:12]}",
    )  # fmt: skip
    return same == len(topics)


if __name__ == "__main__":
    sys.exit(main())

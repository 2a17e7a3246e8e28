"""Makes the golden bag anew: `./run exec python test/replay/make_golden.py`, about a minute.

The simulated line of golden/line.yaml runs and is recorded. What a replay neither hears nor
compares is left out, and the bag is kept only if it is fit for a test on any computer: a replay of
it gives its own outputs again, and no score lies so close to a threshold that another processor's
rounding could tip it.

`make_golden.py TOPIC ...` records nothing: the bag keeps its inputs, and these topics get what
today's nodes say, where the code changes a few outputs on purpose. It needs no quiet machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shopfloor.replay.bag import BagWriter, Topic, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.cli import main as replay
from shopfloor.replay.plant_of_bag import DRIVEN
from shopfloor.replay.stepped_processes import free_domain
from shopfloor.replay.topics import row_of
from shopfloor.ros.interfaces import Interface, Qos
from shopfloor.ros.paths import message_folder

GOLDEN = Path(__file__).resolve().parent / "golden"
SECONDS = 24
MARGIN = 0.002
"""Distance of every score from a threshold; processors differ by float32 noise, below 0.0001."""

MAX_BYTES = 2_000_000


def main(topics: Sequence[str]) -> int:
    """Record or renew `topics`, check, keep; 1 where the bag is not fit."""
    with tempfile.TemporaryDirectory(prefix="golden_") as name:
        folder = Path(name)
        bag = folder / "line"
        if topics:
            replay(["run", str(GOLDEN / "line"), "--output", str(folder / "now")])
            trim(GOLDEN / "line", bag, said(folder / "now", topics))
        else:
            record(folder)
            trim(folder / "bag", bag, {})
        problems = [*tight(bag), *unfit(bag)]
        for problem in problems:
            print(f"not kept: {problem}", file=sys.stderr)
        if problems:
            return 1
        shutil.rmtree(GOLDEN / "line", ignore_errors=True)
        shutil.copytree(bag, GOLDEN / "line")
    return 0


def record(folder: Path) -> None:
    """Run the line with its recorder; the bag is `folder/bag`."""
    plant = GOLDEN / "line.yaml"
    command = [sys.executable, "-m", "shopfloor.demo", "--plant", str(plant)]
    with free_domain() as domain:
        subprocess.run(
            [*command, "--seconds", str(SECONDS), "--output", str(folder)],
            env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
            check=True,
        )


def said(bag: Path, topics: Sequence[str]) -> dict[str, list[bytes]]:
    """The messages of a bag on each topic, in order."""
    found: dict[str, list[bytes]] = {topic: [] for topic in topics}
    with BagReader(bag) as reader:
        for item in reader.messages(topics):
            found[item.topic].append(bytes(item.data))
    return found


def trim(source: Path, target: Path, instead: dict[str, list[bytes]]) -> None:
    """Only what the nodes hear and say, and the plant as it stands in the repository.

    instead: by topic, what stands in place of its messages.
    """
    ahead = {topic: iter(messages) for topic, messages in instead.items()}
    types = typestore([message_folder("shopfloor_msgs")])
    plant = (GOLDEN / "line.yaml").read_text(encoding="utf-8")
    with BagReader(source) as reader:
        bag = BagWriter(target, types, {"plant": plant})
        for item in reader.messages():
            row = row_of(item.topic)
            if row is not None and wanted(row):
                data = next(ahead[item.topic]) if item.topic in ahead else item.data
                bag.put(Topic(item.topic, row.type, row.qos is Qos.STATE), item.stamp_ns, data)
        bag.close()
    if bag.error or bag.dropped:
        raise OSError(f"{target}: {bag.error}, {bag.dropped} messages dropped")


def wanted(row: Interface) -> bool:
    """Whether nodes of a replay speak or listen there."""
    return row.key != "diagnostics" and bool(set(DRIVEN) & {*row.servers, *row.clients})


def tight(bag: Path) -> Iterator[str]:
    """Scores that another processor could put on the other side of a threshold."""
    with BagReader(bag) as reader:
        decode = reader.decoder()
        for item in reader.messages(["/line_1/inspection/result"]):
            message = decode(item)
            for score in (d.score for d in message.detections):
                for limit in (message.fail_threshold, message.suspect_threshold):
                    if abs(score - limit) < MARGIN:
                        yield f"{message.part_id}: score {score:.4f} beside {limit:.3f}"


def unfit(bag: Path) -> Iterator[str]:
    """What of the bag does not come again, or is too much."""
    size = sum(file.stat().st_size for file in bag.iterdir())
    print(f"{size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        yield f"{size} bytes; allowed: {MAX_BYTES}"
    if replay(["run", str(bag), "--compare", "--twice"]):
        yield "a replay differs"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

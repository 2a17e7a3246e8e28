"""Two network namespaces as two hosts: the edge on one, the second look on the other, a cut cable.

./run bench hosts            about 2 minutes (cuts of 3, 10 and 30 s)
./run bench hosts --quick    about 30 s (a cut of 3 s)

Needs root and iproute2. Fast DDS forgets a host that is silent for 20 s: a longer cut ends with a
discovery from the start, a shorter one with the repetition of what was not acknowledged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from table import Results

GRAPH = Path(__file__).resolve().parents[1] / "graph"
sys.path.append(str(GRAPH))
from test_two_hosts import RATE_HZ, joined, missing, plant_file  # noqa: E402
from two_hosts import ADDRESSES, JETSON, SERVER, TwoHosts, Verdicts, astray, why_not  # noqa: E402

WARM_PARTS = 10


def main() -> int:
    """Run it; 1 where no hosts can be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one cut of 3 s")
    cuts_s = (3.0,) if parser.parse_args().quick else (3.0, 10.0, 30.0)
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    results = Results("hosts")
    with tempfile.TemporaryDirectory() as name:
        hosts = TwoHosts(Path(name))
        try:
            _measure(hosts, Path(name), cuts_s, results)
        finally:
            hosts.close()
    results.finish()
    return 0


def _measure(hosts: TwoHosts, folder: Path, cuts_s: tuple[float, ...], results: Results) -> None:
    parts = RATE_HZ * int(sum(cuts_s) + 60 * len(cuts_s) + 60)
    plant = str(plant_file(folder, parts=parts))
    network = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    watch = hosts.run(JETSON, str(GRAPH / "verdict_watch.py"), "/line_1", env=network)
    watch.wait_line("watching")
    verdicts = Verdicts(hosts, watch)
    with hosts.tap() as packets:
        started_s = time.monotonic()
        for host in (SERVER, JETSON):
            hosts.run(host, "-m", "shopfloor.plant", "up", "--plant", plant, "--host", host)
        first = verdicts.until(joined, "a part that both hosts have judged")
        results.add("start of both to the first joined verdict", first["steady_s"] - started_s, "s")
        for _ in range(WARM_PARTS):
            last = verdicts.until(joined, "parts that both judge")
        results.add("exposure to joined verdict", last["latency_ms"], "ms")
        for cut_s in cuts_s:
            _cut(hosts, verdicts, cut_s, results)
    ours = sum(n for (_, address), n in packets.items() if address in ADDRESSES.values())
    others = sum(astray(packets).values())
    results.add("UDP and IGMP packets to others", others, "", limit="0", note=f"{ours} to the two")


def _cut(hosts: TwoHosts, verdicts: Verdicts, cut_s: float, results: Results) -> None:
    before = len(verdicts.seen)
    begun_s = hosts.cut()
    while time.monotonic() < begun_s + cut_s:
        verdicts.until(lambda verdict: verdict["revision"] == 1, "verdicts of the edge go on")
    mended_s = hosts.mend()
    back = verdicts.until(
        lambda verdict: joined(verdict) and verdict["steady_s"] > mended_s, "joined verdicts"
    )
    seen = verdicts.seen[before:]
    first = {v["part"]: v for v in seen if v["revision"] == 1}
    numbers = sorted(int(part.rpartition("_")[2]) for part in first)
    what = f"cut of {cut_s:g} s: "
    results.add(what + "edge verdicts", len(first), "", note=f"{RATE_HZ * cut_s:g} parts came")
    results.add(what + "parts without a verdict",
                numbers[-1] - numbers[0] + 1 - len(numbers), "", limit="0")  # fmt: skip
    results.add(what + "details MISSING", sum(map(missing, seen)), "")
    results.add(what + "mended to joined verdict", back["steady_s"] - mended_s, "s", limit="2")


if __name__ == "__main__":
    sys.exit(main())

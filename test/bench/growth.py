"""From one cell to many on one machine: discovery, traffic, CPU and memory, by kind of discovery.

./run bench growth            1, 5, 20 and 40 cells, three kinds of discovery: about 15 minutes
./run bench growth --quick    1 and 3 cells: about 2 minutes
./run bench growth --cells 40 --idle --kinds server localhost

A cell is one process with camera, inspector and quality gate at 2 parts/s, with a tiny model: what
grows is the middleware, not the inference. As root it runs in a network namespace of its own, so
that only its packets are counted. Data goes through shared memory: what is left is discovery and
what keeps it alive. All cells share one domain, the worst case. More cells than the machine carries
are not run, and not extrapolated.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import psutil
from table import Results

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
from tiny_model import picture, write_package

INSIDE = "SHOPFLOOR_BENCH_NAMESPACE"
ADDRESS = "10.78.0.1"
PORT = 11811
DOMAIN = "8"
SETTLE_S = 10.0
MEASURE_S = 10.0
LIMIT_S = 120.0
MEMORY_A_CELL_MB = 250
KINDS = {
    "localhost": "discovery: localhost\n",
    "static": f"discovery: static\npeers: [{ADDRESS}]\n",
    "server": f'discovery: server\ndiscovery_servers: ["127.0.0.1:{PORT}"]\n',
}
NODES = """\
  cell_{n}:
    nodes:
      camera: {{type: camera, parameters: {{source: folder, address: {pictures}, rate_hz: {rate_hz}, loop: true}}}}
      inspector: {{type: inspector, parameters: {{camera: camera, model: {model}}}}}
      gate: {{type: quality_gate, parameters: {{cameras: [camera]}}}}
"""  # noqa: E501
# A tool that starts when all runs: how long until it has seen every cell?
PROBE = """\
import os, sys, time
begun = time.monotonic()
import rclpy
from rclpy.node import Node
cells = int(sys.argv[1])
begun = time.monotonic()
rclpy.init()
node = Node("probe")
wanted = {f"/cell_{n}/parts/verdict" for n in range(cells)}
while wanted and time.monotonic() - begun < float(sys.argv[2]):
    wanted = {name for name in wanted if not node.count_publishers(name)}
    rclpy.spin_once(node, timeout_sec=0.01)
print(len(wanted), time.monotonic() - begun, flush=True)
"""


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 and 3 cells")
    parser.add_argument("--cells", type=int, nargs="+", metavar="N", help="so many cells")
    parser.add_argument("--kinds", choices=KINDS, default=list(KINDS), nargs="+", metavar="KIND",
                        help="of discovery: " + ", ".join(KINDS))  # fmt: skip
    parser.add_argument("--idle", action="store_true", help="no parts: the nodes only are there")
    options = parser.parse_args()
    rate_hz = 0.001 if options.idle else 2
    if os.geteuid() == 0 and shutil.which("unshare") and not os.environ.get(INSIDE):
        script = f'ip link set lo up; ip addr add {ADDRESS}/32 dev lo; exec "$@"'
        command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, *sys.argv]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode
    results = Results("growth_idle" if options.idle else "growth")
    for cells in options.cells or ((1, 3) if options.quick else (1, 5, 20, 40)):
        free_mb = psutil.virtual_memory().available / 1e6
        if cells * MEMORY_A_CELL_MB > free_mb:
            print(f"{cells} cells are left out: {free_mb:.0f} MB of memory are free")
            continue
        for kind in options.kinds:
            with tempfile.TemporaryDirectory() as folder:
                _measure(Path(folder), kind, cells, rate_hz, results)
    results.finish()
    return 0


def _measure(folder: Path, kind: str, cells: int, rate_hz: float, results: Results) -> None:
    plant = folder / "plant.yaml"
    plant.write_text(_plant(folder, KINDS[kind], cells, rate_hz), "utf-8")
    environment = {
        **os.environ,
        "SHOPFLOOR_RUN_DIR": str(folder),
        "SHOPFLOOR_STATE_DIR": str(folder),
        "ROS_LOG_DIR": str(folder),
    }
    server = None
    if kind == "server":
        command = ["fast-discovery-server", "-i", "0", "-l", "127.0.0.1", "-p", str(PORT)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "shopfloor.plant", "up", "--domain-id", DOMAIN]
    with open(folder / "log.txt", "wb") as log:
        run = subprocess.Popen(
            [*command, "--plant", str(plant)], stdout=log, stderr=log, env=environment
        )
        try:
            _, up_s = _probe(folder, kind, cells)
            time.sleep(SETTLE_S)
            missing, found_s = _probe(folder, kind, cells)
            what = f"{cells} cells, {kind}: "
            results.add(what + "start to all seen", up_s, "s")
            results.add(what + "a new tool sees all", found_s, "s",
                        note=f"{missing} not seen" if missing else "")  # fmt: skip
            _steady(psutil.Process(run.pid), what, cells, results)
        finally:
            run.terminate()
            run.wait()
            if server is not None:
                server.kill()
                server.wait()


def _plant(folder: Path, discovery: str, cells: int, rate_hz: float) -> str:
    pictures = folder / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "good.png"), picture((1, 1, 2, 100)))
    model = write_package(folder / "model")
    values = {"pictures": pictures, "model": model, "rate_hz": rate_hz}
    nodes = "".join(NODES.format(n=n, **values) for n in range(cells))
    names = ("camera", "inspector", "gate")
    processes = "".join(
        f"  p{n}: {{host: here, nodes: [{', '.join(f'cell_{n}/{name}' for name in names)}]}}\n"
        for n in range(cells)
    )
    return (
        f'plant: growth\n{discovery}hosts:\n  here: {{hostname: "*"}}\n'
        f"cells:\n{nodes}processes:\n{processes}"
    )


def _probe(folder: Path, kind: str, cells: int) -> tuple[int, float]:
    """How many cells a new node has not seen, and how long it took (at most LIMIT_S)."""
    environment = {**os.environ, "ROS_DOMAIN_ID": DOMAIN, "ROS_LOG_DIR": str(folder)}
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if kind == "server":
        environment |= {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
            "ROS_DISCOVERY_SERVER": f"127.0.0.1:{PORT}",
            "ROS_SUPER_CLIENT": "TRUE",
        }
    command = [sys.executable, "-c", PROBE, str(cells), str(LIMIT_S)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    missing, seconds = done.stdout.split()[-2:]
    return int(missing), float(seconds)


def _steady(runner: psutil.Process, what: str, cells: int, results: Results) -> None:
    """Per process, and the packets of the loopback device, over MEASURE_S."""
    processes = runner.children()
    cpu = [sum(p.cpu_times()[:2]) for p in processes]
    before, begun_s = psutil.net_io_counters(pernic=True)["lo"], time.monotonic()
    time.sleep(MEASURE_S)
    after, passed_s = psutil.net_io_counters(pernic=True)["lo"], time.monotonic() - begun_s
    used = [sum(p.cpu_times()[:2]) - start for p, start in zip(processes, cpu, strict=True)]
    memory = [p.memory_info().rss / 1e6 for p in processes]
    results.add(what + "processes", len(processes), "", limit=str(cells))
    results.add(what + "CPU a process", 100 * sum(used) / len(used) / passed_s, "% of a core")
    results.add(what + "memory a process", sum(memory) / len(memory), "MB")
    bits = 8 * (after.bytes_sent - before.bytes_sent) / passed_s
    packets = (after.packets_sent - before.packets_sent) / passed_s
    results.add(what + "traffic", bits / 1e3, "kbit/s", note=f"{packets:.0f} packets/s")


if __name__ == "__main__":
    sys.exit(main())

"""The edge on one host, the second look on another, and a cable that is pulled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from shopfloor_msgs.msg import PartVerdict, StationEvidence
from two_hosts import ADDRESSES, JETSON, SERVER, TwoHosts, Verdicts, astray, why_not

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import picture, write_package

HERE = Path(__file__).parent
PARTS = 400
RATE_HZ = 5
MISSED = 5

# The edge is unsure of 170 (score 0.33); the second tier clears it.
PLANT = """\
plant: two_hosts
domain_id: 7
{discovery}
hosts:
  jetson: {{hostname: jetson, role: edge}}
  server: {{hostname: edge-server, role: server}}
cells:
  line_1:
    nodes:
      camera: {{type: camera, parameters: {{source: folder, address: {pictures}, rate_hz: {rate}}}}}
      inspector: {{type: inspector, parameters: {{camera: camera, model: {model}}}}}
      gate:
        type: quality_gate
        parameters: {{cameras: [camera], deadline_ms: 1000, detail_deadline_ms: 1500}}
      detail:
        type: detail_inspector
        parameters: {{model: {model}, zooms: [1.0], fail_threshold: 0.4, suspect_threshold: 0.4}}
processes:
  edge: {{host: jetson, nodes: [camera, inspector, gate]}}
  detail: {{host: server, nodes: [detail]}}
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    made = TwoHosts(tmp_path)
    try:
        yield made
    finally:
        made.close()


STATIC = f"discovery: static\npeers: [{ADDRESSES[JETSON]}, {ADDRESSES[SERVER]}]"
PORT = 11811
BY_SERVER = f'discovery: server\ndiscovery_servers: ["{ADDRESSES[SERVER]}:{PORT}"]'


def plant_file(folder: Path, discovery: str = STATIC, parts: int = PARTS) -> Path:
    """The plant, its model and the pictures of its parts."""
    pictures = folder / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(folder / "unsure.png"), picture((1, 1, 2, 170)))
    for number in range(parts):
        shutil.copy(folder / "unsure.png", pictures / f"part_{number:04d}.png")
    text = PLANT.format(
        discovery=discovery,
        pictures=pictures,
        rate=RATE_HZ,
        model=write_package(folder / "model"),
    )
    path = folder / "plant.yaml"
    path.write_text(text, "utf-8")
    return path


def watched(hosts: TwoHosts, **network: str) -> Verdicts:
    """The verdicts of the line, seen on the edge host; `network`: other variables of discovery."""
    network = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **network}
    watch = hosts.run(JETSON, str(HERE / "verdict_watch.py"), "/line_1", env=network)
    watch.wait_line("watching")
    return Verdicts(hosts, watch)


def joined(verdict: dict) -> bool:  # type: ignore[type-arg]
    """Cleared by the second tier, in time."""
    return (
        verdict["stage"] == PartVerdict.STAGE_FINAL
        and verdict["verdict"] == PartVerdict.VERDICT_PASS
        and verdict["timing"] == PartVerdict.TIMING_ON_TIME
        and verdict["tiers"] == [StationEvidence.TIER_EDGE, StationEvidence.TIER_DETAIL]
    )


def missing(verdict: dict) -> bool:  # type: ignore[type-arg]
    """The second tier did not answer, and a person has to look."""
    return (
        verdict["stage"] == PartVerdict.STAGE_FINAL
        and verdict["verdict"] == PartVerdict.VERDICT_REVIEW
        and verdict["timing"] == PartVerdict.TIMING_MISSING
    )


def test_the_edge_goes_on_without_the_other_host_and_both_meet_again(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    verdicts = watched(hosts)
    plant = str(plant_file(tmp_path))
    with hosts.tap() as packets:
        for host in (SERVER, JETSON):
            hosts.run(host, "-m", "shopfloor.plant", "up", "--plant", plant, "--host", host)
        verdicts.until(joined, "a part that both hosts have judged")

        hosts.cut()
        before = len(verdicts.seen)
        for _ in range(MISSED):
            verdicts.until(missing, "a part that the server did not answer for")
        hosts.mend()
        verdicts.until(joined, "a part that both have judged again")
        assert packets[17, ADDRESSES[SERVER]] and packets[17, ADDRESSES[JETSON]]
        assert astray(packets) == {}

    # No part fell through while the cable was out: each has its first verdict, and in time.
    first = {v["part"]: v for v in verdicts.seen[before:] if v["revision"] == 1}
    numbers = sorted(int(part.rpartition("_")[2]) for part in first)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert {v["timing"] for v in first.values()} == {PartVerdict.TIMING_ON_TIME}


def test_a_host_that_starts_without_its_cable_works_alone_and_joins_when_it_is_plugged_in(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    verdicts = watched(hosts)
    plant = str(plant_file(tmp_path))
    hosts.cut()
    for host in (SERVER, JETSON):
        hosts.run(host, "-m", "shopfloor.plant", "up", "--plant", plant, "--host", host)
    verdicts.until(missing, "a part of the edge alone")
    assert "starts without other hosts" in hosts.output
    hosts.mend()
    verdicts.until(joined, "a part that both hosts have judged")
    assert hosts.output.count("there is a way to the other hosts now") == 2


def test_hosts_meet_by_a_discovery_server_and_go_on_without_it(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    if shutil.which("fast-discovery-server") is None:
        pytest.skip("fast-discovery-server is not installed")
    server = hosts.run_program(
        SERVER, "fast-discovery-server", "-i", "0", "-l", ADDRESSES[SERVER], "-p", str(PORT)
    )
    network = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        "ROS_DISCOVERY_SERVER": f"{ADDRESSES[SERVER]}:{PORT}",
    }
    verdicts = watched(hosts, **network)
    plant = str(plant_file(tmp_path, BY_SERVER))
    with hosts.tap() as packets:
        for host in (SERVER, JETSON):
            hosts.run(host, "-m", "shopfloor.plant", "up", "--plant", plant, "--host", host)
        verdicts.until(joined, "a part that both hosts have judged")
        server.end()
        for _ in range(MISSED):
            verdicts.until(joined, "a part that both judge without the discovery server")
        assert astray(packets) == {}

"""What the network between hosts carries, estimated before anything starts. Needs no ROS.

Fast DDS sends one copy to each process on another host. Sizes and rates are those of the plant file
where it names them, and otherwise the assumptions below, which are on the safe side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from shopfloor.plant.endpoints import Endpoint, endpoints, recorder_policies
from shopfloor.plant.plant_file import Node, Plant
from shopfloor.plant.problems import Problem
from shopfloor.ros.interfaces import Kind
from shopfloor.ros.recorded_topics import is_wanted

LINK_SHARE = 0.6
"""Of a link, what the plant may take on average: bursts, repeats and others need the rest."""

ASSUMED_WIDTH_PX, ASSUMED_HEIGHT_PX, ASSUMED_RATE_HZ = 1920, 1080, 30.0
"""A camera of which the plant file says nothing."""

JPEG_BYTES_PER_PIXEL = 0.25
SUSPECT_SHARE = 0.1
"""Of all frames, those that send a crop to the detail tier."""

VIBRATION_BYTES_PER_S = 4 * 3 * 25_600 * 4
"""Four sensors of three axes, 25.6 kHz, 32 bits."""

PARTS_PER_S = 5.0
_MONO = ("MONO8", "GREY", "BAYERRG8", "BAYERBG8", "BAYERGB8", "BAYERGR8")
_RAW = ("image", "annotated", "score_map")
_FRAME_ROADS = {
    "auto": "image",
    "image": "image",
    "local": "image",
    "ring": "frame_handle",
    "compressed": "image_compressed",
}
_SMALL_BYTES_PER_S = {
    "heartbeat": 10 * 250.0,
    "diagnostics": 2 * 2_000.0,
    "host_state": 2 * 2_500.0,
    "thermal_state": 2 * 1_000.0,
    "line_state": 2 * 800.0,
    "plc_picture": 10 * 2_000.0,
    "part_verdict": PARTS_PER_S * 1_000,
    "part_truth": PARTS_PER_S * 500,
    "vibration_block": float(VIBRATION_BYTES_PER_S),
    "vibration_features": 4 * 6_000.0,
}
_OTHER_BYTES_PER_S = 500.0
_BYTES_A_FRAME = {"inspection_result": 2_500.0, "frame_info": 400.0, "camera_info": 500.0}
_JPEG_OF_INSPECTOR = ("annotated_compressed", "score_map_compressed")


@dataclass(frozen=True)
class Flow:
    """One topic from a node to a process of another host. In Mbit/s."""

    source: Endpoint
    sink: Endpoint
    mbit_s: float


@dataclass(frozen=True)
class Link:
    """All that goes from one host to another."""

    from_host: str
    to_host: str
    flows: tuple[Flow, ...]

    @property
    def mbit_s(self) -> float:
        """The sum."""
        return sum(flow.mbit_s for flow in self.flows)


def links(plant: Plant) -> list[Link]:
    """The traffic between hosts, one direction a row, the busiest first."""
    found: dict[tuple[str, str], dict[tuple[str, str], Flow]] = defaultdict(dict)
    ends = [end for end in endpoints(plant) if end.row.kind is Kind.TOPIC]
    by_key: dict[str, list[Endpoint]] = defaultdict(list)
    for end in ends:
        if not end.serves:
            by_key[end.row.key].append(end)
    for source in (end for end in ends if end.serves):
        for sink in by_key[source.row.key]:
            if sink.host == source.host or not source.meets(sink) or not _takes(sink, source):
                continue
            flow = Flow(source, sink, _bytes_per_s(plant, source) * 8e-6)
            pair = found[source.host, sink.host]
            # A process gets one copy, however many of its nodes listen.
            pair.setdefault((f"{source.node.key} {source.name}", sink.process), flow)
    rows = [
        Link(a, b, tuple(sorted(flows.values(), key=lambda flow: -flow.mbit_s)))
        for (a, b), flows in found.items()
    ]
    return sorted(rows, key=lambda link: -link.mbit_s)


def link_problems(plant: Plant, rows: Iterable[Link]) -> list[Problem]:
    """Raw frames between hosts, rings across hosts, and hosts with more traffic than their link."""
    problems = []
    rows = list(rows)
    for flow in (flow for link in rows for flow in link.flows):
        if flow.source.row.key in (*_RAW, "frame_handle"):
            problems.append(_frames_problem(plant, flow))
    refused = {id(flow) for link in rows for flow in link.flows if flow.source.row.key in _RAW}
    for host in plant.hosts.values():
        for word, side in (("sends", 0), ("receives", 1)):
            own = [link for link in rows if (link.from_host, link.to_host)[side] == host.name]
            flows = [flow for link in own for flow in link.flows if id(flow) not in refused]
            total = sum(flow.mbit_s for flow in flows)
            if total > LINK_SHARE * host.link_mbit_s:
                largest = sorted(flows, key=lambda flow: -flow.mbit_s)[:3]
                most = ", ".join(f"{flow.source.name} {flow.mbit_s:.0f}" for flow in largest)
                message = (
                    f"{word} about {total:.0f} Mbit/s ({most}, ...); allowed: "
                    f"{LINK_SHARE:.0%} of its link of {host.link_mbit_s:g} Mbit/s"
                )
                problems.append(plant.lines.problem(host.path, message))
    return problems


def _frames_problem(plant: Plant, flow: Flow) -> Problem:
    camera, reader = flow.source, flow.sink
    how = (
        "a ring is memory of one host"
        if camera.row.key == "frame_handle"
        else f"raw frames would be {flow.mbit_s:.0f} Mbit/s"
    )
    records = reader.node.type == "recorder"
    way_out = "topics: TOPIC=jpeg" if records else "road: compressed"
    message = (
        f"'{reader.node.key}' runs on '{reader.host}' and its {camera.node.type} "
        f"'{camera.node.key}' on '{camera.host}': {how}; allowed: both on one host, or {way_out}"
    )
    keys = ("topics",) if records else ("road", "camera")
    key = next((key for key in keys if key in reader.node.parameters), keys[-1])
    return plant.lines.problem((*reader.node.path, "parameters", key), message)


def _takes(sink: Endpoint, source: Endpoint) -> bool:
    """Whether the node really subscribes, of the roads and images that it could."""
    key, node = sink.row.key, sink.node
    if node.type == "inspector" and key in _FRAME_ROADS.values():
        return _FRAME_ROADS[str(node.value("road"))] == key
    if node.type == "recorder":
        policies = recorder_policies(node)
        return is_wanted(sink.row, source.name, str(node.value("images")), policies)
    return True


def _bytes_per_s(plant: Plant, source: Endpoint) -> float:
    key, node = source.row.key, source.node
    # An inspector works at the rate of its camera; what it does not name is assumed.
    camera = plant.nodes.get(f"{node.cell}/{node.value('camera')}", node)
    if key in _RAW:
        return _pixels_per_s(camera) * _channels(camera)
    if key == "image_compressed" or key in _JPEG_OF_INSPECTOR:
        share = SUSPECT_SHARE if key == "score_map_compressed" else 1.0
        return _pixels_per_s(camera) * JPEG_BYTES_PER_PIXEL * share
    if key in _BYTES_A_FRAME:
        return _rate_hz(camera) * _BYTES_A_FRAME[key]
    if key == "suspect_crop":
        size = 1000.0 * float(node.value("crop_max_kb") or 0)
        return 0.0 if node.value("crops") == "none" else _rate_hz(camera) * SUSPECT_SHARE * size
    if key == "detail_result":
        return ASSUMED_RATE_HZ * SUSPECT_SHARE * 1_500
    return _SMALL_BYTES_PER_S.get(key, _OTHER_BYTES_PER_S)


def _rate_hz(camera: Node) -> float:
    return float(camera.value("rate_hz") or 0.0) or ASSUMED_RATE_HZ


def _pixels_per_s(camera: Node) -> float:
    width = int(camera.value("width") or 0) or ASSUMED_WIDTH_PX
    height = int(camera.value("height") or 0) or ASSUMED_HEIGHT_PX
    return width * height * _rate_hz(camera)


def _channels(camera: Node) -> int:
    return 1 if str(camera.value("pixel_format") or "").upper() in _MONO else 3

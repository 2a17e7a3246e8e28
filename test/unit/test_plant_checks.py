"""The check before anything starts: plant files that break QoS, links or discovery."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shopfloor.plant import cli
from shopfloor.plant.checks import check_plant
from shopfloor.plant.discovery import MAX_PARTICIPANTS, TOOLS, discovery_environment
from shopfloor.plant.endpoints import endpoints
from shopfloor.plant.links import links
from shopfloor.plant.paths import config_folder
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.problems import PlantError
from shopfloor.plant.specs import make_specs
from shopfloor.ros.interfaces import INTERFACES, Qos
from shopfloor.ros.qos_settings import QosSettings, incompatibility, offered, requested

TEXT = """\
plant: trial
domain_id: 12
discovery: static
peers: [jetson, server]
hosts:
  jetson: {hostname: jetson, role: edge, capabilities: [camera]}
  server: {hostname: server, role: server}
cells:
  line_1:
    nodes:
      eye:
        type: camera
        parameters: {source: simulated, rate_hz: 30, width: 1920, height: 1080}
      inspector: {type: inspector, parameters: {camera: eye}}
      gate: {type: quality_gate, parameters: {cameras: [eye]}}
      recorder: {type: recorder, parameters: {images: none}}
processes:
  vision: {host: jetson, nodes: [eye]}
  look: {host: jetson, nodes: [inspector]}
  quality: {host: server, nodes: [gate]}
  tape: {host: server, nodes: [recorder]}
"""


def plant_of(folder: Path, *changes: tuple[str, str]) -> Plant:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "plant.yaml"
    path.write_text(text, "utf-8")
    return load_plant(path)


def node(text: str) -> tuple[str, str]:
    """The change that adds a node."""
    return "      recorder:", f"      {text}\n      recorder:"


def refusal(plant: Plant) -> str:
    with pytest.raises(PlantError) as caught:
        check_plant(plant)
    return str(caught.value)


def test_a_sound_plant_is_measured_and_not_refused(tmp_path: Path) -> None:
    report = check_plant(plant_of(tmp_path))
    assert report.notes == ()
    assert {(link.from_host, link.to_host) for link in report.links} == {("jetson", "server")}
    (link,) = report.links
    assert link.mbit_s == pytest.approx(sum(flow.mbit_s for flow in link.flows))
    carried = {flow.source.name for flow in link.flows}
    assert {"/line_1/inspection/result", "/line_1/eye/frame_info"} <= carried
    assert not any("image" in name or "handle" in name for name in carried)


@pytest.mark.parametrize("path", sorted(config_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_plant_passes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--plant", str(path)]) == 0
    out = capsys.readouterr().out
    assert "no problems" in out and "note:" not in out


# Links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", ["auto", "image", "local"])
def test_raw_full_hd_to_another_host_is_refused_with_its_rate(tmp_path: Path, road: str) -> None:
    plant = plant_of(
        tmp_path,
        ("look: {host: jetson", "look: {host: server"),
        ("{camera: eye}", f"{{camera: eye, road: {road}}}"),
    )
    text = refusal(plant)
    where = r"plant\.yaml:14: cells\.line_1\.nodes\.inspector\.parameters\.road: "
    assert re.search(where, text), text
    assert "raw frames would be 1493 Mbit/s" in text  # 1920 x 1080 x 3 x 8 x 30
    assert "allowed: both on one host, or road: compressed" in text


def test_a_ring_does_not_reach_another_host(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path,
        ("look: {host: jetson", "look: {host: server"),
        ("{camera: eye}", "{camera: eye, road: ring}"),
    )
    assert "a ring is memory of one host" in refusal(plant)


def test_jpeg_to_another_host_is_allowed_and_counted(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path,
        ("look: {host: jetson", "look: {host: server"),
        ("{camera: eye}", "{camera: eye, road: compressed}"),
    )
    check_plant(plant)
    (link,) = [link for link in links(plant) if link.to_host == "server"]
    assert link.flows[0].source.name == "/line_1/eye/image_raw/compressed"
    assert 100 < link.flows[0].mbit_s < 150


def test_each_process_of_another_host_gets_a_copy_and_a_thin_link_is_refused(
    tmp_path: Path,
) -> None:
    recorded = ("images: none", "images: camera")
    plant = plant_of(tmp_path, recorded)
    one = links(plant)[0].mbit_s
    two = links(
        plant_of(
            tmp_path,
            recorded,
            node("tape_2: {type: recorder, parameters: {images: all}}"),
            ("  tape:", "  other: {host: server, nodes: [tape_2]}\n  tape:"),
        )
    )[0].mbit_s  # fmt: skip
    assert two > 2 * one - 10
    thin = plant_of(
        tmp_path, recorded, ("hostname: server,", "hostname: server, link_mbit_s: 100,")
    )
    text = refusal(thin)
    assert re.search(r"plant\.yaml:7: hosts\.server: receives about \d+ Mbit/s", text)
    assert "/line_1/eye/image_raw/compressed 124" in text
    assert "allowed: 60% of its link of 100 Mbit/s" in text
    assert "hosts.jetson" not in text  # its link is a fast one


def test_two_nodes_of_one_process_share_a_copy(tmp_path: Path) -> None:
    apart = links(plant_of(tmp_path))[0]
    together = links(
        plant_of(tmp_path, ("  tape: {host: server, nodes: [recorder]}\n", ""),
                 ("nodes: [gate]", "nodes: [gate, recorder]"))
    )[0]  # fmt: skip
    names = [[flow.source.name for flow in link.flows] for link in (apart, together)]
    assert [found.count("/line_1/inspection/result") for found in names] == [2, 1]


# Connections -------------------------------------------------------------------------------------


def test_a_remap_that_joins_two_types_is_refused(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path,
        ("{cameras: [eye]}", "{cameras: [eye]}, remaps: {parts/verdict: inspection/result}"),
    )
    text = refusal(plant)
    assert "/line_1/inspection/result does not fit with" in text
    assert "shopfloor_msgs/msg/PartVerdict" in text and "shopfloor_msgs/msg/Insp" in text


def test_two_servers_of_one_service_are_refused(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path,
        node("hot: {type: thermal_watchdog}\n      hot_2: {type: thermal_watchdog}"),
        ("nodes: [recorder]", "nodes: [recorder, hot, hot_2]"),
    )
    text = refusal(plant)
    assert "/line_1/hosts/server/set_rung is served by 'line_1/hot' already" in text


def test_a_camera_that_is_none_is_noted(tmp_path: Path) -> None:
    plant = plant_of(tmp_path, ("{camera: eye}", "{camera: eyes}"))
    notes = "\n".join(map(str, check_plant(plant).notes))
    assert "inspector: reads /line_1/eyes/frame_info, which no node of this file" in notes


def test_a_gate_whose_camera_names_no_parts_is_refused(tmp_path: Path) -> None:
    v4l2 = ("source: simulated,", "source: v4l2, address: /dev/video0,")
    text = refusal(plant_of(tmp_path, v4l2))
    where = r"plant\.yaml:15: cells\.line_1\.nodes\.gate\.parameters\.cameras: 'line_1/eye': "
    assert re.search(where + "source v4l2 .* names no parts; allowed: genicam with trigger", text)
    named = "source: v4l2, address: /dev/video0, part_template: 'p{series}-{frame}',"
    check_plant(plant_of(tmp_path, ("source: simulated,", named)))
    # Without a gate nobody asks for parts.
    check_plant(plant_of(tmp_path, v4l2, ("{cameras: [eye]}", "{cameras: [other]}")))


def test_the_table_connects_and_the_data_are_those_of_rclpy() -> None:
    for row in INTERFACES:
        assert incompatibility(offered(row.qos), requested(row.qos)) == "", row.key
    qos = pytest.importorskip("rclpy.qos", reason="ROS 2 is not there")
    from shopfloor.ros.qos import publisher_qos, subscription_qos

    classes = [one for one in Qos if one is not Qos.SERVICES]
    for one in classes:
        for other in classes:
            ours = incompatibility(offered(one), requested(other))
            theirs, why = qos.qos_check_compatible(publisher_qos(one), subscription_qos(other))
            fits = theirs != qos.QoSCompatibility.ERROR
            assert fits == (ours == ""), f"{one} to {other}: {ours!r}, rclpy: {why}"


@pytest.mark.parametrize(
    ("offer", "request_", "why"),
    [
        (QosSettings(1, reliable=False), QosSettings(1), "best effort offered"),
        (QosSettings(1), QosSettings(1, latched=True), "volatile ones offered"),
        (QosSettings(1), QosSettings(1, lease_s=0.5), "lease of 0.5 s"),
        (QosSettings(1, lease_s=1.0), QosSettings(1, lease_s=0.5), "lease of 0.5 s"),
        (QosSettings(1, lease_s=0.1, latched=True), QosSettings(9, lease_s=0.5), ""),
    ],
)
def test_incompatible_settings(offer: QosSettings, request_: QosSettings, why: str) -> None:
    found = incompatibility(offer, request_)
    assert why in found and bool(found) == bool(why)


# Discovery ---------------------------------------------------------------------------------------

STATIC = "discovery: static\npeers: [jetson, server]\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (STATIC, "", "jetson, server would not find each other; allowed: static, server, subnet"),
        ("domain_id: 12\n", "", "plant.yaml:1: domain_id: is missing"),
        ("peers: [jetson, server]", "peers: [server]", "peers: 'jetson' of the host 'jetson'"),
        ("peers: [jetson, server]", "peers: [10.0.0.1]", "peers: 1 for 2 hosts"),
        (
            STATIC,
            "discovery: server\ndiscovery_servers: [server:99999]\n",
            "server:99999: allowed: ports 1 to 65535",
        ),
    ],
)
def test_hosts_that_would_not_find_each_other(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert expected in refusal(plant_of(tmp_path, (old, new)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("peers: [jetson, server]\n", "", "needs the other hosts; add the key 'peers'"),
        (STATIC, "discovery: server\n", "add the key 'discovery_servers'"),
        (
            "peers:",
            "discovery_servers: [server:11811]\npeers:",
            "discovery_servers: not used with discovery: static",
        ),
        ("nodes: [gate]", "nodes: [gate], env: {ROS_DISCOVERY_SERVER: x}", "ROS_DISCOVERY_SERVER"),
    ],
)
def test_settings_that_contradict_each_other(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    with pytest.raises(PlantError, match=re.escape(expected)):
        plant_of(tmp_path, (old, new))


def test_one_host_needs_no_more_than_itself(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path, (STATIC, ""), ("domain_id: 12\n", ""), ("host: server", "host: jetson")
    )
    assert check_plant(plant).links == ()


def test_many_hosts_by_multicast_are_refused(tmp_path: Path) -> None:
    more = "".join(f"  h{n}: {{hostname: h{n}}}\n" for n in range(3))
    nodes = "".join(f"      gate_{n}: {{type: quality_gate, parameters: {{cameras: [eye]}}}}\n"
                    for n in range(3))  # fmt: skip
    processes = "".join(f"  p{n}: {{host: h{n}, nodes: [gate_{n}]}}\n" for n in range(3))
    plant = plant_of(
        tmp_path,
        (STATIC, "discovery: subnet\n"),
        ("cells:\n", f"{more}cells:\n"),
        ("      recorder:", f"{nodes}      recorder:"),
        ("processes:\n", f"processes:\n{processes}"),
    )
    assert "multicast between 5 hosts" in refusal(plant)


def test_more_processes_than_are_found_by_address_are_refused(tmp_path: Path) -> None:
    count = MAX_PARTICIPANTS - TOOLS
    nodes = "".join(f"      tape_{n}: {{type: recorder, parameters: {{images: none}}}}\n"
                    for n in range(count))  # fmt: skip
    processes = "".join(f"  p{n}: {{host: jetson, nodes: [tape_{n}]}}\n" for n in range(count))
    changes = (("      recorder:", f"{nodes}      recorder:"),
               ("processes:\n", f"processes:\n{processes}"))  # fmt: skip
    assert f"{count + 2} processes" in refusal(plant_of(tmp_path, *changes))
    server = "discovery: server\ndiscovery_servers: [server:11811]\n"
    check_plant(plant_of(tmp_path, (STATIC, server), *changes))


def test_the_profiles_look_for_as_many_as_the_check_allows() -> None:
    for name in ("fastdds.xml", "fastdds_small.xml"):
        text = (config_folder() / name).read_text("utf-8")
        assert f"<maxInitialPeersRange>{MAX_PARTICIPANTS}</maxInitialPeersRange>" in text


def test_behind_a_server_only_who_looks_for_topics_hears_of_all(tmp_path: Path) -> None:
    server = "discovery: server\ndiscovery_servers: [server:11811, jetson:11812]\n"
    plant = plant_of(tmp_path, (STATIC, server))
    of = {spec.name: spec.environment for spec in make_specs(plant, "all")}
    assert {env["ROS_DISCOVERY_SERVER"] for env in of.values()} == {"server:11811;jetson:11812"}
    assert of["tape"]["ROS_SUPER_CLIENT"] == "TRUE"
    assert of["quality"]["ROS_SUPER_CLIENT"] == "FALSE"
    static = discovery_environment(plant_of(tmp_path), frozenset(), "server")
    assert static["ROS_DISCOVERY_SERVER"] == "", "that of the caller's shell is not taken over"
    assert static["ROS_STATIC_PEERS"] == "jetson", "a host need not be told of itself"


# Endpoints ---------------------------------------------------------------------------------------


def test_names_are_resolved_from_parameters_hosts_and_remaps(tmp_path: Path) -> None:
    plant = plant_of(
        tmp_path,
        ("{cameras: [eye]}", "{cameras: [eye]}, remaps: {parts/verdict: /mes/verdict}"),
    )
    found = {(end.node.name, end.row.key, end.serves): end.name for end in endpoints(plant)}
    assert found["eye", "image", True] == "/line_1/eye/image_raw"
    assert found["inspector", "image", False] == "/line_1/eye/image_raw"
    assert found["inspector", "thermal_state", False] == "/line_1/hosts/jetson/thermal"
    assert found["gate", "part_verdict", True] == "/mes/verdict"
    assert found["recorder", "camera_state", False] == "/line_1/*/state"
    assert found["recorder", "diagnostics", True] == "/diagnostics"


def test_raw_images_to_a_recorder_elsewhere_are_refused_and_jpeg_counted(tmp_path: Path) -> None:
    def asking(policy: str) -> Plant:
        change = ("{images: none}", f"{{images: none, topics: ['eye/image_raw={policy}']}}")
        return plant_of(tmp_path, change)

    text = refusal(asking("raw"))
    assert "raw frames would be 1493 Mbit/s" in text
    assert "nodes.recorder.parameters.topics" in text and "TOPIC=jpeg" in text
    (link,) = [link for link in links(asking("jpeg")) if link.to_host == "server"]
    assert "/line_1/eye/image_raw/compressed" in {flow.source.name for flow in link.flows}
    (link,) = [link for link in links(asking("none")) if link.to_host == "server"]
    assert not any("image" in flow.source.name for flow in link.flows)
    with pytest.raises(PlantError, match=r"rawest.*allowed: TOPIC=POLICY"):
        asking("rawest")

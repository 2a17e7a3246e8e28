"""Splits, cuts around events, the quota and a disk that fails: what is in the bags afterwards."""

from __future__ import annotations

import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from shopfloor.replay.bag import BagError, BagFile, Topic, WritingThread, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.recording import RETRY_S, Plan, Recording
from shopfloor.replay.ring import Ring
from shopfloor.replay.rolling import RollingBag, SplitLimits

DATA = Topic("/a/data", "std_msgs/msg/String")
STATE = Topic("/a/state", "std_msgs/msg/String", latched=True)
TYPES = typestore([])
S = 1_000_000_000
DAY_NS = 1_700_000_000 * S


def string(text: str, size: int = 0) -> bytes:
    body = text.encode() + b" " * max(0, size - len(text)) + b"\0"
    return b"\0\1\0\0" + len(body).to_bytes(4, "little") + body


class Clock:
    """The steady clock of a test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def recording(plan: Plan, clock: Clock) -> Recording:
    return Recording(plan, TYPES, {"plant": "p"}, DAY_NS, clock)


def at(seconds: float) -> int:
    return DAY_NS + int(seconds * S)


def bags(folder: Path) -> dict[str, list[tuple[float, str, str]]]:
    """By bag, in order of time: second, topic, text."""
    found = {}
    for path in folder.iterdir():
        with BagReader(path) as reader:
            decode = reader.decoder()
            found[path.name] = [
                ((m.stamp_ns - DAY_NS) / S, m.topic, decode(m).data.strip())
                for m in reader.messages()
            ]
    return dict(sorted(found.items()))


def custom(bag: Path) -> dict[str, str]:
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    return dict(content["rosbag2_bagfile_information"]["custom_data"])


@pytest.mark.parametrize(
    "limits", [SplitLimits(duration_ns=10 * S), SplitLimits(size_bytes=100_000)]
)
def test_each_split_stands_alone_and_nothing_is_lost_between(
    tmp_path: Path, clock: Clock, limits: SplitLimits
) -> None:
    plan = Plan(tmp_path, "bag", limits=limits)
    work = recording(plan, clock)
    work.write(STATE, at(0), string("first"))
    for n in range(35):
        work.write(DATA, at(n), string(str(n), 10_000))
        if n == 15:
            work.write(STATE, at(n), string("second"))
    work.close()
    found = bags(tmp_path)
    assert list(found) == ["bag", "bag_001", "bag_002", "bag_003"]
    texts = [text for bag in found.values() for _, topic, text in bag if topic == "/a/data"]
    assert texts == [str(n) for n in range(35)]
    heads = [bag[0] for bag in found.values()]
    assert [text for _, _, text in heads] == ["first", "first", "second", "second"]
    # The head's stamp is the bag's beginning: a state of yesterday makes no bag a day long.
    assert [head[0] for head in heads] == [bag[1][0] for bag in found.values()]
    assert not work.lost


def test_a_cut_begins_before_its_event_and_tells_the_state_of_then(
    tmp_path: Path, clock: Clock
) -> None:
    work = recording(Plan(tmp_path, continuous=False, events=True), clock)
    work.write(STATE, at(0), string("old"))
    for n in range(100):
        work.write(DATA, at(n), string(str(n)))
        if n == 48:
            work.write(STATE, at(n), string("new"))
        if n == 50:
            work.event(at(n), "the first")
        if n == 53:
            work.event(at(n), "the second")
    assert work.cuts is not None
    assert (work.cuts.cuts, work.cuts.events, work.cuts.path) == (1, 2, None)
    work.close()
    ((name, content),) = bags(tmp_path).items()
    assert name.startswith("event_2023")
    assert [text for _, topic, text in content if topic == "/a/data"] == [
        str(n) for n in range(40, 59)
    ]
    assert [text for _, topic, text in content if topic == "/a/state"] == ["old", "new"]
    assert content[0] == (40.0, "/a/state", "old")
    said = custom(tmp_path / name)
    assert said["plant"] == "p"
    assert said["events"].splitlines() == [f"{at(50)} the first", f"{at(53)} the second"]


def test_an_event_after_a_cut_gets_one_of_its_own(tmp_path: Path, clock: Clock) -> None:
    work = recording(Plan(tmp_path, "x", continuous=False, events=True), clock)
    for n in range(60):
        work.write(DATA, at(n), string(str(n)))
        if n in (20, 27):
            work.event(at(n), f"at {n}")
    # Nothing more comes: time alone ends a cut.
    work.event(at(59), "the last")
    work.tick(at(65))
    found = bags(tmp_path)
    spans = [(bag[0][0], bag[-1][0]) for bag in found.values()]
    assert sorted(spans) == [(10.0, 25.0), (17.0, 32.0), (49.0, 59.0)]


def test_both_keeps_everything_and_the_cut(tmp_path: Path, clock: Clock) -> None:
    work = recording(Plan(tmp_path, "bag", events=True), clock)
    for n in range(30):
        work.write(DATA, at(n), string(str(n)))
        if n == 15:
            work.event(at(n), "now")
    work.close()
    sizes = sorted(len(bag) for bag in bags(tmp_path).values())
    assert sizes == [16, 30]


def test_time_that_goes_back_ends_the_bag_and_empties_the_ring(
    tmp_path: Path, clock: Clock
) -> None:
    work = recording(Plan(tmp_path, "bag", events=True), clock)
    for n in range(20):
        work.write(DATA, at(n), string(f"before {n}"))
    for n in range(3):
        work.write(DATA, at(n), string(f"after {n}"))
    work.event(at(2), "now")
    work.close()
    found = bags(tmp_path)
    assert [len(found[name]) for name in ("bag", "bag_001")] == [20, 3]
    (cut,) = (bag for name, bag in found.items() if "event" in name)
    assert [text for _, _, text in cut] == ["after 0", "after 1", "after 2"]


def test_the_ring_is_bounded_and_says_what_went_early() -> None:
    ring = Ring(10 * S, 1000)
    for n in range(10):
        ring.add(DATA, n * S, bytes(300))
    assert ring.size_bytes == 900
    assert ring.dropped == {"/a/data": 7}
    ring.add(STATE, 10 * S, bytes(5000))  # more than all the room there is
    assert ring.size_bytes == 0
    assert ring.latched["/a/state"][1] == 10 * S
    ring.add(DATA, 11 * S, b"")
    ring.forget(30 * S)
    assert not list(ring)
    assert ring.dropped == {"/a/data": 10, "/a/state": 1}


def test_the_quota_holds_while_recording(tmp_path: Path, clock: Clock) -> None:
    limits = SplitLimits(size_bytes=100_000)
    work = recording(Plan(tmp_path, "bag", limits=limits, quota_bytes=300_000), clock)
    for n in range(100):
        clock.now_s += 6.0
        work.write(DATA, at(n), string(str(n), 10_000))
    work.close()
    texts = [text for bag in bags(tmp_path).values() for _, _, text in bag]
    assert texts[-1] == "99"  # the newest are there, and in one piece
    assert texts == [str(n) for n in range(100 - len(texts), 100)]
    assert 20 <= len(texts) <= 40
    assert work.quota.deleted[:2] == ["bag", "bag_001"]


@pytest.fixture
def file_limit() -> Iterator[None]:
    """The kernel refuses to let files grow beyond 1.5 MB, with an error of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_is_an_error_and_recording_goes_on_later(
    tmp_path: Path, clock: Clock, file_limit: None
) -> None:
    work = recording(Plan(tmp_path, "bag", events=True), clock)
    written = 0
    while not work.error:
        work.write(DATA, at(written), string(str(written), 100_000))
        written += 1
        assert written < 100
    assert "File too large" in work.error
    work.write(DATA, at(written), string("goes by", 100))
    assert work.lost == {"/a/data": 2}
    work.event(at(written), "nobody can write this")
    clock.now_s += RETRY_S
    for n in range(5):
        work.write(DATA, at(100 + n), string(f"again {n}", 100))
    assert not work.error
    work.event(at(104), "now")
    work.close()
    kept = [path for path in tmp_path.iterdir() if (path / "metadata.yaml").exists()]
    assert len(kept) == 2
    for path in kept:
        with BagReader(path) as reader:
            decode = reader.decoder()
            texts = [decode(m).data.strip() for m in reader.messages()]
        assert texts[-5:] == [f"again {n}" for n in range(5)]


def test_a_disk_without_room_pauses_with_whole_bags(tmp_path: Path, clock: Clock) -> None:
    work = recording(Plan(tmp_path, "bag"), clock)
    work.write(DATA, at(0), string("kept"))
    work.quota._min_free_bytes = 10**18
    clock.now_s += 6.0
    work.write(DATA, at(1), string("lost"))
    assert "MB free, needed" in work.error
    assert bags(tmp_path) == {"bag": [(0.0, "/a/data", "kept")]}
    clock.now_s += 6.0
    work.write(DATA, at(2), string("lost"))
    assert "MB free, needed" in work.error
    work.quota._min_free_bytes = 0
    clock.now_s += 6.0
    work.write(DATA, at(3), string("again"))
    work.close()
    assert bags(tmp_path)["bag_001"] == [(3.0, "/a/data", "again")]
    assert work.lost == {"/a/data": 2}


def test_a_folder_that_somebody_takes_away_is_made_again(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "bags"
    work = recording(Plan(folder, "bag", events=True), clock)
    work.write(DATA, at(0), string("gone"))
    shutil.rmtree(folder)
    clock.now_s += 6.0
    work.write(DATA, at(1), string("lost"))
    assert "was taken away" in work.error
    clock.now_s += RETRY_S
    work.write(DATA, at(2), string("again"))
    assert not work.error
    work.close()
    assert bags(folder) == {"bag": [(2.0, "/a/data", "again")]}


def test_a_folder_that_cannot_be_or_a_bag_that_exists_is_said_at_once(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"):
        recording(Plan(tmp_path, "bag"), clock)
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot write"):
        recording(Plan(tmp_path / "file"), clock)


def test_the_thread_never_blocks_and_counts_what_it_drops(tmp_path: Path) -> None:
    bag = BagFile(tmp_path / "bag", TYPES)
    writer = WritingThread(bag, max_waiting_bytes=1000)
    gate = threading.Event()
    writer.tell(gate.wait)  # a disk that takes nothing
    taken = [writer.put(DATA, n, string(str(n), 300)) for n in range(6)]
    assert taken == [True] * 3 + [False] * 3
    assert writer.dropped == {"/a/data": 3}
    gate.set()
    writer.close()
    assert not writer.error
    assert bag.counts == {"/a/data": 3}


def test_metadata_has_what_rosbag2_reads(tmp_path: Path, clock: Clock) -> None:
    work = recording(Plan(tmp_path, "bag"), clock)
    work.write(STATE, at(1), string("state"))
    for n in range(10):
        work.write(DATA, at(1 + n / 2), string(str(n)))
    work.close()
    info = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    info = info["rosbag2_bagfile_information"]
    topics = info.pop("topics_with_message_count")
    begun = {"nanoseconds_since_epoch": at(1)}
    lasted = {"nanoseconds": int(4.5 * S)}
    assert info == {
        "version": 9,
        "storage_identifier": "mcap",
        "duration": lasted,
        "starting_time": begun,
        "message_count": 11,
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": ["bag.mcap"],
        "files": [
            {"path": "bag.mcap", "starting_time": begun, "duration": lasted, "message_count": 11}
        ],
        "custom_data": {"plant": "p"},
        "ros_distro": "rosbags",
    }
    by_name = {t["topic_metadata"]["name"]: t for t in topics}
    assert {name: t["message_count"] for name, t in by_name.items()} == {
        "/a/data": 10,
        "/a/state": 1,
    }
    for name, entry in by_name.items():
        about = entry["topic_metadata"]
        (qos,) = about["offered_qos_profiles"]
        assert set(about) == {
            "name", "type", "serialization_format", "offered_qos_profiles", "type_description_hash",
        }  # fmt: skip
        assert about["type"] == "std_msgs/msg/String"
        assert about["serialization_format"] == "cdr"
        assert about["type_description_hash"].startswith("RIHS01_")
        assert qos["durability"] == ("transient_local" if name == "/a/state" else "volatile")
        assert set(qos) == {
            "history", "depth", "reliability", "durability", "deadline", "lifespan", "liveliness",
            "liveliness_lease_duration", "avoid_ros_namespace_conventions",
        }  # fmt: skip


def test_other_readers_open_it(tmp_path: Path, clock: Clock) -> None:
    work = recording(Plan(tmp_path, "bag"), clock)
    for n in range(10):
        work.write(DATA, at(n), string(str(n)))
    work.close()
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 10
        assert [stamp for _, stamp, _ in reader.messages()] == [at(n) for n in range(10)]
    with (tmp_path / "bag" / "bag.mcap").open("rb") as stream:
        mcap = make_reader(stream, validate_crcs=True)
        summary = mcap.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 10
        assert [s.name for s in summary.schemas.values()] == ["std_msgs/msg/String"]
        assert [m.log_time for _, _, m in mcap.iter_messages()] == [at(n) for n in range(10)]


def test_a_split_in_a_cut_tells_the_events_too(tmp_path: Path, clock: Clock) -> None:
    plan = Plan(tmp_path, continuous=False, events=True)
    work = recording(replace(plan, limits=SplitLimits(size_bytes=30_000)), clock)
    for n in range(12):
        work.write(DATA, at(n), string(str(n), 5_000))
    work.event(at(11), "here")
    work.close()
    assert len(bags(tmp_path)) == 2
    assert all("here" in custom(path)["events"] for path in tmp_path.iterdir())


def test_a_name_that_another_recorder_takes_in_that_moment_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    names = iter(["bag", "bag", "bag_001"])
    rolling = RollingBag(lambda _: tmp_path / next(names), TYPES, {}, SplitLimits())
    rolling.write(DATA, at(0), string("mine"))
    assert rolling.path == tmp_path / "bag_001"
    rolling.close()
    always = RollingBag(lambda _: tmp_path / "bag", TYPES, {}, SplitLimits())
    with pytest.raises(BagError, match="exists already"):
        always.open(at(0))

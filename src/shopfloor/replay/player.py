"""A replay: yesterday's inputs through today's nodes in lock-step; what they say into a bag."""

from __future__ import annotations

import heapq
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shopfloor.plant.plant_file import Plant
from shopfloor.replay.bag import BagWriter, Topic, typestore
from shopfloor.replay.bag_reader import BagReader
from shopfloor.replay.board_files import Boards
from shopfloor.replay.fields import OutputHash
from shopfloor.replay.files_of_plant import unpack
from shopfloor.replay.plant_of_bag import ReplayError, choose, replay_specs
from shopfloor.replay.sequencer import run
from shopfloor.replay.stepped_processes import SteppedProcesses, begin_with_state, free_domain
from shopfloor.replay.topics import row_of
from shopfloor.ros.interfaces import Qos
from shopfloor.ros.paths import message_folder
from shopfloor.ros.recorded import Recorded


@dataclass(frozen=True)
class Request:
    """What to replay.

    start_s, duration_s: the stretch of the bag, from its beginning; duration 0: to its end.
    changes: parameters by node. files: that came with the bag, as `files_of_plant` packs them.
    state: state folder that the nodes begin with; None: an empty one.
    """

    bag: Path
    plant: Plant
    output: Path
    nodes: Sequence[str] = ()
    remap: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: str = ""
    start_s: float = 0.0
    duration_s: float = 0.0
    step_ms: float = 20.0
    state: Path | None = None
    pictures: bool = False


@dataclass(frozen=True)
class Played:
    """What a replay did. seconds: of the bag; wall_s: taken without the start of the processes."""

    hashes: Mapping[str, str]
    total_hash: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    publishes: frozenset[str]
    span_ns: tuple[int, int]
    seconds: float
    wall_s: float
    start_s: float
    steps: int


def play(request: Request, progress: Callable[[float], None] = lambda seconds: None) -> Played:
    """Run it. Raises ReplayError, BagError and PlantError."""
    with BagReader(request.bag, dict(request.remap)) as reader:
        return _play(request, reader, progress)


def _play(request: Request, reader: BagReader, progress: Callable[[float], None]) -> Played:
    start_ns = reader.start_ns + int(request.start_s * 1e9)
    end_ns = reader.end_ns
    if request.duration_s:
        end_ns = min(end_ns, start_ns + int(request.duration_s * 1e9))
    if start_ns >= end_ns:
        seconds = (reader.end_ns - reader.start_ns) / 1e9
        raise ReplayError(f"start {request.start_s:g} s; allowed: 0 to below {seconds:.1f} s")
    nodes = choose(request.plant, request.nodes)
    if not nodes:
        raise ReplayError("the plant has no node that can be replayed")
    began_s = time.monotonic()
    used = request.plant.domain_id
    with tempfile.TemporaryDirectory(prefix="replay_") as name, free_domain(used) as domain_id:
        folder = Path(name)
        boards = Boards(folder / "board")
        try:
            unpack(request.files, folder / "files")
        except ValueError as error:
            raise ReplayError(str(error)) from None
        specs = replay_specs(request.plant, nodes, reader.types.keys(), request.changes, boards)
        if request.state is not None:
            begin_with_state(request.state, used, folder / "state", domain_id)
        _first_temperatures(reader, boards, start_ns)
        with SteppedProcesses(
            specs, folder, domain_id, start_ns, pictures=request.pictures
        ) as processes:
            ready_s = time.monotonic()
            kept = _Kept(request.output)
            publishes = frozenset[str]().union(*(node.publishes for node in processes.nodes))
            inputs: Counter[str] = Counter()

            def messages() -> Iterator[Recorded]:
                topics = _input_topics(reader, processes, publishes)
                reader.check_types(topics, kept.types)
                for item in _in_time(reader, topics, start_ns, end_ns):
                    if item.topic not in publishes:
                        inputs[item.topic] += 1
                    progress((item.stamp_ns - start_ns) / 1e9)
                    yield item

            def is_of_a_board(item: Recorded) -> bool:
                if item.topic not in publishes:
                    return False
                boards.update(reader.decoder()(item))
                return True

            step_ns = int(request.step_ms * 1e6)
            try:
                steps = run(
                    processes.nodes, messages(), (start_ns, end_ns), step_ns, kept.add,
                    is_of_a_board,
                )  # fmt: skip
            finally:
                kept.close()
    return Played(
        kept.hash.by_topic,
        kept.hash.total,
        inputs,
        kept.counts,
        publishes,
        (start_ns, end_ns),
        (end_ns - start_ns) / 1e9,
        time.monotonic() - ready_s,
        ready_s - began_s,
        steps,
    )


def _input_topics(
    reader: BagReader, processes: SteppedProcesses, publishes: frozenset[str]
) -> set[str]:
    """What the nodes hear and none of them says, and the recorded temperatures."""
    hears = frozenset[str]().union(*(node.listens for node in processes.nodes))
    topics = {topic for topic in reader.types if topic in hears and topic not in publishes}
    if not topics:
        there = ", ".join(sorted(reader.types)) or "nothing"
        raise ReplayError(f"the bag has nothing that these nodes listen to; it has: {there}")
    own = publishes & set(reader.types)
    return topics | {topic for topic in own if _is(topic, "thermal_state")}


def _in_time(reader: BagReader, topics: set[str], start_ns: int, end_ns: int) -> Iterator[Recorded]:
    """The messages by rising stamp; commands when they acted, which they say, not when heard.

    Latched states from before the start come first, as to every node that joins.
    """
    told, decode = {topic for topic in topics if _is(topic, "commands")}, reader.decoder()

    def acted(item: Recorded) -> Recorded:
        stamp = decode(item).stamp
        acted_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        return replace(item, stamp_ns=max(start_ns, min(acted_ns, item.stamp_ns)))

    commands = sorted(
        map(acted, reader.messages(told, start_ns, end_ns)), key=lambda item: item.stamp_ns
    )
    others = reader.messages(topics - told, start_ns, end_ns)
    states = [topic for topic in topics if (row := row_of(topic)) and row.qos is Qos.STATE]
    known = (replace(item, stamp_ns=start_ns) for item in reader.latest(states, start_ns))
    return heapq.merge(known, commands, others, key=lambda item: item.stamp_ns)


def _is(topic: str, key: str) -> bool:
    row = row_of(topic)
    return row is not None and row.key == key


def _first_temperatures(reader: BagReader, boards: Boards, start_ns: int) -> None:
    """A board has its temperatures before anybody asks for them."""
    topics = [topic for topic in reader.types if _is(topic, "thermal_state")]
    decode, known = reader.decoder(), set[str]()
    for item in reader.messages(topics):
        if boards.hosts <= known and item.stamp_ns >= start_ns:
            return
        state = decode(item)
        if state.zones and (item.stamp_ns < start_ns or state.host not in known):
            known.add(boards.update(state))


class _Kept:
    """The outputs, as a bag of their own and as hashes."""

    def __init__(self, path: Path) -> None:
        self.hash = OutputHash()
        self.counts: Counter[str] = Counter()
        self.types = typestore([message_folder("shopfloor_msgs")])
        self._bag = BagWriter(path, self.types)

    def add(self, item: Recorded) -> None:
        row = row_of(item.topic)
        assert row is not None, f"{item.topic} is not of the interface table"
        message = self.types.deserialize_cdr(item.data, row.type)
        self.hash.add(item.topic, item.stamp_ns, message)
        self.counts[item.topic] += 1
        topic = Topic(item.topic, row.type, latched=row.qos is Qos.STATE)
        while not self._bag.put(topic, item.stamp_ns, item.data):
            if self._bag.error:
                raise ReplayError(f"{self._bag.path}: {self._bag.error}")
            time.sleep(0.01)  # the disk is slower than the replay: wait, nothing may be lost

    def close(self) -> None:
        self._bag.close()
        if self._bag.error:
            raise ReplayError(f"{self._bag.path}: {self._bag.error}")

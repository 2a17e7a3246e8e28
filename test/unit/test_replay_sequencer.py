"""The sequencer: who hears what when, whatever order the bag and the nodes have."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from shopfloor.replay.sequencer import run, with_info_first
from shopfloor.ros.recorded import Recorded

MS = 1_000_000


class Node:
    """Hears `listens`, says `says` about each, and has a timer every `period_ns`."""

    def __init__(self, name: str, listens: str, says: str = "", period_ns: int = 0) -> None:
        self.name = name
        self.listens = frozenset(listens.split())
        self.publishes = frozenset({says} if says else ())
        self.period_ns = self.next_timer_ns = period_ns
        self.heard: list[tuple[str, int, bytes]] = []
        self.calls = 0

    def begin(self, inputs: Sequence[Recorded], until_ns: int) -> None:
        self.calls += 1
        assert [i.stamp_ns for i in inputs] == sorted(i.stamp_ns for i in inputs)
        self._out = []
        for item in inputs:
            self.heard.append((item.topic, item.stamp_ns, item.data))
            for said in self.publishes:
                self._out.append(Recorded(said, item.stamp_ns, self.name.encode() + item.data))
        while 0 < self.next_timer_ns <= until_ns:
            self.next_timer_ns += self.period_ns

    def result(self) -> list[Recorded]:
        return self._out


def play(
    nodes: list[Node], messages: list[Recorded], step_ms: int = 20, stop_ms: int = 0
) -> list[Recorded]:
    said: list[Recorded] = []
    stop_ns = max(stop_ms * MS, messages[-1].stamp_ns)
    run(nodes, messages, (0, stop_ns), step_ms * MS, said.append)
    return said


def test_what_a_node_says_reaches_the_others_in_the_next_step_and_the_bag_only_listeners() -> None:
    camera = [Recorded("/frames", i * 333 * MS, bytes([i])) for i in range(5)]
    first, gate = Node("i", "/frames", "/results"), Node("g", "/frames /results", "/verdicts")
    said = play([first, gate], camera)
    assert [m.data for m in said if m.topic == "/results"] == [b"i" + bytes([i]) for i in range(5)]
    results = [(stamp, data) for topic, stamp, data in gate.heard if topic == "/results"]
    assert [data for _, data in results] == [b"i" + bytes([i]) for i in range(5)]
    assert all(stamp - i * 333 * MS <= 20 * MS for i, (stamp, _) in enumerate(results))
    assert all(topic == "/frames" for topic, _, _ in first.heard)


def test_silence_costs_no_steps_but_timers_are_kept() -> None:
    idle, timed = Node("idle", "/a"), Node("timed", "/none", period_ns=500 * MS)
    play([idle, timed], [Recorded("/a", 0, b"1"), Recorded("/a", 60_000 * MS, b"2")])
    assert idle.calls == 2
    assert 119 <= timed.calls <= 121
    assert timed.next_timer_ns > 60_000 * MS


def test_timers_go_on_to_the_end_when_nothing_more_comes() -> None:
    idle, timed = Node("idle", "/a"), Node("timed", "/none", period_ns=500 * MS)
    play([idle, timed], [Recorded("/a", 0, b"1")], stop_ms=10_000)
    assert idle.calls == 1
    assert timed.next_timer_ns == 10_000 * MS


def test_what_is_of_the_surroundings_happens_in_its_time() -> None:
    timed = Node("timed", "/none", period_ns=500 * MS)
    calls: list[int] = []

    def heat(item: Recorded) -> bool:
        calls.append(timed.next_timer_ns)
        return item.topic == "/heat"

    items = [Recorded("/heat", i * 2000 * MS, b"") for i in range(1, 4)]
    run([timed], items, (0, 6000 * MS), 20 * MS, lambda item: None, heat)
    assert calls == [2000 * MS, 4000 * MS, 6000 * MS], "no timer before it saw it, none after it"


def test_a_chain_is_heard_to_its_end_and_a_loop_ends() -> None:
    a, b = Node("a", "/in", "/x"), Node("b", "/x", "/y")
    assert play([a, b], [Recorded("/in", 0, b"!")])[-1].data == b"ba!"
    loop = [Node("a", "/in /y", "/x"), Node("b", "/x", "/y")]
    assert len(play(loop, [Recorded("/in", 0, b"!")])) < 50


def picture(camera: str, stamp_ns: int, at_ns: int, topic: str) -> Recorded:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Recorded(f"/{camera}/{topic}", at_ns, b"\0\1\0\0" + struct.pack("<iI", sec, nanosec))


def test_an_image_comes_after_its_info_in_whichever_order_they_were_recorded() -> None:
    dice = random.Random(3)
    for _ in range(50):
        items = []
        for frame in range(20):
            stamp = frame * 100 * MS
            for topic in ("frame_info", "image_raw/compressed"):
                at = stamp + dice.randrange(0, 400) * MS
                items.append(picture("cam", stamp, at, topic))
        items.sort(key=lambda item: item.stamp_ns)
        out = list(with_info_first(iter(items)))
        assert len(out) == len(items)
        assert [i.stamp_ns for i in out] == sorted(i.stamp_ns for i in out)
        seen = set()
        for item in out:
            if item.topic.endswith("frame_info"):
                seen.add(item.data)
            else:
                assert item.data in seen


def test_an_image_whose_info_never_comes_goes_on() -> None:
    items = [picture("cam", 0, 0, "image_raw/compressed")]
    items += [Recorded("/other", i * 500 * MS, b"") for i in range(1, 6)]
    topics = [item.topic for item in with_info_first(iter(items))]
    assert topics.index("/cam/image_raw/compressed") == 1
    assert len(topics) == 6

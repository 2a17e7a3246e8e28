"""The sequencer: which node is given which message when, so that every run is the same.

Time goes in steps. In a step each node gets the bag's messages of that span and what other nodes
published in the step before, which arrives at the step's beginning. Who is faster cannot matter:
nodes of one step don't hear each other, and what they say is ordered by node before it goes on.
Stretches in which nobody has anything to do are left out.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from shopfloor.replay.topics import row_of
from shopfloor.ros.recorded import Recorded

_IMAGES = {"image": "/image_raw", "image_compressed": "/image_raw/compressed"}
_PATIENCE_NS = 1_000_000_000
_LAST_STEPS = 20
"""Steps after the bag's end in which nodes may still answer each other."""


class SteppedNode(Protocol):
    """A node in lock-step, as the sequencer sees it."""

    name: str
    listens: frozenset[str]
    publishes: frozenset[str]
    next_timer_ns: int

    def begin(self, inputs: Sequence[Recorded], until_ns: int) -> None:
        """Start a step."""

    def result(self) -> list[Recorded]:
        """Wait for its end; what the node published. Raises ReplayError."""


def run(
    nodes: Sequence[SteppedNode],
    messages: Iterable[Recorded],
    span_ns: tuple[int, int],
    step_ns: int,
    on_output: Callable[[Recorded], None],
    surround: Callable[[Recorded], bool] = lambda item: False,
) -> int:
    """Drive the nodes through the messages; returns the number of steps.

    messages: inputs by rising stamp. span_ns: from when to when; the nodes' timers go on to the
    end, as what did not come is news, too. on_output: called with each output, in order.
    surround: called with each message in the step in which it came; True: it is for no node.
    """
    source = with_info_first(iter(messages))
    ahead = next(source, None)
    routed: list[tuple[SteppedNode, Recorded]] = []
    (now_ns, stop_ns), steps, left = span_ns, 0, _LAST_STEPS
    while True:
        begin_ns = now_ns if routed else max(now_ns, _next_ns(nodes, ahead, stop_ns))
        if ahead is None and begin_ns >= stop_ns:
            if not routed or left == 0:
                break
            left -= 1
        end_ns = begin_ns + step_ns
        span: list[Recorded] = []
        while ahead is not None and ahead.stamp_ns < end_ns:
            if not surround(ahead):
                span.append(ahead)
            ahead = next(source, None)
        routed = _step(nodes, routed, span, begin_ns, end_ns)
        for _, item in routed:
            on_output(item)
        now_ns, steps = end_ns, steps + 1
    return steps


def _next_ns(nodes: Sequence[SteppedNode], ahead: Recorded | None, stop_ns: int) -> int:
    timers = (node.next_timer_ns for node in nodes if node.next_timer_ns)
    return min([stop_ns if ahead is None else ahead.stamp_ns, *timers])


def _step(
    nodes: Sequence[SteppedNode],
    routed: Sequence[tuple[SteppedNode, Recorded]],
    span: Sequence[Recorded],
    begin_ns: int,
    end_ns: int,
) -> list[tuple[SteppedNode, Recorded]]:
    asked = []
    for node in nodes:
        inputs = [
            Recorded(item.topic, begin_ns, item.data)
            for origin, item in routed
            if item.topic in node.listens and origin is not node
        ]
        inputs += [item for item in span if item.topic in node.listens]
        if inputs or 0 < node.next_timer_ns <= end_ns:
            node.begin(inputs, end_ns)
            asked.append(node)
    return [(node, item) for node in asked for item in node.result()]


def with_info_first(messages: Iterator[Recorded]) -> Iterator[Recorded]:
    """Each image after the FrameInfo of its stamp, which says whose part it shows.

    The recorder hears them on two topics, so either may stand first. An image whose info does not
    come within a second goes on without.
    """
    waiting: OrderedDict[tuple[str, bytes], Recorded] = OrderedDict()
    known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
    cameras: set[str] = set()
    for item in messages:
        while waiting:
            key, first = next(iter(waiting.items()))
            if item.stamp_ns - first.stamp_ns < _PATIENCE_NS:
                break
            del waiting[key]
            yield _at(first, item.stamp_ns)
        row = row_of(item.topic)
        if row is not None and row.key == "frame_info":
            key = (item.topic.rpartition("/")[0], _stamp(item.data))
            cameras.add(key[0])
            known[key] = None
            while len(known) > 1000:
                known.popitem(last=False)
            yield item
            if key in waiting:
                yield _at(waiting.pop(key), item.stamp_ns)
        elif row is not None and row.key in _IMAGES:
            key = (item.topic.removesuffix(_IMAGES[row.key]), _stamp(item.data))
            if key in known:
                yield item
            else:
                waiting[key] = item
        else:
            yield item
    yield from waiting.values()


def _at(item: Recorded, stamp_ns: int) -> Recorded:
    return Recorded(item.topic, max(stamp_ns, item.stamp_ns), item.data)


def _stamp(data: bytes) -> bytes:
    """The header's stamp, which is the first field: 4 bytes of encapsulation, then sec, nanosec."""
    order = "<" if data[1:2] == b"\x01" else ">"
    return struct.pack("<iI", *struct.unpack_from(f"{order}iI", data, 4))

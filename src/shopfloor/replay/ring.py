"""The last seconds of the graph in memory, so that a bag can begin before its event."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from shopfloor.replay.bag import Topic
from shopfloor.replay.rolling import Message


class Ring:
    """The messages of the last `span_ns`, at most `max_bytes` of them.

    latched: the state before the oldest message, by topic. dropped: messages by topic that had to
    go before their time, as there was no room.
    """

    def __init__(self, span_ns: int, max_bytes: int) -> None:
        self.latched: dict[str, Message] = {}
        self.dropped: Counter[str] = Counter()
        self.size_bytes = 0
        self._span_ns = span_ns
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def add(self, topic: Topic, stamp_ns: int, data: bytes) -> None:
        """One more message; the oldest leave."""
        self._messages.append((topic, stamp_ns, data))
        self.size_bytes += len(data)
        self.forget(stamp_ns)
        while self.size_bytes > self._max_bytes:
            self.dropped[self._leave().name] += 1

    def forget(self, now_ns: int) -> None:
        """Let go of what is older than the span."""
        while self._messages and self._messages[0][1] < now_ns - self._span_ns:
            self._leave()

    def clear(self) -> None:
        """Keep the state only: time went back, as in a replay that loops."""
        while self._messages:
            self._leave()

    def _leave(self) -> Topic:
        message = self._messages.popleft()
        topic = message[0]
        self.size_bytes -= len(message[2])
        if topic.latched:
            self.latched[topic.name] = message
        return topic

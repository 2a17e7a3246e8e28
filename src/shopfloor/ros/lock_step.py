"""What stands in for DDS, clocks and threads in a node that a replay drives step by step.

A node in lock-step hears only what the player gives it, in the player's order; its clocks stand
still but for the stamps of what it is given; its timers fire at their exact times between two
messages; its workers work on the executor thread, and end before the next message. So the same
inputs give the same outputs, however busy the machine is.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rclpy.serialization import deserialize_message, serialize_message

from shopfloor.ros.interfaces import Interface
from shopfloor.ros.recorded import Recorded
from shopfloor.ros.worker import Done, Worker

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class StepSubscription:
    """Stands in for a subscription."""

    topic: str
    type: Any
    callback: Callable[[Any], None]
    raw: bool

    def deliver(self, data: bytes) -> None:
        """Call back with the message, or with its bytes."""
        self.callback(data if self.raw else deserialize_message(data, self.type))


@dataclass(eq=False)
class StepTimer:
    """Stands in for a timer."""

    period_ns: int
    callback: Callable[[], None]
    due_ns: int


class StepPublisher:
    """Stands in for a publisher; what is published goes into the step's answer."""

    def __init__(self, topic: str, wanted: bool, keep: Callable[[str, bytes], None]) -> None:
        self.topic = topic
        self._wanted = wanted
        self._keep = keep

    def publish(self, message: Any) -> None:
        """Keep a message, or the bytes of one."""
        if self._wanted:
            data = message if isinstance(message, bytes) else bytes(serialize_message(message))
            self._keep(self.topic, data)

    def get_subscription_count(self) -> int:
        """As if the recorder listened: lazy topics that it does not record stay silent."""
        return int(self._wanted)


@dataclass(frozen=True)
class StepClient:
    """Stands in for a client of a service that nobody serves."""

    srv_name: str

    def service_is_ready(self) -> bool:
        """Never."""
        return False


@dataclass(eq=False)
class StepGoal:
    """Stands in for the handle of a goal; nobody waits for its end."""

    goal_id: Any
    request: Any
    is_active: bool = True
    is_cancel_requested: bool = False

    def publish_feedback(self, feedback: Any) -> None:
        """To nobody."""

    def succeed(self) -> None:
        """It has ended."""
        self.is_active = False

    abort = canceled = succeed


class StepWorker(Worker[T, R], Generic[T, R]):
    """A worker without a thread: the step waits for it, and its work takes no time."""

    def __init__(
        self,
        name: str,
        work: Callable[[T], R | None],
        deliver: Callable[[Done[T, R]], None],
        now_ns: Callable[[], int],
        period_s: float | None,
        quiet: bool,
    ) -> None:
        super().__init__(name, work, deliver, wake=lambda: None, period_s=period_s, quiet=quiet)
        self._now_ns = now_ns

    def start(self) -> None:
        """Nothing to start."""

    def step(self) -> bool:
        """Do what waits; False where nothing does."""
        item = self._slot.take(timeout_s=0.0)
        if item is None:
            return False
        self._do(item, self._now_ns)
        self.drain()
        return True

    def tick(self) -> None:
        """What a worker with a period does by itself when the period is over."""
        self._do(None, self._now_ns)
        self.drain()


class LockStep:
    """The surroundings of one node. now_ns: ROS time, also the node's steady clock."""

    def __init__(self, start_ns: int, images: bool = False) -> None:
        self.now_ns = start_ns
        self._images = images
        self._subscriptions: list[StepSubscription] = []
        self._publishers: list[StepPublisher] = []
        self._timers: list[StepTimer] = []
        self._workers: list[StepWorker[Any, Any]] = []
        self._goals: list[Coroutine[Any, Any, None]] = []
        self._outputs: list[Recorded] = []

    def subscribe(
        self, topic: str, type_: Any, callback: Callable[[Any], None], raw: bool = False
    ) -> StepSubscription:
        """Call `callback` with each message of `topic` that a step brings."""
        subscription = StepSubscription(topic, type_, callback, raw)
        self._subscriptions.append(subscription)
        return subscription

    def publisher(self, row: Interface, topic: str) -> StepPublisher:
        """A publisher of `topic`. Pictures are made only where the replay asks for them."""
        wanted = row.record and (self._images or row.key not in PICTURES)
        publisher = StepPublisher(topic, wanted, self._keep)
        self._publishers.append(publisher)
        return publisher

    def timer(self, period_s: float, callback: Callable[[], None]) -> StepTimer:
        """Call `callback` every `period_s` of ROS time."""
        period_ns = int(period_s * 1e9)
        timer = StepTimer(period_ns, callback, self.now_ns + period_ns)
        self._timers.append(timer)
        return timer

    def worker(
        self,
        name: str,
        work: Callable[[T], R | None],
        deliver: Callable[[Done[T, R]], None],
        period_s: float | None = None,
        quiet: bool = False,
    ) -> StepWorker[T, R]:
        """A worker that works within the step; one with a period wants a timer that ticks it."""
        worker = StepWorker(name, work, deliver, lambda: self.now_ns, period_s, quiet)
        self._workers.append(worker)
        return worker

    def carry_out(self, goal: Coroutine[Any, Any, None]) -> None:
        """Begin a goal; it goes on as soon as what it waits for is there."""
        if self._waits(goal):
            self._goals.append(goal)

    def remove(self, endpoint: Any) -> None:
        """Undo `subscribe`, `publisher` or `timer`."""
        for endpoints in (self._subscriptions, self._publishers, self._timers):
            if endpoint in endpoints:
                endpoints.remove(endpoint)

    def forget_workers(self) -> None:
        """The workers have been stopped, and no goal goes on."""
        self._workers.clear()
        self._goals.clear()

    @property
    def listens(self) -> list[str]:
        """Topics of the subscriptions."""
        return sorted({s.topic for s in self._subscriptions})

    @property
    def publishes(self) -> list[str]:
        """Topics of the publishers."""
        return sorted({p.topic for p in self._publishers})

    @property
    def next_timer_ns(self) -> int:
        """When the next timer is due; 0: there is none."""
        return min((timer.due_ns for timer in self._timers), default=0)

    def run(self, inputs: Sequence[Recorded], until_ns: int) -> list[Recorded]:
        """Take the inputs, let time pass until `until_ns`; what was published meanwhile."""
        self._settle()
        for item in inputs:
            self._pass_time(min(item.stamp_ns, until_ns))
            for subscription in [s for s in self._subscriptions if s.topic == item.topic]:
                subscription.deliver(item.data)
                self._settle()
        self._pass_time(until_ns)
        outputs, self._outputs = self._outputs, []
        return outputs

    def _pass_time(self, until_ns: int) -> None:
        while True:
            due = [timer for timer in self._timers if timer.due_ns <= until_ns]
            if not due:
                break
            timer = min(due, key=lambda t: t.due_ns)  # the first of equals: order of creation
            self.now_ns = max(self.now_ns, timer.due_ns)
            timer.due_ns += timer.period_ns
            timer.callback()
            self._settle()
        self.now_ns = max(self.now_ns, until_ns)

    def _settle(self) -> None:
        while any(worker.step() for worker in self._workers):
            self._go_on()
        self._go_on()

    def _go_on(self) -> None:
        self._goals = [goal for goal in self._goals if self._waits(goal)]

    @staticmethod
    def _waits(goal: Coroutine[Any, Any, None]) -> bool:
        """Let a goal go on; whether it has to wait again."""
        try:
            goal.send(None)
        except StopIteration:
            return False
        return True

    def _keep(self, topic: str, data: bytes) -> None:
        self._outputs.append(Recorded(topic, self.now_ns, data))


PICTURES = frozenset({"image_compressed", "annotated_compressed", "score_map_compressed"})
"""Rows that carry a picture of every frame."""


def from_messages(messages: Sequence[Any]) -> Iterator[Recorded]:
    """ReplayMessages as data."""
    for message in messages:
        stamp_ns = message.stamp.sec * 1_000_000_000 + message.stamp.nanosec
        yield Recorded(message.topic, stamp_ns, bytes(message.data))


def fill(message: Any, item: Recorded) -> Any:
    """Data as a ReplayMessage; `array` because any other sequence is checked byte by byte."""
    message.topic = item.topic
    message.stamp.sec, message.stamp.nanosec = divmod(item.stamp_ns, 1_000_000_000)
    message.data = array.array("B", item.data)
    return message

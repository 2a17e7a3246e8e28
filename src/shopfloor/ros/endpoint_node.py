"""Endpoints by the interface table's keys, timers and workers: what a feature's node works with.

Whatever is made here is destroyed at cleanup, what a callback raises is counted, and under a replay
in lock-step each is replaced by a stand-in that the player drives.
"""

from __future__ import annotations

import importlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from builtin_interfaces.msg import Time as TimeMessage
from rclpy.action import ActionServer, CancelResponse
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.guard_condition import GuardCondition
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.service_introspection import ServiceIntrospectionState
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from shopfloor.ros.diagnostics import Diagnostics
from shopfloor.ros.interfaces import Interface, Qos, interface
from shopfloor.ros.lock_step import LockStep, StepClient
from shopfloor.ros.polling import OutOfWaitSet, polled_qos, take_waiting
from shopfloor.ros.progress import NodeProgress
from shopfloor.ros.qos import publisher_qos, subscription_qos
from shopfloor.ros.worker import JOB_LIMIT_S, Done, Worker

T = TypeVar("T")
R = TypeVar("R")

_LOG_AGAIN_NS = 5_000_000_000


def message_type(interface_type: str) -> Any:
    """The class of `package/msg/Name`, `package/srv/Name` or `package/action/Name`.

    Of `package/srv/Name_Event` and `package/action/Name_FeedbackMessage` too.
    """
    package, kind, name = interface_type.split("/")
    module = importlib.import_module(f"{package}.{kind}")
    if kind == "srv" and name.endswith("_Event"):
        return getattr(module, name.removesuffix("_Event")).Event
    if kind == "action" and name.endswith("_FeedbackMessage"):
        return getattr(module, name.removesuffix("_FeedbackMessage")).Impl.FeedbackMessage
    return getattr(module, name)


class EndpointNode(LifecycleNode):
    """The endpoints, timers and workers of a node, and the faults that it counts."""

    def __init__(
        self,
        name: str,
        steady_ns: Callable[[], int],
        lock_step: LockStep | None,
        **node_arguments: Any,
    ) -> None:
        super().__init__(name, **node_arguments)
        self._lock_step = lock_step
        self._sim_time = bool(self.get_parameter("use_sim_time").value)
        self.steady_ns = self.now_ns if lock_step or self._sim_time else steady_ns
        self.diagnostics = Diagnostics(self.get_fully_qualified_name())
        self._logged_ns: dict[str, int] = {}
        self._endpoints: list[tuple[Callable[[Any], Any], Any]] = []
        self._service_events = ServiceIntrospectionState.OFF
        self._progress = NodeProgress(steady_ns)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._put_off: deque[Callable[[], None]] = deque()
        self._soon = self.create_guard_condition(self._do_put_off)

    @property
    def is_stepped(self) -> bool:
        """Whether a replay drives the node: nothing may depend on how fast the computer is."""
        return self._lock_step is not None

    def now_ns(self) -> int:
        """ROS time in nanoseconds: for data."""
        if self._lock_step is not None:
            return self._lock_step.now_ns
        return int(self.get_clock().now().nanoseconds)

    def stamp(self, ros_time_ns: int) -> Any:
        """A builtin_interfaces/Time of nanoseconds of ROS time."""
        sec, nanosec = divmod(ros_time_ns, 1_000_000_000)
        return TimeMessage(sec=sec, nanosec=nanosec)

    def publisher(self, key: str, **names: str) -> Publisher:
        """A publisher of the interface table's row `key`, destroyed at cleanup."""
        if self._lock_step is not None:
            row = interface(key)
            topic = self.resolve_topic_name(row.resolve(**names))
            return self._stand_in(self._lock_step.publisher(row, topic))
        publisher = self._create_publisher(interface(key), **names)
        self._endpoints.append((self.destroy_publisher, publisher))
        return publisher

    def subscription(self, key: str, callback: Callable[[Any], None], **names: str) -> Subscription:
        """A subscription by key; an exception in `callback` is counted and the node goes on."""
        row = interface(key)
        return self._subscribe(row, row.resolve(**names), callback, raw=False)

    def poll(self, period_s: float, **callbacks: Callable[[Any, int], None]) -> None:
        """Subscriptions by key, taken in this order every `period_s`: cheap for many messages.

        callback(message, arrival_ns): arrival in the middleware, system time, 0: it does not tell.
        """
        if self._lock_step is not None:
            self._poll_in_steps(period_s, callbacks)
            return
        sources = []
        for key, callback in callbacks.items():
            row, guarded = interface(key), self._guarded(callback, key)
            kind, qos = message_type(row.type), polled_qos(row.qos)
            source = self.create_subscription(
                kind, row.resolve(), guarded, qos, callback_group=OutOfWaitSet()
            )
            self._endpoints.append((self.destroy_subscription, source))
            sources.append((source, guarded))

        def poll() -> None:
            for source, guarded in sources:
                take_waiting(source, guarded)

        self.steady_timer(period_s, poll)

    def _poll_in_steps(
        self, period_s: float, callbacks: Mapping[str, Callable[[Any, int], None]]
    ) -> None:
        """The same in a replay: what comes waits for the next look, which takes it by key."""
        waiting = []
        for key, callback in callbacks.items():
            queue: deque[tuple[Any, int]] = deque()
            self.subscription(key, partial(self._wait, queue))
            waiting.append((queue, self._guarded(callback, key)))

        def poll() -> None:
            for queue, callback in waiting:
                while queue:
                    callback(*queue.popleft())

        self.steady_timer(period_s, poll)

    def _wait(self, queue: deque[tuple[Any, int]], message: Any) -> None:
        queue.append((message, self.now_ns()))

    def raw_subscription(
        self, row: Interface, name: str, callback: Callable[[bytes], None]
    ) -> Subscription:
        """A subscription to `name` of the row's type that gives the serialised CDR bytes."""
        return self._subscribe(row, name, callback, raw=True)

    def service(self, key: str, callback: Callable[[Any, Any], Any], **names: str) -> Service:
        """A service by key; `callback(request, response)` returns the response.

        Where it raises, the caller gets the response as it was filled so far (all UNKNOWN at
        first), and the failure is counted.
        """
        row = interface(key)

        def answer(request: Any, response: Any) -> Any:
            self._guarded(lambda: callback(request, response), key)()
            return response

        service = self.create_service(message_type(row.type), row.resolve(**names), answer)
        self._endpoints.append((self.destroy_service, service))
        if self._service_events != ServiceIntrospectionState.OFF:
            self._introspect(service)
        return service

    def set_service_events(self, what: str) -> None:
        """What services tell of each call: `none`, `metadata`, `contents`. Nothing in a replay."""
        if self._lock_step is not None:
            return
        states = ServiceIntrospectionState
        known = {"none": states.OFF, "metadata": states.METADATA, "contents": states.CONTENTS}
        self._service_events = known[what]
        for _, endpoint in self._endpoints:
            if isinstance(endpoint, Service):
                self._introspect(endpoint)

    def action(
        self,
        key: str,
        execute: Callable[[Any], Coroutine[Any, Any, Any]],
        *,
        cancel: Callable[[Any], None] = lambda goal: None,
        **names: str,
    ) -> ActionServer:
        """An action server by key; goals run as coroutines on the executor thread.

        execute(goal) awaits what takes long and returns the result; it ends the goal itself.
        cancel(goal): somebody asked for it; every cancel is accepted.
        """
        row = interface(key)

        def cancelled(goal: Any) -> CancelResponse:
            self._guarded(cancel, key)(goal)
            return CancelResponse.ACCEPT

        server = ActionServer(
            self,
            message_type(row.type),
            row.resolve(**names),
            execute,
            cancel_callback=cancelled,
        )
        self._endpoints.append((lambda old: old.destroy(), server))
        return server

    def carry_out(self, goal: Coroutine[Any, Any, Any], what: str) -> None:
        """Begin a goal of the bag in a replay; what it raises is counted."""
        assert self._lock_step is not None

        async def guarded() -> None:
            try:
                await goal
            except Exception as error:
                self.fault(f"goal {what}", f"{type(error).__name__}: {error}")

        self._lock_step.carry_out(guarded())

    def client(self, key: str, **names: str) -> Client:
        """A service client by key; only ever `call_async`, never `call`.

        In a replay nobody serves it: what nodes asked each other on the day is in the bag.
        """
        row = interface(key)
        if self._lock_step is not None:
            return self._stand_in(StepClient(self.resolve_service_name(row.resolve(**names))))
        client = self.create_client(message_type(row.type), row.resolve(**names))
        self._endpoints.append((self.destroy_client, client))
        return client

    def release(self, endpoint: Any) -> None:
        """Destroy one endpoint before cleanup does."""
        for row in self._endpoints:
            if row[1] is endpoint:
                row[0](endpoint)
                self._endpoints.remove(row)
                return

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """A timer on the clock of `steady_ns`, for watchdogs; destroyed at cleanup."""
        guarded = self._guarded(callback, callback.__name__)
        if self._lock_step is not None:
            return self._stand_in(self._lock_step.timer(period_s, guarded))
        clock = self.get_clock() if self._sim_time else self._steady
        timer = self.create_timer(period_s, guarded, clock=clock)
        self._endpoints.append((self.destroy_timer, timer))
        return timer

    def guard(self, callback: Callable[[], None], what: str) -> GuardCondition:
        """A guard condition: `trigger()` from any thread runs `callback` on the executor thread."""
        condition = self.create_guard_condition(self._guarded(callback, what))
        self._endpoints.append((self.destroy_guard_condition, condition))
        return condition

    def worker(
        self,
        name: str,
        work: Callable[[T], R | None],
        deliver: Callable[[Done[T, R]], None],
        *,
        limit_s: float = JOB_LIMIT_S,
        period_s: float | None = None,
        quiet: bool = False,
    ) -> Worker[T, R]:
        """A started worker thread, stopped at cleanup; `deliver` runs on the executor thread.

        A job that takes longer than `limit_s` counts as stuck, and its process is restarted.
        period_s: it works this often by itself; quiet: None is no news; see `Worker`.
        """

        def delivered(done: Done[T, R]) -> None:
            if done.error is not None:
                self._progress.broke(f"worker {name}", done.error)
            deliver(done)

        if self._lock_step is not None:
            inline = self._lock_step.worker(name, work, delivered, period_s, quiet)
            if period_s is not None:
                self.steady_timer(period_s, inline.tick)
            self._progress.workers.append(inline)
            return inline
        box: list[Worker[T, R]] = []
        condition = self.guard(lambda: box[0].drain(), name)
        worker = Worker(
            name, work, delivered, condition.trigger,
            limit_s=limit_s, period_s=period_s, quiet=quiet,
        )  # fmt: skip
        box.append(worker)
        worker.start()
        self._progress.workers.append(worker)
        return worker

    def fault(self, event: str, cause: str) -> None:
        """Something went wrong and the node goes on: counted each time, logged now and then."""
        count = self.diagnostics.count(event, cause)
        now = time.monotonic_ns()
        if now - self._logged_ns.get(event, -_LOG_AGAIN_NS) >= _LOG_AGAIN_NS:
            self._logged_ns[event] = now
            self.get_logger().warning(f"{event} ({count} so far): {cause}")

    def tell(self, text: str) -> None:
        """Log at INFO once the present callback has ended.

        rclpy looks up who logs, which takes more of a service than the rest of it: an answer goes
        out first.
        """

        def write() -> None:
            self.get_logger().info(text)

        self.later(write)

    def later(self, work: Callable[[], None]) -> None:
        """Run `work` on the executor thread once the present callback has ended, in order."""
        self._put_off.append(work)
        if self._lock_step is not None:
            self._do_put_off()
        else:
            self._soon.trigger()

    # Small things -----------------------------------------------------------------------------

    def _do_put_off(self) -> None:
        while self._put_off:
            self._guarded(self._put_off.popleft(), "put off")()

    def _destroy_endpoints(self) -> None:
        for destroy, endpoint in reversed(self._endpoints):
            destroy(endpoint)
        self._endpoints.clear()

    def _introspect(self, service: Service) -> None:
        qos = publisher_qos(Qos.RESULTS)
        service.configure_introspection(self.get_clock(), qos, self._service_events)

    def _stand_in(self, endpoint: Any) -> Any:
        assert self._lock_step is not None
        self._endpoints.append((self._lock_step.remove, endpoint))
        return endpoint

    def _subscribe(
        self, row: Interface, name: str, callback: Callable[[Any], None], *, raw: bool
    ) -> Any:
        guarded = self._guarded(callback, row.key)
        if self._lock_step is not None:
            topic, type_ = self.resolve_topic_name(name), message_type(row.type)
            return self._stand_in(self._lock_step.subscribe(topic, type_, guarded, raw))
        subscription = self.create_subscription(
            message_type(row.type), name, guarded, subscription_qos(row.qos), raw=raw
        )
        self._endpoints.append((self.destroy_subscription, subscription))
        return subscription

    def _create_publisher(self, row: Interface, **names: str) -> Publisher:
        return self.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )

    def _steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        return self.create_timer(
            period_s, self._guarded(callback, callback.__name__), clock=self._steady
        )

    def _guarded(self, callback: Callable[..., None], what: str) -> Callable[..., None]:
        """`callback`, so that what it raises is counted and logged, and never ends the process."""

        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self._progress.broke(f"callback {what}", error)
                self.fault(f"callback {what}", f"{type(error).__name__}: {error}")
                self.get_logger().debug(traceback.format_exc())

        return guarded

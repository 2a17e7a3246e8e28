"""The base of every node: lifecycle with causes, parameters as data, endpoints by key, heartbeat.

A feature's node derives from `ShopfloorNode`, names its parameter dataclass and overrides four
hooks. A hook that cannot do its work raises; the base turns that into a failed transition with its
cause in the log and in /diagnostics, and the node stays alive.

    class GreeterNode(ShopfloorNode[GreeterParameters]):
        PARAMETERS = GreeterParameters

        def setup(self) -> None:          # configure: load and check everything
            self.results = self.publisher("part_verdict")
        def start(self) -> None: ...      # activate: in milliseconds
        def stop(self) -> None: ...       # deactivate: free devices
        def teardown(self) -> None: ...   # cleanup: free memory
"""

from __future__ import annotations

import importlib
import os
import socket
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Generic, TypeVar

from rclpy.action import ActionServer, CancelResponse
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.guard_condition import GuardCondition
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.time import Time
from rclpy.timer import Timer
from shopfloor_msgs.msg import Heartbeat, ReplayMessage

from shopfloor.ros.diagnostics import Diagnostics, Level, Status
from shopfloor.ros.interfaces import Interface, interface
from shopfloor.ros.lock_step import LockStep, fill, from_messages
from shopfloor.ros.node_parameters import NodeParameters
from shopfloor.ros.notify import patience
from shopfloor.ros.parameters import BaseParameters
from shopfloor.ros.polling import OutOfWaitSet, at_once, polled_qos, take_waiting
from shopfloor.ros.progress import NodeProgress
from shopfloor.ros.qos import HEARTBEAT_PERIOD_S, publisher_qos, subscription_qos
from shopfloor.ros.worker import JOB_LIMIT_S, Done, Worker

P = TypeVar("P", bound=BaseParameters)
T = TypeVar("T")
R = TypeVar("R")

DIAGNOSTICS_PERIOD_S = 1.0
LEVEL_CHECK_PERIOD_S = 0.2
AUTOSTART_RETRY_S = (0.5, 1.0, 2.0, 5.0)
_LOG_AGAIN_NS = 5_000_000_000

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE


class NodeError(RuntimeError):
    """A transition cannot be made; the message is the cause that a person reads."""


def message_type(interface_type: str) -> Any:
    """The class of `package/msg/Name`, `package/srv/Name` or `package/action/Name`."""
    package, kind, name = interface_type.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


class ShopfloorNode(LifecycleNode, Generic[P]):
    """A managed node. See the module's text for the hooks; `params` holds the parameters."""

    PARAMETERS: ClassVar[type[BaseParameters]] = BaseParameters

    def __init__(
        self,
        name: str,
        *,
        steady_ns: Callable[[], int] = time.monotonic_ns,
        lock_step: LockStep | None = None,
        **node_arguments: Any,
    ) -> None:
        """steady_ns: the clock of watchdogs. lock_step: a replay drives this node.

        With use_sim_time, ROS time takes the place of the steady clock: a replay that runs fast or
        stands still must not look like a silence.
        """
        super().__init__(name, **node_arguments)
        self._lock_step = lock_step
        self._sim_time = bool(self.get_parameter("use_sim_time").value)
        self.steady_ns = self.now_ns if lock_step or self._sim_time else steady_ns
        self.diagnostics = Diagnostics(self.get_fully_qualified_name())
        self._is_configured = False
        self._is_active = False
        self._cause = ""
        self._logged_ns: dict[str, int] = {}
        self._endpoints: list[tuple[Callable[[Any], Any], Any]] = []
        self._progress = NodeProgress(steady_ns)
        self._beats = 0
        self._diagnosed_ns = 0
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._declared: NodeParameters[P] = NodeParameters(
            self,
            self.PARAMETERS,  # type: ignore[arg-type]
            may_change=lambda: not self._is_configured,
            on_change=self.parameters_changed,
        )
        self.host = self.params.host_name or socket.gethostname()
        self.diagnostics.add("state", self._state_status)
        self.diagnostics.add("progress", self._progress.status)
        self._heartbeat_publisher = self._create_publisher(interface("heartbeat"))
        self._diagnostics_publisher = self._create_publisher(interface("diagnostics"))
        self._steady_timer(HEARTBEAT_PERIOD_S, self._beat)
        self._steady_timer(LEVEL_CHECK_PERIOD_S, self._diagnose)
        self._autostart_tries = 0
        self._autostart_due_ns = time.monotonic_ns()
        self._autostart_timer: Timer | None = None
        if self.params.autostart:
            self._autostart_timer = self._steady_timer(0.05, self._autostart)
        if lock_step is not None:
            row = interface("replay_step")
            self.create_service(
                message_type(row.type), row.resolve(node=self.get_name()), self._step
            )

    # Hooks -----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Configure: load and check everything, create endpoints and workers; raise on failure."""

    def start(self) -> None:
        """Activate: open devices, start work; takes milliseconds."""

    def stop(self) -> None:
        """Deactivate: stop work and free devices; must work after a half-done `start`."""

    def teardown(self) -> None:
        """Clean up: free memory; the workers have ended, the endpoints go right after."""

    def parameters_changed(self, old: P, new: P) -> None:
        """A parameter was set; `self.params` already is `new`."""

    # What a feature uses ------------------------------------------------------------------------

    @property
    def params(self) -> P:
        """The present parameters."""
        return self._declared.value

    @property
    def is_active(self) -> bool:
        """Whether the node is in its active state."""
        return self._is_active

    def now_ns(self) -> int:
        """ROS time in nanoseconds: for data."""
        if self._lock_step is not None:
            return self._lock_step.now_ns
        return int(self.get_clock().now().nanoseconds)

    def stamp(self, ros_time_ns: int) -> Any:
        """A builtin_interfaces/Time of nanoseconds of ROS time."""
        return Time(nanoseconds=ros_time_ns).to_msg()

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
            for key, callback in callbacks.items():
                self.subscription(key, at_once(callback))
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
        return service

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

    def client(self, key: str, **names: str) -> Client:
        """A service client by key; only ever `call_async`, never `call`."""
        row = interface(key)
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
    ) -> Worker[T, R]:
        """A started worker thread, stopped at cleanup; `deliver` runs on the executor thread.

        A job that takes longer than `limit_s` counts as stuck, and its process is restarted.
        period_s: it works this often by itself, see `Worker`.
        """

        def delivered(done: Done[T, R]) -> None:
            if done.error is not None:
                self._progress.broke(f"worker {name}", done.error)
            deliver(done)

        if self._lock_step is not None:
            inline = self._lock_step.worker(name, work, delivered)
            self._progress.workers.append(inline)
            return inline
        box: list[Worker[T, R]] = []
        condition = self.guard(lambda: box[0].drain(), name)
        worker = Worker(
            name, work, delivered, condition.trigger, limit_s=limit_s, period_s=period_s
        )
        box.append(worker)
        worker.start()
        self._progress.workers.append(worker)
        return worker

    def stuck(self) -> str:
        """The worker that does not get on with its job, in words; empty where all do."""
        return self._progress.stuck()

    def fault(self, event: str, cause: str) -> None:
        """Something went wrong and the node goes on: counted each time, logged now and then."""
        count = self.diagnostics.count(event, cause)
        now = time.monotonic_ns()
        if now - self._logged_ns.get(event, -_LOG_AGAIN_NS) >= _LOG_AGAIN_NS:
            self._logged_ns[event] = now
            self.get_logger().warning(f"{event} ({count} so far): {cause}")

    # Lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Refuse wrong parameters, then `setup`."""
        problems = self._declared.problems
        if problems:
            return self._failed("configure", "wrong parameters: " + "; ".join(problems))
        if not self._attempt("configure", self.setup):
            self._release()
            return _FAILURE
        self._is_configured = True
        return _SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`start`."""
        if not self._attempt("activate", self.start):
            self._attempt("stop after a failed activate", self.stop, keep_cause=True)
            return _FAILURE
        self._is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`stop`; the node becomes inactive even where that reports an error."""
        self._is_active = False
        self._attempt("deactivate", self.stop)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """`teardown`, then everything that `setup` made is gone."""
        self._release()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release from whatever state."""
        self.close()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Come back to unconfigured rather than be finalised."""
        self._is_active = False
        self._release()
        return _SUCCESS

    def close(self) -> None:
        """Free everything; safe to call twice, and from any state."""
        if self._is_active:
            self._is_active = False
            self._attempt("stop", self.stop)
        if self._is_configured:
            self._release()

    def _attempt(self, what: str, hook: Callable[[], None], keep_cause: bool = False) -> bool:
        try:
            with patience():  # a model may be loaded, an engine built, a device waited for
                hook()
        except (NodeError, ValueError, OSError) as error:
            self._failed(what, str(error))
            return False
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self._failed(what, f"{type(error).__name__}: {error}")
            return False
        if not keep_cause:
            self._cause = ""
        return True

    def _failed(self, what: str, cause: str) -> TransitionCallbackReturn:
        text = f"{what} failed: {cause}"
        # A retry that fails for the same reason is no news.
        if text != self._cause:
            self.get_logger().error(text)
        self._cause = text
        return _FAILURE

    def _release(self) -> None:
        # Workers first: what they use is freed in `teardown`.
        with patience():
            for worker in self._progress.workers:
                if not worker.stop():
                    self.get_logger().error(f"worker '{worker.name}' does not end; left behind")
        self._progress.workers.clear()
        if self._lock_step is not None:
            self._lock_step.forget_workers()
        self._attempt("cleanup", self.teardown, keep_cause=bool(self._cause))
        for destroy, endpoint in reversed(self._endpoints):
            destroy(endpoint)
        self._endpoints.clear()
        self._is_configured = False

    def _autostart(self) -> None:
        if time.monotonic_ns() < self._autostart_due_ns:
            return
        if not self._is_configured:
            self.trigger_configure()
        if self._is_configured and not self._is_active:
            self.trigger_activate()
        if self._is_active and self._autostart_timer is not None:
            self.destroy_timer(self._autostart_timer)
            self._autostart_timer = None
            return
        wait_s = AUTOSTART_RETRY_S[min(self._autostart_tries, len(AUTOSTART_RETRY_S) - 1)]
        self._autostart_tries += 1
        self._autostart_due_ns = time.monotonic_ns() + int(wait_s * 1e9)

    # Sign of life -----------------------------------------------------------------------------

    def _beat(self) -> None:
        self._beats += 1
        message = Heartbeat(
            stamp=self.stamp(time.time_ns()),
            node=self.get_fully_qualified_name(),
            host=self.host,
            pid=os.getpid(),
            lifecycle_state=self._state_machine.current_state[0],
            count=self._beats,
            workers=self._progress.messages(),
        )
        self._heartbeat_publisher.publish(message)

    def _diagnose(self) -> None:
        statuses, changed = self.diagnostics.evaluate()
        now = time.monotonic_ns()
        if not changed and now - self._diagnosed_ns < DIAGNOSTICS_PERIOD_S * 1e9:
            return
        self._diagnosed_ns = now
        message = self.diagnostics.message(statuses)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def _state_status(self) -> Status:
        values: dict[str, object] = {"pid": os.getpid(), "host": self.host}
        label = self._state_machine.current_state[1]
        if self._cause:
            return Status(Level.ERROR, f"{label}: {self._cause}", values)
        if self._declared.problems:
            return Status(Level.ERROR, f"{label}: " + "; ".join(self._declared.problems), values)
        return Status(Level.OK if self._is_active else Level.WARN, label, values)

    # Replay ------------------------------------------------------------------------------------

    def _step(self, request: Any, response: Any) -> Any:
        """Serve ReplayStep; nothing else happens in this node meanwhile."""
        lock_step = self._lock_step
        assert lock_step is not None
        response.active = self._is_active
        if self._is_active:
            until_ns = int(Time.from_msg(request.until).nanoseconds)
            outputs = lock_step.run(list(from_messages(request.inputs)), until_ns)
            response.outputs = [fill(ReplayMessage(), item) for item in outputs]
            response.next_timer = self.stamp(lock_step.next_timer_ns)
        response.listens, response.publishes = lock_step.listens, lock_step.publishes
        return response

    def _stand_in(self, endpoint: Any) -> Any:
        assert self._lock_step is not None
        self._endpoints.append((self._lock_step.remove, endpoint))
        return endpoint

    # Small things -----------------------------------------------------------------------------

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

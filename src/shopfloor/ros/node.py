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

import os
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.time import Time
from rclpy.timer import Timer
from shopfloor_msgs.msg import Heartbeat, ReplayMessage

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.endpoint_node import EndpointNode, message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.lock_step import LockStep, fill, from_messages
from shopfloor.ros.node_parameters import NodeParameters
from shopfloor.ros.notify import patience
from shopfloor.ros.parameters import BaseParameters
from shopfloor.ros.qos import HEARTBEAT_PERIOD_S
from shopfloor.ros.worker import Worker

P = TypeVar("P", bound=BaseParameters)

DIAGNOSTICS_PERIOD_S = 1.0
LEVEL_CHECK_PERIOD_S = 0.2
AUTOSTART_RETRY_S = (0.5, 1.0, 2.0, 5.0)

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE


class NodeError(RuntimeError):
    """A transition cannot be made; the message is the cause that a person reads."""


class ShopfloorNode(EndpointNode, Generic[P]):
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
        super().__init__(name, steady_ns, lock_step, **node_arguments)
        self._is_configured = False
        self._is_active = False
        self._cause = ""
        self._left_behind: list[Worker[Any, Any]] = []
        self._beats = 0
        self._diagnosed_ns = 0
        self._declared: NodeParameters[P] = NodeParameters(
            self,
            self.PARAMETERS,  # type: ignore[arg-type]
            may_change=lambda: not self._is_configured,
            on_change=self._parameters_set,
        )
        self.set_service_events(self.params.service_events)
        self.host = self.params.host_name or socket.gethostname()
        self._answer_illegal_transitions()
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

    def stuck(self) -> str:
        """The worker that does not get on with its job, in words; empty where all do."""
        return self._progress.stuck()

    @property
    def left_behind(self) -> list[str]:
        """Workers that did not end when they were stopped, and have not ended since."""
        return [worker.name for worker in self._left_behind if worker.is_alive]

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
        self._do_put_off()
        if self._is_configured:
            self._release()

    def _parameters_set(self, old: P, new: P) -> None:
        if new.service_events != old.service_events:
            self.set_service_events(new.service_events)
        self.parameters_changed(old, new)

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
                    self._left_behind.append(worker)
        self._progress.workers.clear()
        if self._lock_step is not None:
            self._lock_step.forget_workers()
        self._attempt("cleanup", self.teardown, keep_cause=bool(self._cause))
        self._destroy_endpoints()
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

    def _answer_illegal_transitions(self) -> None:
        """Answer a transition that the state does not allow; rclpy raises, and the caller waits."""
        (service,) = (each for each in self.services if each.srv_type is ChangeState)
        change = service.callback

        def answer(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            asked = request.transition
            allowed = {row[0]: row[1] for row in self._state_machine.available_transitions}
            if asked.label or asked.id in allowed:
                return change(request, response)
            state = self._state_machine.current_state[1]
            self.get_logger().warning(
                f"transition {asked.id} refused in state '{state}'; "
                f"allowed: {', '.join(f'{number} {name}' for number, name in allowed.items())}"
            )
            response.success = False
            return response

        service.callback = answer

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
            if until_ns > lock_step.now_ns:  # else it was only asked whether it is there
                outputs = lock_step.run(list(from_messages(request.inputs)), until_ns)
                response.outputs = [fill(ReplayMessage(), item) for item in outputs]
            response.next_timer = self.stamp(lock_step.next_timer_ns)
        response.listens, response.publishes = lock_step.listens, lock_step.publishes
        return response

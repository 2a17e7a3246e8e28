"""What a node is asked to do, told to the recorder; in a replay the bag asks again.

On the line each request goes out on the topic `commands` as the bytes that came over DDS. In a
replay the node listens to that topic instead, and its own handlers get the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from action_msgs.msg import GoalInfo
from action_msgs.srv import CancelGoal
from rclpy.serialization import deserialize_message, serialize_message
from shopfloor_msgs.msg import ReplayMessage

from shopfloor.ros.endpoint_node import EndpointNode, message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.lock_step import StepGoal, fill
from shopfloor.ros.recorded import Recorded

Execute = Callable[[Any], Coroutine[Any, Any, Any]]


class CommandRecord:
    """The acting services and the goals of one node."""

    def __init__(self, node: EndpointNode) -> None:
        self._node = node
        self._handlers: dict[str, tuple[Any, Callable[[Any], None]]] = {}
        if node.is_stepped:
            node.subscription("commands", self._on_recorded)
        else:
            self._publisher = node.publisher("commands")

    def service(
        self, key: str, answer: Callable[[Any, Any], Any], **names: str
    ) -> Callable[[Any], None]:
        """Repeat requests of the service `key` by `answer`; what tells one to the recorder."""
        row = interface(key)
        name, kind = self._node.resolve_service_name(row.resolve(**names)), message_type(row.type)
        self._handlers[name] = (kind.Request, lambda asked: answer(asked, kind.Response()))
        return lambda asked: self._tell(name, asked)

    def action(
        self, key: str, execute: Execute, cancel: Callable[[Any], None], **names: str
    ) -> tuple[Execute, Callable[[Any], None]]:
        """Repeat goals and cancels of the action `key`; the same two, which tell of each first.

        They are kept as what they are to DDS: requests of the action's own services.
        """
        row = interface(key)
        kind = message_type(row.type).Impl.SendGoalService.Request
        name = self._node.resolve_service_name(row.resolve(**names)) + "/_action"
        goals: dict[bytes, StepGoal] = {}

        def begin(asked: Any) -> None:
            goal = StepGoal(asked.goal_id, asked.goal)
            goals[bytes(asked.goal_id.uuid)] = goal
            self._node.carry_out(execute(goal), key)

        def stop(asked: Any) -> None:
            goal = goals.get(bytes(asked.goal_info.goal_id.uuid))
            if goal is not None and goal.is_active:
                goal.is_cancel_requested = True
                cancel(goal)

        async def told(goal: Any) -> Any:
            self._tell(f"{name}/send_goal", kind(goal_id=goal.goal_id, goal=goal.request))
            return await execute(goal)

        def told_cancel(goal: Any) -> None:
            request = CancelGoal.Request(goal_info=GoalInfo(goal_id=goal.goal_id))
            self._tell(f"{name}/cancel_goal", request)
            cancel(goal)

        self._handlers[f"{name}/send_goal"] = (kind, begin)
        self._handlers[f"{name}/cancel_goal"] = (CancelGoal.Request, stop)
        return told, told_cancel

    def _tell(self, name: str, request: Any) -> None:
        if self._node.is_stepped:
            return
        now_ns = self._node.now_ns()

        def publish() -> None:
            data = bytes(serialize_message(request))
            self._publisher.publish(fill(ReplayMessage(), Recorded(name, now_ns, data)))

        self._node.later(publish)  # whoever asked gets the answer first

    def _on_recorded(self, message: ReplayMessage) -> None:
        if message.topic in self._handlers:  # else another node's
            kind, act = self._handlers[message.topic]
            act(deserialize_message(bytes(message.data), kind))

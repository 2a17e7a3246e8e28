"""A scheduler with a small factory over DDS, for the tests of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import ACTIVE, Graph
from rclpy.action import ActionClient
from rclpy.publisher import Publisher
from shopfloor_msgs.action import PlanSchedule
from shopfloor_msgs.msg import Command

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import publisher_qos
from shopfloor.sim.orders import factory

NODE = "/scheduler"


class Shop:
    """A scheduler with a small factory, and what it says."""

    def __init__(self, graph: Graph, folder: Path, **parameters: object) -> None:
        self.graph = graph
        self.plans = graph.collect("plan")
        self.events = graph.collect("plan_events")
        self.diagnostics = graph.collect("diagnostics")
        self._number = 0
        path = folder / "factory.json"
        path.write_text(json.dumps(factory(1, jobs=12)))
        self._parameters = {
            "problem_file": str(path),
            "journal": str(folder / "journal.sqlite"),
            "first_plan_s": 0.5,
            "repair_s": 0.3,
            "freeze_horizon_s": 0.0,
            **parameters,
        }
        self.start()
        self.plan_client = self._action("plan_schedule")
        self.execute_client = self._action("execute_job")

    def start(self) -> None:
        self.child = self.graph.start("scheduler:scheduler", parameters=self._parameters)
        self.graph.until_state(NODE, ACTIVE)
        self.graph.until(lambda: self.plans, "a plan in force")

    def _action(self, key: str) -> ActionClient:
        row = interface(key)
        return ActionClient(self.graph.node, message_type(row.type), row.name)

    def command(self, **fields: Any) -> Command:
        self._number += 1
        return Command(**{"command_id": str(self._number), "caller": "test", **fields})

    def call(self, key: str, request: Any) -> Any:
        row = interface(key)
        return self.graph.call(message_type(row.type), row.name, request)

    def send(self, client: ActionClient, goal: Any, feedback: list[Any] | None = None) -> Any:
        """The accepted goal."""
        self.graph.until(client.server_is_ready, "the action server")
        heard = None if feedback is None else lambda m: feedback.append(m.feedback)
        future = client.send_goal_async(goal, feedback_callback=heard)
        self.graph.until(future.done, "the goal's acceptance")
        return future.result()

    def result(self, goal: Any) -> Any:
        future = goal.get_result_async()
        self.graph.until(future.done, "the goal's result")
        return future.result().result

    def goal(self, **fields: Any) -> Any:
        values = {"mode": 1, "time_budget_s": 0.5, "commit": True, "command": self.command()}
        return PlanSchedule.Goal(**{**values, **fields})

    def publisher(self, key: str, **names: str) -> Publisher:
        """Of what the scheduler listens to, once it does."""
        row = interface(key)
        made = self.graph.node.create_publisher(
            message_type(row.type), row.resolve(**names), publisher_qos(row.qos)
        )
        self.graph.until(made.get_subscription_count, f"the scheduler to listen to {row.name}")
        return made

    def heard(self, publisher: Publisher, message: Any, kind: int) -> Any:
        """The event that a message causes; it is repeated until it is heard, as nodes do."""

        def event() -> Any:
            publisher.publish(message)
            return next((e for e in reversed(self.events) if e.kind == kind), None)

        return self.graph.until(event, f"an event of kind {kind}")

    def version(self) -> int:
        return int(self.plans[-1].version)

    def has_event(self, kind: int) -> bool:
        return any(e.kind == kind for e in self.events)

"""scheduler over DDS: actions, commands that act once, the closed loop, and a crash."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from harness import ACTIVE, Graph, statuses
from rclpy.action import ActionClient
from shopfloor_msgs.action import ExecuteJob, PlanSchedule
from shopfloor_msgs.msg import (
    Command,
    CommandResult,
    InspectionResult,
    Job,
    Machine,
    PartVerdict,
    Plan,
    PlanEvent,
    StationEvidence,
)
from shopfloor_msgs.srv import (
    CommitPlan,
    DiffPlans,
    ExplainAssignment,
    HoldJob,
    PinOperation,
    RollbackPlan,
    SetMachineState,
)

from shopfloor.ros.interfaces import interface
from shopfloor.ros.node import message_type
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

    def version(self) -> int:
        return int(self.plans[-1].version)

    def has_event(self, kind: int) -> bool:
        return any(e.kind == kind for e in self.events)


def test_plans_commands_and_their_repeats(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path)
    plan = shop.plans[-1]
    assert plan.state == Plan.STATE_COMMITTED and plan.assignments
    assert plan.score.objective >= plan.baseline_score.objective

    feedback: list[Any] = []
    goal = shop.goal()
    first = shop.result(shop.send(shop.plan_client, goal, feedback))
    assert first.code in (PlanSchedule.Result.CODE_FOUND, PlanSchedule.Result.CODE_OPTIMAL)
    assert first.plan.version > plan.version and feedback
    again = shop.result(shop.send(shop.plan_client, goal))
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert again.plan.plan_sha256 == first.plan.plan_sha256
    wrong = shop.result(shop.send(shop.plan_client, shop.goal(time_budget_s=-1.0)))
    assert wrong.result.reason == CommandResult.REASON_INVALID_ARGUMENT

    what_if = shop.result(shop.send(shop.plan_client, shop.goal(mode=3)))
    assert what_if.plan.version == 0 and what_if.plan.assignments

    draft = shop.result(shop.send(shop.plan_client, shop.goal(commit=False))).plan
    lost = CommitPlan.Request(command=shop.command(), version=draft.version, expected_version=1)
    assert shop.call("commit_plan", lost).result.reason == CommandResult.REASON_VERSION_MISMATCH
    now = shop.version()
    won = CommitPlan.Request(command=shop.command(), version=draft.version, expected_version=now)
    assert shop.call("commit_plan", won).version_in_force == draft.version
    back = RollbackPlan.Request(
        command=shop.command(), to_version=now, expected_version=draft.version
    )
    assert shop.call("rollback_plan", back).version_in_force > draft.version
    differ = shop.call("diff_plans", DiffPlans.Request(first_version=now))
    assert differ.found

    version = shop.version()
    broken = first.plan.assignments[-1].machine_id
    request = SetMachineState.Request(
        command=shop.command(reason="spindle"), machine_id=broken, state=Machine.STATE_DOWN
    )
    answer = shop.call("set_machine_state", request)
    assert answer.result.outcome == CommandResult.OUTCOME_ACCEPTED
    assert answer.result.state == Machine.STATE_DOWN
    repeated = shop.call("set_machine_state", request)
    assert repeated.result.outcome == CommandResult.OUTCOME_DUPLICATE
    graph.until(lambda: shop.version() > version, "the repaired plan")
    stop_ends = shop.plans[-1].problem.now.sec + 3000
    moved = [a for a in shop.plans[-1].assignments if a.machine_id == broken]
    assert all(a.start.sec >= stop_ends for a in moved)
    unknown = SetMachineState.Request(command=shop.command(), machine_id="nowhere", state=1)
    result = shop.call("set_machine_state", unknown).result
    assert result.reason == CommandResult.REASON_UNKNOWN_TARGET

    job = shop.plans[-1].problem.jobs[-1].job_id
    held = shop.call("hold_job", HoldJob.Request(command=shop.command(), job_id=job, hold=True))
    assert held.result.state == Job.STATE_HELD
    graph.until(
        lambda: all(a.job_id != job for a in shop.plans[-1].assignments), "a plan without the job"
    )
    stale = shop.command(expected_state=Job.STATE_WAITING)
    refused = shop.call("hold_job", HoldJob.Request(command=stale, job_id=job, hold=False))
    assert refused.result.reason == CommandResult.REASON_STATE_MISMATCH

    target = shop.plans[-1].assignments[-1]
    found = shop.call(
        "explain_assignment",
        ExplainAssignment.Request(job_id=target.job_id, operation_id=target.operation_id),
    )
    assert found.found and found.text
    assert len(found.alternatives) == len(found.blocking) == len(found.objective_deltas)
    pin = PinOperation.Request(
        command=shop.command(), job_id=target.job_id, operation_id=target.operation_id, pin=True,
        machine_id="nowhere",
    )  # fmt: skip
    refused = shop.call("pin_operation", pin)
    assert refused.conflicts[0].kind == refused.conflicts[0].KIND_ELIGIBILITY

    graph.until(lambda: shop.has_event(PlanEvent.KIND_PLAN_ROLLED_BACK), "the roll-back's event")
    sequences = [e.sequence for e in shop.events]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert "callback" not in statuses(shop.diagnostics, NODE)["events"].message


def test_cancel_and_supersede_give_the_best_so_far(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path)
    goal = shop.send(shop.plan_client, shop.goal(time_budget_s=100.0))
    newer = shop.send(shop.plan_client, shop.goal(time_budget_s=100.0))
    superseded = shop.result(goal)
    assert superseded.code == PlanSchedule.Result.CODE_SUPERSEDED
    assert superseded.plan.assignments
    graph.until(newer.cancel_goal_async().done, "the cancel's answer")
    cancelled = shop.result(newer)
    assert cancelled.code == PlanSchedule.Result.CODE_CANCELLED
    assert cancelled.plan.assignments


def test_defect_stop_holds_the_feeder_until_it_is_acknowledged(
    graph: Graph, tmp_path: Path
) -> None:
    feeder = "A1"
    shop = Shop(graph, tmp_path, feeders=f"['station_1={feeder}']", fail_run=3)
    row = interface("part_verdict")
    publisher = graph.node.create_publisher(
        message_type(row.type), row.name, publisher_qos(row.qos)
    )
    graph.until(publisher.get_subscription_count, "the scheduler to listen")
    version = shop.version()
    for number in range(3):
        evidence = StationEvidence(station="station_1", verdict=InspectionResult.VERDICT_FAIL)
        publisher.publish(PartVerdict(part_id=f"p{number}", revision=1, evidence=[evidence]))
    graph.until(lambda: shop.has_event(PlanEvent.KIND_DEFECT_STOP), "the defect stop")
    graph.until(lambda: shop.version() > version, "the plan around it")
    graph.until(
        lambda: feeder in statuses(shop.diagnostics, NODE)["floor"].message,
        "the stop in /diagnostics",
    )
    version = shop.version()
    up = SetMachineState.Request(
        command=shop.command(person="Kim", expected_state=Machine.STATE_HELD),
        machine_id=feeder, state=Machine.STATE_UP,
    )  # fmt: skip
    assert shop.call("set_machine_state", up).result.outcome == CommandResult.OUTCOME_ACCEPTED
    graph.until(lambda: shop.version() > version, "the plan with it again")


def test_a_job_runs_once_and_a_killed_scheduler_says_what_was_in_flight(
    graph: Graph, tmp_path: Path
) -> None:
    shop = Shop(graph, tmp_path, machines="simulated", simulated_speed=10000.0)
    first = shop.plans[-1].assignments[0]
    goal = ExecuteJob.Goal(command=shop.command(), plan_version=shop.version(), assignment=first)
    done = shop.result(shop.send(shop.execute_client, goal))
    assert done.outcome == ExecuteJob.Result.OUTCOME_DONE, done.result.text
    again = shop.result(shop.send(shop.execute_client, goal))
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert again.outcome == ExecuteJob.Result.OUTCOME_DONE
    assert sum(e.kind == PlanEvent.KIND_DISPATCHED for e in shop.events) == 1

    shop.child.signal(signal.SIGKILL)
    shop.child.wait()
    shop._parameters["simulated_speed"] = 0.01  # what is begun now lasts
    shop.plans.clear()
    shop.start()
    graph.until(lambda: shop.plans, "the plan in force again")
    slow = next(a for a in shop.plans[-1].assignments if a.job_id != first.job_id
                and a.machine_id != first.machine_id)  # fmt: skip
    shop.send(
        shop.execute_client,
        ExecuteJob.Goal(command=shop.command(), plan_version=shop.version(), assignment=slow),
    )
    graph.until(
        lambda: sum(e.kind == PlanEvent.KIND_DISPATCHED for e in shop.events) >= 2, "the dispatch"
    )
    shop.child.signal(signal.SIGKILL)
    shop.child.wait()
    shop.start()
    graph.until(
        lambda: "in doubt" in statuses(shop.diagnostics, NODE)["floor"].message,
        "what was in flight, in /diagnostics",
    )

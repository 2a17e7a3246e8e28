"""scheduler over DDS: actions, commands that act once, the closed loop, and a crash."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

from harness import Graph, statuses
from scheduler_shop import NODE, Shop
from shopfloor_msgs.action import ExecuteJob, PlanSchedule
from shopfloor_msgs.msg import (
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


def test_plans_commands_and_their_repeats(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path)
    plan = shop.plans[-1]
    assert plan.state == Plan.STATE_COMMITTED and plan.assignments
    assert plan.score.objective >= plan.baseline_score.objective

    feedback: list[Any] = []
    goal = shop.goal()
    first = shop.result(shop.send(shop.plan_client, goal, feedback))
    assert first.code in (PlanSchedule.Result.CODE_FOUND, PlanSchedule.Result.CODE_OPTIMAL)
    assert first.plan.version > plan.version
    graph.until(lambda: feedback and feedback[-1].plan_version, "the feedback of the stored plan")
    assert feedback[-1].plan_version == first.plan.version
    assert all(f.objective <= f.objective_bound < 1.0 for f in feedback)
    assert first.plan.objective_bound == feedback[-1].objective_bound
    again = shop.result(shop.send(shop.plan_client, goal))
    assert again.result.outcome == CommandResult.OUTCOME_DUPLICATE
    assert again.plan.plan_sha256 == first.plan.plan_sha256
    wrong = shop.result(shop.send(shop.plan_client, shop.goal(time_budget_s=-1.0)))
    assert wrong.result.reason == CommandResult.REASON_INVALID_ARGUMENT

    what_if = shop.result(shop.send(shop.plan_client, shop.goal(mode=3)))
    assert what_if.plan.version == 0 and what_if.plan.assignments

    known = copy.deepcopy(first.plan.problem)
    goal = shop.goal(use_problem=True, problem=known, commit=False)
    assert shop.result(shop.send(shop.plan_client, goal)).result.text == ""
    known.jobs[0].due.sec += 60
    goal = shop.goal(use_problem=True, problem=known, commit=False)
    kept = shop.result(shop.send(shop.plan_client, goal))
    assert kept.result.outcome == CommandResult.OUTCOME_ACCEPTED
    assert kept.result.text.endswith(f"kept so: job {known.jobs[0].job_id} (due)")

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

    # What starts within the freeze horizon stays in a repair: take the job that begins last.
    begins: dict[str, int] = {}
    for a in shop.plans[-1].assignments:
        begins[a.job_id] = min(begins.get(a.job_id, a.start.sec), a.start.sec)
    job = max(begins, key=lambda job_id: begins[job_id])
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
    publisher = shop.publisher("part_verdict")
    version = shop.version()
    for number in range(3):
        evidence = StationEvidence(station="station_1", verdict=InspectionResult.VERDICT_FAIL)
        publisher.publish(PartVerdict(part_id=f"p{number}", revision=1, evidence=[evidence]))
    graph.until(lambda: shop.has_event(PlanEvent.KIND_DEFECT_STOP), "the defect stop")
    graph.until(lambda: shop.version() > version, "the plan around it")
    stop_ends = shop.plans[-1].problem.now.sec + 3000
    there = [a for a in shop.plans[-1].assignments if a.machine_id == feeder]
    assert all(a.start.sec >= stop_ends for a in there)
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

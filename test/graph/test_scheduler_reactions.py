"""scheduler over DDS: heat, a bearing and a person change the plan; calls that come many times."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from harness import LIMIT_S, Graph
from rclpy.task import Future
from scheduler_shop import NODE, Shop
from shopfloor_msgs.msg import (
    CommandResult,
    Machine,
    MachineHealth,
    Plan,
    PlanEvent,
    ThermalState,
)
from shopfloor_msgs.srv import CommitPlan, HoldJob

from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.solver import solve
from shopfloor.sim.orders import factory


def busiest() -> str:
    """The machine that does most in the first plan of the shop."""
    best = solve(from_data(factory(1, jobs=12)), 0.0, processes=0).best
    assert best is not None
    return Counter(a.machine_id for a in best.assignments).most_common(1)[0][0]


def durations(plan: Plan, machine_id: str) -> dict[tuple[str, str], float]:
    """Seconds of each operation that the machine can do."""
    return {
        (job.job_id, operation.operation_id): float(
            operation.durations_s[list(operation.machine_ids).index(machine_id)]
        )
        for job in plan.problem.jobs
        for operation in job.operations
        if machine_id in operation.machine_ids
    }


def machine(plan: Plan, machine_id: str) -> Machine:
    return next(m for m in plan.problem.machines if m.machine_id == machine_id)


def seconds(time: Any) -> float:
    return float(time.sec + time.nanosec / 1e9)


def test_a_hot_host_slows_its_machine_until_it_is_cool(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path, thermal_machines="['edge1=A1']", processes=0)
    publisher = shop.publisher("thermal_state", host="edge1")

    def state(rung: int, fps: float) -> ThermalState:
        return ThermalState(host="edge1", rung=rung, rung_count=4, guaranteed_fps=fps)

    publisher.publish(state(0, 30.0))
    event = shop.heard(publisher, state(2, 15.0), PlanEvent.KIND_THERMAL_DERATE)
    assert event.machine_id == "A1" and "edge1" in event.text
    slow = graph.until(
        lambda: machine(shop.plans[-1], "A1").state == Machine.STATE_DERATED and shop.plans[-1],
        "a plan with the slow machine",
    )
    at_full = durations(shop.plans[0], "A1")
    assert durations(slow, "A1") == {key: 2 * d for key, d in at_full.items()} != {}
    graph.until(
        lambda: (
            publisher.publish(state(0, 30.0))
            or machine(shop.plans[-1], "A1").state == Machine.STATE_UP
        ),
        "a plan with the machine at full speed",
    )
    for said, text in ((state(3, 0.0), "A1 DOWN"), (state(0, 30.0), "A1 UP")):
        before = len(shop.events)
        graph.until(
            lambda said=said, text=text, before=before: (
                publisher.publish(said) or any(text in e.text for e in shop.events[before:])
            ),
            f"{text}, as 0 Hz are promised or all again",
        )


def test_a_work_order_books_a_stop_and_a_person_commits_the_plan(
    graph: Graph, tmp_path: Path
) -> None:
    worn = busiest()
    shop = Shop(graph, tmp_path, health_machines=f"['press={worn}']", processes=0,
                approval_above_changed=0.0)  # fmt: skip
    publisher = shop.publisher("machine_health", machine="press")
    before = shop.version()
    assert graph.set(NODE, "approval", "large") == (True, "")
    health = MachineHealth(machine_id="press", component="bearing", alert_id="alert 7",
                           tier=MachineHealth.TIER_WORK_ORDER, reason="outer race")  # fmt: skip
    shop.heard(publisher, health, PlanEvent.KIND_MAINTENANCE)
    asked = graph.until(
        lambda: [e for e in shop.events if e.kind == PlanEvent.KIND_APPROVAL_NEEDED],
        "a plan that waits for a person",
    )[-1]
    assert shop.version() == before

    commit = CommitPlan.Request(
        command=shop.command(person="Kim"), version=asked.plan_version, expected_version=before
    )
    assert shop.call("commit_plan", commit).version_in_force == asked.plan_version
    plan = graph.until(
        lambda: shop.version() == asked.plan_version and shop.plans[-1], "the plan in force"
    )
    (stop,) = [w for w in machine(plan, worn).downtimes if "alert 7" in w.label]
    assert seconds(stop.end) - seconds(stop.start) == 1800.0
    for a in plan.assignments:
        if a.machine_id == worn:
            assert a.end.sec <= stop.start.sec + 1 or a.start.sec >= stop.end.sec - 1
    assert sum(e.kind == PlanEvent.KIND_MAINTENANCE for e in shop.events) == 1


def test_repeated_stale_and_reordered_calls_act_once(graph: Graph, tmp_path: Path) -> None:
    shop = Shop(graph, tmp_path, processes=0)
    rng = random.Random(4)
    jobs = sorted({a.job_id for a in shop.plans[-1].assignments})
    requests = []
    for number in range(60):
        command = shop.command(command_id=f"c{number}")
        if number % 5 == 0:
            command.deadline.sec = 1  # long past
        if number % 7 == 0:
            command.expected_state = 3  # DONE: it never is
        requests.append(
            HoldJob.Request(command=command, job_id=rng.choice(jobs), hold=rng.random() < 0.5)
        )
    sent = [request for request in requests for _ in range(5)]
    rng.shuffle(sent)

    row = interface("hold_job")
    client = graph.node.create_client(message_type(row.type), row.name)
    graph.until(client.service_is_ready, "the service")
    answers: dict[str, list[CommandResult]] = {r.command.command_id: [] for r in requests}
    waiting: list[tuple[str, Future]] = []

    def take() -> bool:
        """Note what is answered, and send more: a service keeps ten requests."""
        for command_id, future in [pair for pair in waiting if pair[1].done()]:
            answers[command_id].append(future.result().result)
            waiting.remove((command_id, future))
        while sent and len(waiting) < 6:
            request = sent.pop()
            waiting.append((request.command.command_id, client.call_async(request)))
        return not waiting

    graph.until(take, "all answers", timeout_s=4 * LIMIT_S)
    changes = (PlanEvent.KIND_JOB_HELD, PlanEvent.KIND_JOB_RESUMED)

    def acted() -> Counter[str]:
        return Counter(e.command_id for e in shop.events if e.kind in changes)

    accepted = set()
    for command_id, results in answers.items():
        outcomes = Counter(r.outcome for r in results)
        assert outcomes[CommandResult.OUTCOME_DUPLICATE] >= len(results) - 1 == 4
        assert len({(r.reason, r.state) for r in results}) == 1
        if outcomes[CommandResult.OUTCOME_ACCEPTED]:
            accepted.add(command_id)
    assert accepted
    for number in range(60):
        if number % 5 == 0 or number % 7 == 0:
            assert f"c{number}" not in accepted
    graph.until(lambda: len(acted()) >= len(accepted), "the event of each command that acted")
    assert acted() == Counter(accepted)

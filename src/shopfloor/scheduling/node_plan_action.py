"""PlanSchedule: goals become requests, requests become plans; a newer goal supersedes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future
from shopfloor_msgs.action import PlanSchedule

from shopfloor.ros.command_service import fill_result, order_of
from shopfloor.ros.commands import Answer, Order, Outcome, Reason, Refused, accepted, rejected
from shopfloor.ros.worker import Done
from shopfloor.scheduling import messages
from shopfloor.scheduling.explain import diff
from shopfloor.scheduling.floor import StoredPlan
from shopfloor.scheduling.model import Base
from shopfloor.scheduling.planning import Request
from shopfloor.scheduling.problem import ProblemError
from shopfloor.scheduling.solver import Incumbent, Solution, solve
from shopfloor.scheduling.validation import validate

_KEY = "plan_schedule"
Result = PlanSchedule.Result


@dataclass
class _Running:
    """A request on the worker, and whoever waits for it; goal None: the scheduler's own."""

    request: Request
    goal: Any = None
    done: Future | None = None
    order: Order | None = None
    commit: bool = False
    store: bool = True
    reason: str = ""
    note: str = ""
    ids: dict[str, str] = field(default_factory=dict)


class PlanAction:
    """One request at a time. `node` is the scheduler's node: its floor, commands and parameters."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._running: _Running | None = None
        self._next: _Running | None = None
        self._worker = node.worker("plan", self._work, self._deliver, limit_s=math.inf)
        self._guard = node.guard(self._feedback, "plan feedback")
        node.service_commands.action(_KEY, self._execute, cancel=self._cancelled)

    @property
    def busy(self) -> bool:
        """Whether something is being planned."""
        return self._running is not None

    def close(self) -> None:
        """Stop what runs; its goals are answered as cancelled."""
        for waiting in (self._next, self._running):
            if waiting is not None:
                waiting.request.cancel.set()
                if waiting.done is not None and not waiting.done.done():
                    waiting.done.set_result(None)
        self._next = None

    # Goals ------------------------------------------------------------------------------------

    async def _execute(self, goal: Any) -> Any:
        node, asked = self._node, goal.request
        order = order_of(_KEY, asked)
        ledger = node.service_commands.ledger
        answer = ledger.begin(order, node.now_ns())
        if answer is not None:
            result = Result()
            if answer.outcome is Outcome.DUPLICATE and answer.response:
                result = deserialize_message(answer.response, Result)
            return self._ended(goal, asked, answer, result)
        try:
            running = self._prepared(goal, order)
        except ProblemError as error:
            result = Result(code=Result.CODE_INVALID_PROBLEM)
            answer = rejected(Reason.INVALID_ARGUMENT, messages.text(str(error)))
            return self._finished(goal, order, answer, result)
        except Refused as refusal:
            answer = rejected(refusal.reason, messages.text(str(refusal)))
            return self._finished(goal, order, answer, Result(code=Result.CODE_FAULT))
        running.done = Future()
        self.begin(running)
        solution = await running.done
        result = Result()
        try:
            answer = self._answer(running, solution, result)
        except Refused as refusal:
            answer = rejected(refusal.reason, messages.text(str(refusal)))
        return self._finished(goal, order, answer, result)

    def _prepared(self, goal: Any, order: Order) -> _Running:
        """The request of a goal. Raises Refused or ProblemError."""
        node, asked = self._node, goal.request
        params = node.params
        if not node.is_active:
            raise Refused(Reason.NOT_READY, "the scheduler is not active")
        modes = (asked.MODE_PLAN, asked.MODE_REPAIR, asked.MODE_WHAT_IF)
        if asked.mode not in modes:
            raise Refused(Reason.INVALID_ARGUMENT, f"mode {asked.mode}; allowed: {modes}")
        limits = {
            "time_budget_s": (asked.time_budget_s, 0.001, params.max_time_budget_s),
            "freeze_horizon_s": (asked.freeze_horizon_s, 0.0, 86_400.0),
            "stability_weight": (asked.stability_weight, 0.0, 1000.0),
        }
        for name, (value, low, high) in limits.items():
            if not math.isfinite(value) or not low <= value <= high:
                raise Refused(
                    Reason.INVALID_ARGUMENT, f"{name} {value!r}; allowed: {low:g} to {high:g}"
                )
        base = None
        if asked.mode != asked.MODE_PLAN or asked.base_version:
            base = node.floor.plan(asked.base_version)
            if base is None and asked.mode == asked.MODE_REPAIR:
                raise Refused(Reason.UNKNOWN_TARGET, f"no plan {asked.base_version} to repair")
        freeze_ms = round(asked.freeze_horizon_s * 1000)
        note = ""
        if asked.use_problem:
            weights = node.weights
            problem = messages.problem_from(asked.problem, node.commands.now_ms(), weights)
            validate(problem)
            if asked.mode != asked.MODE_WHAT_IF:
                kept = ", ".join(node.floor.known_otherwise(problem))
                note = f"known otherwise and kept so: {kept}" if kept else ""
                node.commands.load(problem, order.caller)
        if not asked.use_problem or asked.mode != asked.MODE_WHAT_IF:
            problem = node.commands.problem(freeze_ms)
        return _Running(
            self.request(
                problem, asked.time_budget_s, base, asked.stability_weight,
                stay=asked.mode == asked.MODE_REPAIR,
            ),
            goal,
            order=order,
            commit=asked.commit,
            store=asked.mode != asked.MODE_WHAT_IF,
            note=note,
            ids={"command_id": order.command_id, "caller": order.caller},
        )  # fmt: skip

    def request(
        self, problem: Any, budget_s: float, base: StoredPlan | None, stability: float, stay: bool
    ) -> Request:
        """A request; stay: keep close to the base, which is its start as well."""
        request = Request(problem, budget_s, self._guard.trigger, in_moves=self._node.is_stepped)
        if base is not None:
            request.base_version = base.version
            request.base = Base(base.assignments, stability if stay else 0.0)
            request.keep_base = True
        return request

    def begin(self, running: _Running) -> None:
        """Hand a request to the worker; what runs is superseded once a first plan is there."""
        before = self._running
        if before is None:
            self._running = running
            self._worker.put(running)
            return
        request = running.request
        first = solve(request.problem, 0.0, base=request.base,
                      keep_base=request.keep_base, processes=0)  # fmt: skip
        if first.best is not None:
            request.hint = first.best.assignments
            self._tell(running, first.best)
        if self._next is not None:
            self._supersede(self._next, None)
        self._next = running
        before.request.superseded = True
        before.request.cancel.set()

    def own_request(self, request: Request, *, commit: bool, reason: str) -> None:
        """Plan on the scheduler's own account."""
        self.begin(_Running(request, commit=commit, reason=reason))

    def _cancelled(self, goal: Any) -> None:
        for waiting in (self._running, self._next):
            asked_by = None if waiting is None else waiting.goal
            if waiting is not None and asked_by is not None and asked_by.goal_id == goal.goal_id:
                waiting.request.cancel.set()

    # Worker -------------------------------------------------------------------------------------

    def _work(self, running: _Running) -> Solution:
        return running.request.carry_out(self._node.params.processes)

    def _deliver(self, done: Done[_Running, Solution]) -> None:
        running = done.item
        if done.error is not None:
            self._node.fault("solver", f"{type(done.error).__name__}: {done.error}")
        self._feedback()
        self._running, self._next = self._next, None
        if self._running is not None:
            self._worker.put(self._running)
        if running.done is not None:
            if not running.done.done():
                running.done.set_result(done.result)
            return
        if done.result is not None:
            self._node.own_plan(running.request, done.result, running.commit, running.reason)

    def _supersede(self, running: _Running, solution: Solution | None) -> None:
        running.request.superseded = True
        if running.done is not None and not running.done.done():
            running.done.set_result(solution)

    def _feedback(self) -> None:
        running = self._running
        while running is not None and running.request.incumbents:
            self._tell(running, running.request.incumbents.popleft())

    @staticmethod
    def _tell(running: _Running, incumbent: Incumbent, version: int = 0) -> None:
        if running.goal is None or not running.goal.is_active:
            return
        running.goal.publish_feedback(
            PlanSchedule.Feedback(
                stage=messages.text(incumbent.stage, 32),
                elapsed_s=incumbent.elapsed_s,
                objective=incumbent.score.objective,
                objective_bound=incumbent.bound,
                plan_version=version,
            )
        )

    # Results ------------------------------------------------------------------------------------

    def _answer(self, running: _Running, solution: Solution | None, result: Any) -> Answer:
        """Fill the result; what the caller gets."""
        node, request = self._node, running.request
        result.objective_delta = math.nan
        if solution is None and request.hint and request.superseded:
            solution = solve(
                request.problem, 0.0, hint=request.hint, base=request.base, processes=0
            )
        if solution is None:
            result.code = Result.CODE_SUPERSEDED if request.superseded else Result.CODE_FAULT
            text = "superseded before it began" if request.superseded else "see the log"
            return rejected(Reason.FAULT, text)
        if solution.best is None:
            result.code = Result.CODE_INFEASIBLE if solution.conflicts else Result.CODE_FAULT
            result.conflicts = [messages.constraint_message(c) for c in solution.conflicts[:64]]
            why = "; ".join(c.text for c in solution.conflicts)
            why = why or f"no valid plan within {request.budget_s:g} s: " + "; ".join(
                c.text for c in solution.violations[:3]
            )
            return rejected(Reason.EFFECT_FAILED, messages.text(why))
        plan = node.stored_plan(request, solution)
        text = ""
        if running.store:
            plan, text = node.store_plan(plan, running.commit, **running.ids)
            self._tell(running, replace(solution.best, bound=solution.bound), plan.version)
        changes = diff(request.base.assignments, plan.assignments) if request.base else []
        result.plan = node.plan_message(plan, solution, changes)
        result.code = (
            Result.CODE_SUPERSEDED
            if request.superseded
            else Result.CODE_CANCELLED
            if solution.cancelled
            else Result.CODE_OPTIMAL
            if solution.proven
            else Result.CODE_FOUND
        )
        base = node.floor.plan(request.base_version) if request.base is not None else None
        if base is not None:
            result.objective_delta = plan.score.objective - base.score.objective
        words = "; ".join(part for part in (text, running.note) if part)
        return accepted(node.now_ns(), int(plan.state), messages.text(words))

    def _finished(self, goal: Any, order: Order, answer: Answer, result: Any) -> Any:
        fill_result(result.result, goal.request.command, answer, self._node)
        self._node.service_commands.ledger.finish(order, answer, bytes(serialize_message(result)))
        return self._ended(goal, goal.request, answer, result)

    def _ended(self, goal: Any, asked: Any, answer: Answer, result: Any) -> Any:
        fill_result(result.result, asked.command, answer, self._node)
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.code in (Result.CODE_FOUND, Result.CODE_OPTIMAL, Result.CODE_CANCELLED):
            goal.succeed()
        else:
            goal.abort()
        return result

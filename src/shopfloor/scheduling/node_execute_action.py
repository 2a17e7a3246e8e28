"""ExecuteJob: one assignment of the plan in force, given to its machine and followed to its end."""

from __future__ import annotations

from typing import Any

from rclpy.serialization import deserialize_message, serialize_message
from rclpy.task import Future
from rclpy.time import Time
from shopfloor_msgs.action import ExecuteJob

from shopfloor.ros.command_service import fill_result, order_of
from shopfloor.ros.commands import Answer, Order, Outcome, Reason, Refused, accepted, rejected
from shopfloor.scheduling import messages
from shopfloor.scheduling.dispatching import Progress
from shopfloor.scheduling.floor import Dispatch

_KEY = "execute_job"
_POLL_S = 0.1
Result = ExecuteJob.Result
_OUTCOMES = {
    "done": Result.OUTCOME_DONE,
    "failed": Result.OUTCOME_FAILED,
    "cancelled": Result.OUTCOME_CANCELLED,
    "in doubt": Result.OUTCOME_IN_DOUBT,
}


class ExecuteAction:
    """Follows what runs. `node` is the scheduler's node; without machines every goal is refused."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._goals: dict[str, tuple[Any, Future]] = {}
        node.service_commands.action(_KEY, self._execute, cancel=self._cancelled)
        node.steady_timer(_POLL_S, self._poll)

    def close(self) -> None:
        """Nobody is told any more; the journal knows what runs."""
        for _, done in self._goals.values():
            if not done.done():
                done.set_result(Progress(outcome="in doubt", text="the scheduler stopped"))

    async def _execute(self, goal: Any) -> Any:
        node, asked = self._node, goal.request
        order = order_of(_KEY, asked)
        ledger = node.service_commands.ledger
        wanted = (asked.assignment.job_id, asked.assignment.operation_id)
        present = node.floor.operation(wanted)
        state = int(present.state) if present is not None else 0
        answer = ledger.begin(order, node.now_ns(), state)
        if answer is not None:
            result = Result()
            if answer.outcome is Outcome.DUPLICATE and answer.response:
                result = deserialize_message(answer.response, Result)
            elif answer.reason is Reason.IN_DOUBT:
                result.outcome = Result.OUTCOME_IN_DOUBT
            return self._ended(goal, answer, result)
        try:
            dispatch = self._dispatched(asked, order)
        except (Refused, ValueError) as error:
            reason = error.reason if isinstance(error, Refused) else Reason.INVALID_ARGUMENT
            answer = rejected(reason, messages.text(str(error)), state)
            return self._finished(goal, order, answer, Result(outcome=Result.OUTCOME_FAILED))
        done = Future()
        self._goals[dispatch.dispatch_id] = (goal, done)
        progress: Progress = await done
        del self._goals[dispatch.dispatch_id]
        result = Result(
            outcome=_OUTCOMES[progress.outcome], good_count=progress.good,
            scrap_count=progress.scrap, started=Time(nanoseconds=dispatch.stamp_ns).to_msg(),
            ended=node.stamp(node.now_ns()),
        )  # fmt: skip
        after = node.floor.operation(wanted)
        answer = accepted(
            dispatch.stamp_ns, int(after.state) if after is not None else 0, progress.text
        )
        return self._finished(goal, order, answer, result)

    def _dispatched(self, asked: Any, order: Order) -> Dispatch:
        node = self._node
        if node.dispatcher is None or not node.is_active:
            raise Refused(Reason.NOT_READY, "no machines: set the parameter machines")
        dispatch: Dispatch = node.dispatcher.execute(
            asked.plan_version, messages.assignment_from(asked.assignment),
            command_id=order.command_id, caller=order.caller,
        )  # fmt: skip
        return dispatch

    def _cancelled(self, goal: Any) -> None:
        for dispatch_id, (running, _) in self._goals.items():
            dispatch = self._node.floor.state.dispatches.get(dispatch_id)
            if running.goal_id == goal.goal_id and dispatch is not None:
                self._node.dispatcher.cancel(dispatch)

    def _poll(self) -> None:
        node = self._node
        if node.dispatcher is None or not node.is_active:
            return
        for dispatch, progress in node.dispatcher.poll():
            goal, done = self._goals.get(dispatch.dispatch_id, (None, None))
            if goal is not None and goal.is_active:
                goal.publish_feedback(
                    ExecuteJob.Feedback(
                        progress=progress.fraction, good_count=progress.good,
                        scrap_count=progress.scrap, text=messages.text(progress.text, 128),
                    )
                )  # fmt: skip
            if progress.outcome:
                node.ran(dispatch, progress)
                if done is not None and not done.done():
                    done.set_result(progress)
        if node.params.dispatch:
            for assignment in node.dispatcher.due(node.commands.now_ms()):
                try:
                    node.dispatcher.execute(node.floor.version_in_force, assignment, caller="self")
                except Refused as refusal:
                    node.fault("dispatch", str(refusal))

    def _finished(self, goal: Any, order: Order, answer: Answer, result: Any) -> Any:
        fill_result(result.result, goal.request.command, answer, self._node)
        self._node.service_commands.ledger.finish(order, answer, bytes(serialize_message(result)))
        return self._ended(goal, answer, result)

    def _ended(self, goal: Any, answer: Answer, result: Any) -> Any:
        fill_result(result.result, goal.request.command, answer, self._node)
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.outcome == Result.OUTCOME_DONE:
            goal.succeed()
        else:
            goal.abort()
        return result

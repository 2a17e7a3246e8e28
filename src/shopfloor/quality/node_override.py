"""The service by which a person decides about a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shopfloor_msgs.msg import PartVerdict

from shopfloor.quality.evidence import Decision, Override, Refinement, Verdict
from shopfloor.quality.ledger import PartLedger
from shopfloor.quality.messages import Source
from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused

if TYPE_CHECKING:
    from shopfloor.quality.node import QualityGateNode

_ALLOWED = {
    Verdict.PASS: (Refinement.NONE, Refinement.CONTINUE),
    Verdict.FAIL: (Refinement.NONE, Refinement.CORRECT, Refinement.SCRAP),
    Verdict.REVIEW: (Refinement.NONE,),
}


class OverrideService:
    """Takes overrides once each, durable and audited; `publish` says the verdict and returns it."""

    def __init__(
        self,
        node: QualityGateNode,
        ledger: PartLedger[Source],
        publish: Callable[[Decision[Source]], PartVerdict],
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._publish = publish
        self._commands = Commands(node)
        self._commands.serve("override_verdict", self._act, state_of=self._state)

    def close(self) -> None:
        """Close the command ledger and the audit log."""
        self._commands.close()

    def _state(self, request: Any) -> int:
        part = self._ledger.known(request.part_id)
        return part.decision.verdict.value if part is not None and part.decision else 0

    def _act(self, request: Any, response: Any) -> None:
        if not self._node.is_active:
            raise Refused(Reason.NOT_READY, "the gate is not active")
        command = request.command
        for field in ("person", "reason"):
            if not getattr(command, field).strip():
                text = f"command.{field} is empty; an override needs a name and a reason"
                raise Refused(Reason.INVALID_ARGUMENT, text)
        part = self._ledger.known(request.part_id)
        if part is None or part.decision is None:
            text = f"part '{request.part_id}' has no verdict here, or not any more"
            raise Refused(Reason.UNKNOWN_TARGET, text)
        if request.expected_revision not in (0, part.decision.revision):
            text = f"revision {part.decision.revision} is in force, not {request.expected_revision}"
            raise Refused(Reason.VERSION_MISMATCH, text)
        verdict, refinement = _checked(request.verdict, request.refinement)
        override = Override(verdict, refinement, command.person, command.reason)
        decision = self._ledger.override(request.part_id, override, self._node.steady_ns())
        response.part_verdict = self._publish(decision)


def _checked(verdict: int, refinement: int) -> tuple[Verdict, Refinement]:
    """Raises Refused where they are not defined or contradict each other."""
    names = ", ".join(f"{v.value} {v.name}" for v in _ALLOWED)
    try:
        known = Verdict(verdict)
        allowed = _ALLOWED[known]
    except (ValueError, KeyError):
        text = f"verdict {verdict}; allowed: {names}"
        raise Refused(Reason.INVALID_ARGUMENT, text) from None
    if refinement not in allowed:
        some = ", ".join(f"{r.value} {r.name}" for r in allowed)
        text = f"refinement {refinement} with {known.name}; allowed: {some}"
        raise Refused(Reason.INVALID_ARGUMENT, text)
    return known, Refinement(refinement)

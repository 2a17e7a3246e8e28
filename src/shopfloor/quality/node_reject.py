"""The reject output of the quality gate: belt and tracker between the gate's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shopfloor_msgs.msg import BeltEncoder

from shopfloor.quality.belt import EncodedBelt, TimedBelt
from shopfloor.quality.evidence import Decision, Verdict
from shopfloor.quality.messages import Source, nanoseconds, reject_command
from shopfloor.quality.node_hold import LateRejectHold
from shopfloor.quality.reject import Action, RejectOrder, RejectSettings, RejectTracker
from shopfloor.ros.diagnostics import Level, Status

if TYPE_CHECKING:
    from shopfloor.quality.node import QualityGateNode

_ADVANCE_PERIOD_S = 0.02
_ALARM_S = 60.0
"""After a LATE_REJECT the check in /diagnostics is an ERROR for this long."""


class RejectOutput:
    """Follows the parts of an active gate and commands the output; made at configure."""

    def __init__(self, node: QualityGateNode) -> None:
        params = node.params
        self._node = node
        self._number = 0
        self._alarm_ns: int | None = None
        self._alarm = ""
        speed = params.belt_speed_m_per_s
        self._tracker = RejectTracker(
            RejectSettings(
                dict(zip(params.cameras, params.reject_distance_m, strict=True)),
                window_m=params.reject_window_m,
                lead_m=speed * params.reject_lead_ms / 1e3,
                margin_m=speed * params.reject_margin_ms / 1e3,
                pass_without_id=params.reject_without_id == "pass",
            )
        )
        self._belt: TimedBelt | EncodedBelt = TimedBelt(speed)
        self._forecast: list[tuple[int, str, str]] = []
        if params.reject_by == "encoder":
            self._belt = EncodedBelt(
                params.encoder_pulses_per_m,
                bits=params.encoder_bits,
                max_speed_m_per_s=speed,
                silent_s=params.encoder_silent_ms / 1e3,
            )
            node.subscription("belt_encoder", self._on_encoder)
        self._commands = node.publisher("reject_command")
        self._hold = LateRejectHold(node)
        node.steady_timer(_ADVANCE_PERIOD_S, self._advance)
        node.diagnostics.add("reject output", self._status)

    def seen(
        self, part_id: str, camera: str, exposure_ns: int, encoder_count: int | None = None
    ) -> None:
        """A frame of the part, by whatever message; exposure_ns: ROS time, 0: not known.

        encoder_count: latched with the exposure, if the camera does that.
        """
        belt = self._belt
        position_m = belt.at(exposure_ns) if exposure_ns else None
        if encoder_count is not None and isinstance(belt, EncodedBelt):
            position_m = belt.at_count(encoder_count)
        elif (
            isinstance(belt, EncodedBelt)
            and position_m is not None
            and part_id
            and not belt.has_passed(exposure_ns)
        ):
            self._forecast.append((exposure_ns, part_id, camera))
        self._tracker.seen(part_id, camera, exposure_ns, position_m)

    def judged(self, decision: Decision[Source]) -> None:
        """The gate has decided about a part, once more perhaps."""
        verdict = decision.verdict
        reason = f"{verdict.name}: {decision.reasons[0] if decision.reasons else ''}"
        rejects = verdict is not Verdict.PASS
        self._say(
            self._tracker.judged(
                decision.part_id, decision.revision, rejects, reason, decision.exposure_ns
            )
        )

    def due_ns(self, part_id: str) -> int:
        """When the part is at the output, ROS time; 0: not known."""
        at_m = self._tracker.place_of(part_id)
        return 0 if at_m is None else self._when(at_m)

    def _on_encoder(self, reading: BeltEncoder) -> None:
        belt = self._belt
        assert isinstance(belt, EncodedBelt)
        if not belt.read(nanoseconds(reading.header.stamp), reading.count, reading.valid):
            self._node.fault("encoder_jump", f"it reads {reading.count}: every place is lost")
            self._forecast.clear()
            self._say(self._tracker.lose_places("the encoder jumped"))
        if self._forecast:
            self._measure(belt)

    def _measure(self, belt: EncodedBelt) -> None:
        """Places that were forecast, from readings on both sides: the belt starts and stops."""
        waiting = self._forecast
        self._forecast = [one for one in waiting if not belt.has_passed(one[0])]
        for exposure_ns, part_id, camera in waiting:
            position_m = belt.at(exposure_ns)
            if belt.has_passed(exposure_ns) and position_m is not None:
                self._tracker.measured(part_id, camera, exposure_ns, position_m)

    def _advance(self) -> None:
        if not self._node.is_active:
            return
        now_m = self._belt.at(self._node.now_ns())
        if now_m is not None:
            self._say(self._tracker.advance(now_m))

    def _say(self, orders: list[RejectOrder]) -> None:
        for order in orders:
            self._number += 1
            message = reject_command(order, self._node.params.line, self._number)
            if order.action is Action.LATE_REJECT:
                self._alarm_ns = self._node.steady_ns()
                self._alarm = f"{order.part_id or 'a part without id'}: {order.reason}"
                self._node.fault("late_reject", self._alarm)
            else:
                self._fill_window(message, order)
            self._commands.publish(message)
            if order.action is Action.LATE_REJECT and self._node.params.hold_on_late_reject:
                self._hold.late_reject(order)

    def _fill_window(self, message: Any, order: RejectOrder) -> None:
        node, belt = self._node, self._belt
        message.window_open = node.stamp(self._when(order.open_m))
        message.window_close = node.stamp(self._when(order.close_m))
        if isinstance(belt, EncodedBelt):
            message.by_encoder = True
            counts = [belt.count_at(order.open_m), belt.count_at(order.close_m)]
            if belt.pulses_per_m < 0.0:
                counts.reverse()
            message.encoder_open, message.encoder_close = counts

    def _when(self, position_m: float) -> int:
        """ROS time at which the belt is there, by encoder a forecast; 0: not known."""
        belt = self._belt
        if isinstance(belt, TimedBelt):
            return belt.when(position_m)
        now_ns = self._node.now_ns()
        now_m, speed = belt.at(now_ns), belt.speed_m_per_s
        if now_m is None or speed <= 0.0:
            return 0
        return max(now_ns + round((position_m - now_m) / speed * 1e9), 0)

    def _status(self) -> Status:
        node, belt, tracker = self._node, self._belt, self._tracker
        values: dict[str, object] = {"on the way": tracker.on_the_way, **tracker.counts}
        if isinstance(belt, EncodedBelt):
            values |= {f"encoder readings {what}": n for what, n in belt.counts.items()}
            values["belt m/s"] = round(belt.speed_m_per_s, 4)
        if self._alarm_ns is not None and node.steady_ns() - self._alarm_ns < _ALARM_S * 1e9:
            return Status(Level.ERROR, f"LATE_REJECT {self._alarm}", values)
        if node.is_active and belt.at(node.now_ns()) is None:
            level = Level.ERROR if tracker.on_the_way else Level.STALE
            return Status(level, "the encoder is silent: places are not known", values)
        if isinstance(belt, EncodedBelt) and belt.runs_backwards:
            return Status(Level.WARN, "the belt runs backwards", values)
        if tracker.counts["place not known"] or tracker.counts["place lost"]:
            return Status(Level.WARN, "some parts could not be followed", values)
        return Status(Level.OK, "every part is followed", values)

"""The ladder of performance: which rung a hot board may work at, and what that rung promises.

A step down is announced `notice_s` before it comes into force, so that whoever relies on the
promise of the present rung hears of it in time; only an emergency (a limit reached or about to be,
a driver that throttles, an over-current, sensors lost) comes at once. Steps are `dwell_s` apart,
down as well as up. A step up must be safe by what the board did before: from each step the ladder
learns how many degrees the load is worth (`rise`), and asks for that much room. One that had to be
taken back makes the next one wait for more room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shopfloor.thermal.rise import Rise, settled
from shopfloor.thermal.rungs import (
    Cause,
    Evidence,
    LadderSettings,
    LadderState,
    Override,
    Rung,
    ZoneOutlook,
)

_TRIED = (Cause.LATENCY, Cause.CLOCKS)
"""Only a try tells whether the rung above is fast again; each waits twice as long as the last."""

_TRY_WAITS_MAX_S = 3600.0
"""No wait is longer; after as long without a try that failed they begin anew."""

_IN_TIME_S = 2.0
"""A step that is announced, and comes so long before the limit, leaves no emergency."""

_FAR_CELSIUS = 5.0
_COOLS_CELSIUS_PER_S = 0.02


@dataclass
class Ladder:
    """Decides; one call of `decide` per reading of the sensors, seconds of a steady clock."""

    rungs: Sequence[Rung]
    settings: LadderSettings
    state: LadderState = field(default_factory=LadderState)

    def __post_init__(self) -> None:
        """Nothing has happened yet."""
        self._rise = Rise(self.settings.rise_celsius)
        self._stepped_s = -math.inf
        self._event_s = -math.inf
        self._room_since_s: float | None = None
        self._try_waits_s = self.settings.recover_hold_s
        self._slow_s = -math.inf
        self._started = False

    # What the node asks -----------------------------------------------------------------------

    def begin(self, rung: int, text: str) -> None:
        """Before the first decision: at that rung, where the board was a short while ago."""
        self.state.rung = self.state.next_rung = rung
        if rung:
            self._explain(Cause.RECOVERING, text)

    def pin(self, now_s: float, override: Override) -> None:
        """Work at that rung until it ends; emergencies still go below it."""
        self.state.override = override
        self._withdraw()
        self._go(now_s, override.rung, Cause.OVERRIDE, f"{override.by}: {override.reason}", ())

    def release(self, now_s: float) -> None:
        """The ladder decides again, from the rung that it is at."""
        self.state.override = None
        self._explain(Cause.RECOVERING if self.state.rung else Cause.NONE, "the override ended")

    def decide(self, now_s: float, evidence: Evidence) -> LadderState:
        """Take in what is known and move where that is due."""
        state = self.state
        if not self._started:
            self._start(now_s, evidence)
        if state.override is not None and now_s >= state.override.until_s:
            self.release(now_s)
        # At a rung without a load there is nothing to come.
        works = evidence.fps > 0.0 or not self.rungs[state.rung].load
        self._rise.learn(now_s, evidence.zones, works=works)
        if evidence.over_current or evidence.throttled:
            self._event_s = now_s
        if state.cause not in _TRIED and now_s - self._slow_s >= _TRY_WAITS_MAX_S:
            self._try_waits_s = self.settings.recover_hold_s
        if self._emergency(now_s, evidence):
            return state
        if state.override is not None:
            self._follow_override(now_s, evidence)
            return state
        wanted = self._reason_to_step_down(evidence)
        if wanted is not None:
            self._room_since_s = None
            self._down(now_s, evidence, *wanted)
        elif self._is_announced:
            self._reconsider(now_s, evidence)
        elif state.rung > 0:
            self._up(now_s, evidence)
        else:
            lost = evidence.sensors_lost
            self._explain(Cause.UNKNOWN if lost else Cause.NONE, lost or "full performance")
        return state

    def _start(self, now_s: float, evidence: Evidence) -> None:
        """A watchdog that is restarted on a hot board does not begin at full speed."""
        self._started = True
        self.state.since_s = now_s
        room = self.settings.guard_celsius + self.settings.recover_margin_celsius
        for zone in evidence.zones:
            if zone.celsius > zone.limit_celsius - room and self.state.rung < 1 < len(self.rungs):
                self.state.rung = self.state.next_rung = 1
                self._explain(Cause.THERMAL, f"{zone.name} was hot at the start")

    # Down ---------------------------------------------------------------------------------------

    def _emergency(self, now_s: float, evidence: Evidence) -> bool:
        """Steps without notice; whether the evidence is one."""
        settings, state = self.settings, self.state
        if evidence.sensors_lost and state.rung < settings.lost_rung:
            self._go(now_s, settings.lost_rung, Cause.UNKNOWN, evidence.sensors_lost, ())
            return True
        cause, text = Cause.THERMAL, evidence.throttled
        if evidence.over_current:
            cause, text = Cause.OVER_CURRENT, "the board counted over-current events"
        if not text:
            text = next((t for z in evidence.zones if (t := self._limit_text(now_s, z))), "")
        if not text:
            return False
        if state.rung == len(self.rungs) - 1:
            self._explain(cause, text)
        elif now_s - self._stepped_s >= settings.emergency_dwell_s:
            self._go(now_s, state.rung + 1, cause, text, evidence.zones)
        return True

    def _limit_text(self, now_s: float, zone: ZoneOutlook) -> str:
        """Why this zone cannot wait for a notice; empty where it can."""
        if not zone.celsius < zone.limit_celsius and not math.isnan(zone.limit_celsius):
            cools = zone.forecast is not None and zone.forecast.slope_per_s < -_COOLS_CELSIUS_PER_S
            if not cools:
                return f"{zone.name} at {zone.celsius:.1f} C, limit {zone.limit_celsius:g} C"
        forecast = zone.forecast
        if forecast is None or forecast.confidence < self.settings.min_confidence:
            return ""
        seconds = forecast.seconds_to(zone.limit_celsius)
        if self.state.next_at_s - now_s + _IN_TIME_S < seconds:
            return ""
        if seconds < self.settings.notice_s and zone.celsius < zone.limit_celsius:
            return f"{zone.name} reaches {zone.limit_celsius:g} C in {seconds:.0f} s"
        return ""

    def _reason_to_step_down(self, evidence: Evidence) -> tuple[Cause, str] | None:
        settings = self.settings
        ahead_s, least, why = settings.act_ahead_s, settings.min_confidence, ""
        if evidence.fan_stands:
            # Without a fan one rung is seldom enough, and each takes a dwell; the first one does
            # not wait until it is certain how hot it will be.
            ahead_s, why = ahead_s + 2.0 * settings.dwell_s, "the fan stands still; "
            least = least if self.state.rung else 0.0
        for zone in evidence.zones:
            text = self._forecast_text(zone, ahead_s, least)
            if text:
                return Cause.THERMAL, why + text
        if self.state.rung < self.settings.slow_rung:
            if evidence.slow_clocks:
                return Cause.CLOCKS, evidence.slow_clocks
            if evidence.power_mode:
                return Cause.POWER_MODE, evidence.power_mode
        if evidence.latency:
            return Cause.LATENCY, evidence.latency
        return None

    def _forecast_text(self, zone: ZoneOutlook, ahead_s: float, least_confidence: float) -> str:
        guard, forecast = zone.limit_celsius - self.settings.guard_celsius, zone.forecast
        if math.isnan(guard):
            return ""
        if forecast is None or forecast.confidence < least_confidence:
            if zone.celsius >= guard:
                return f"{zone.name} at {zone.celsius:.1f} C, limit {zone.limit_celsius:g} C"
            return ""
        seconds = forecast.seconds_to(guard)
        if seconds > ahead_s:
            return ""
        # What cools is left to cool: the last step works.
        if forecast.at(ahead_s) < min(guard, forecast.temperature - 0.1):
            return ""
        if seconds > 0.0:
            return f"{zone.name} at {zone.celsius:.1f} C, {guard:g} C forecast in {seconds:.0f} s"
        return f"{zone.name} at {zone.celsius:.1f} C, limit {zone.limit_celsius:g} C"

    def _down(self, now_s: float, evidence: Evidence, cause: Cause, text: str) -> None:
        settings, state = self.settings, self.state
        last = state.rung == len(self.rungs) - 1
        # Late results are better than none: only heat leads to a rung that promises no frames.
        if last or (cause is not Cause.THERMAL and not self.rungs[state.rung + 1].fps):
            self._explain(cause, f"nothing left to give; {text}")
            return
        if self._is_announced:
            if now_s >= state.next_at_s:
                self._go(now_s, state.next_rung, cause, text, evidence.zones)
            else:
                self._explain(cause, text)
            return
        due_s = max(now_s + settings.notice_s, self._stepped_s + settings.dwell_s)
        if cause is Cause.LATENCY:  # the promise is broken already
            due_s = max(now_s, self._stepped_s + settings.dwell_s)
        if due_s - now_s > settings.notice_s + 1e-6 and not evidence.fan_stands:
            self._explain(cause, text)
            return
        state.next_rung, state.next_at_s = state.rung + 1, due_s
        self._explain(cause, text)
        if due_s <= now_s:
            self._go(now_s, state.next_rung, cause, text, evidence.zones)

    def _reconsider(self, now_s: float, evidence: Evidence) -> None:
        """What was announced stays, unless its reason went far away; then it is taken back."""
        far = not evidence.sensors_lost and all(self._is_far(zone) for zone in evidence.zones)
        if far:
            self._withdraw()
            self._explain(Cause.RECOVERING if self.state.rung else Cause.NONE, "no step needed")
        elif now_s >= self.state.next_at_s:
            state = self.state
            self._go(now_s, state.next_rung, state.cause, state.text, evidence.zones)

    def _is_far(self, zone: ZoneOutlook) -> bool:
        forecast, settings = zone.forecast, self.settings
        if math.isnan(zone.limit_celsius):
            return True
        guard = zone.limit_celsius - settings.guard_celsius
        if forecast is None or forecast.confidence < settings.min_confidence:
            return zone.celsius < guard - _FAR_CELSIUS
        soon = forecast.seconds_to(guard) <= 3.0 * settings.act_ahead_s
        return zone.celsius < guard - 1.0 and not soon

    # Up -----------------------------------------------------------------------------------------

    def _up(self, now_s: float, evidence: Evidence) -> None:
        settings, state = self.settings, self.state
        lacks = self._lack_of_room(now_s, evidence)
        if lacks:
            self._room_since_s = None
            if evidence.sensors_lost:
                self._explain(Cause.UNKNOWN, lacks)
            elif state.cause in (Cause.NONE, Cause.UNKNOWN, Cause.RECOVERING):
                self._explain(Cause.RECOVERING, lacks)
            return
        if self._room_since_s is None:
            self._room_since_s = now_s
        hold_s = settings.recover_hold_s
        if state.cause in _TRIED:
            hold_s = self._try_waits_s
        waited_s = now_s - self._room_since_s
        if waited_s < hold_s or now_s - self._stepped_s < settings.dwell_s:
            if state.cause not in _TRIED:
                self._explain(Cause.RECOVERING, f"room for the rung above since {waited_s:.0f} s")
            return
        if state.cause in _TRIED:
            self._try_waits_s = min(2.0 * self._try_waits_s, _TRY_WAITS_MAX_S)
        target = state.rung - 1
        self._room_since_s = None
        cause = Cause.RECOVERING if target else Cause.NONE
        text = "cool enough" if target else "full performance"
        self._go(now_s, target, cause, text, evidence.zones)

    def _lack_of_room(self, now_s: float, evidence: Evidence) -> str:
        if evidence.sensors_lost:
            return evidence.sensors_lost
        settings, state = self.settings, self.state
        slow = evidence.slow_clocks or evidence.power_mode
        if slow and state.rung <= settings.slow_rung:
            return slow
        if now_s - self._event_s < settings.hold_after_event_s:
            return "the board throttled or counted over-current events a moment ago"
        more_load = self.rungs[state.rung - 1].load - self.rungs[state.rung].load
        for zone in evidence.zones:
            if math.isnan(zone.limit_celsius):
                continue
            margin = settings.recover_margin_celsius + self._rise.extra(zone.name)
            allowed = zone.limit_celsius - settings.guard_celsius - margin
            # What still cools down counts as it is now: where it settles is not sure yet.
            expected = max(settled(zone), zone.celsius) + self._rise.of(zone.name) * more_load
            if expected > allowed:
                return (
                    f"{zone.name} would settle at {expected:.0f} C on the rung above, "
                    f"{allowed:.0f} C allowed"
                )
        return ""

    # Steps --------------------------------------------------------------------------------------

    @property
    def _is_announced(self) -> bool:
        return self.state.next_rung != self.state.rung

    def _follow_override(self, now_s: float, evidence: Evidence) -> None:
        """Back to the pinned rung when the emergency that went below it is over."""
        state = self.state
        override = state.override
        assert override is not None
        if state.rung > override.rung and now_s - self._event_s >= self.settings.dwell_s:
            lacks = self._lack_of_room(now_s, evidence)
            if not lacks and now_s - self._stepped_s >= self.settings.dwell_s:
                self._go(now_s, state.rung - 1, Cause.OVERRIDE, override.reason, evidence.zones)
        elif evidence.sensors_lost:
            self._explain(Cause.UNKNOWN, evidence.sensors_lost)
        elif state.rung == override.rung:
            self._explain(Cause.OVERRIDE, f"{override.by}: {override.reason}")

    def _go(
        self, now_s: float, rung: int, cause: Cause, text: str, zones: Sequence[ZoneOutlook]
    ) -> None:
        state = self.state
        if rung == state.rung:
            self._explain(cause, text)
            return
        if rung > state.rung:
            state.steps_down += 1
            if cause is Cause.THERMAL:
                self._rise.regret(now_s, zones)
        else:
            state.steps_up += 1
        if cause in _TRIED or state.cause in _TRIED:
            self._slow_s = now_s
        loads = self.rungs[state.rung].load, self.rungs[rung].load
        self._rise.stepped(now_s, *loads, zones, by_person=cause is Cause.OVERRIDE)
        self._stepped_s = now_s
        state.rung, state.since_s = rung, now_s
        self._withdraw()
        self._room_since_s = None
        self._explain(cause, text)

    def _withdraw(self) -> None:
        self.state.next_rung, self.state.next_at_s = self.state.rung, math.inf

    def _explain(self, cause: Cause, text: str) -> None:
        self.state.cause, self.state.text = cause, text

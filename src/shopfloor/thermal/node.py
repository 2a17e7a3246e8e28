"""thermal_watchdog: forecasts the heat of its host and says at which rung it may work."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.publisher import Publisher
from shopfloor_msgs.msg import HostLoad, InspectionResult, ThermalState
from shopfloor_msgs.srv import SetRung

from shopfloor.plant.host_load import HostUsage, host_usage
from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused
from shopfloor.ros.diagnostics import Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.paths import state_folder
from shopfloor.ros.worker import Done, Worker
from shopfloor.thermal import board_file, messages, node_checks, rung_file
from shopfloor.thermal.board import Board
from shopfloor.thermal.ladder import Ladder
from shopfloor.thermal.learning import BoardMemory
from shopfloor.thermal.nvml import Nvml
from shopfloor.thermal.parameters import ThermalWatchdogParameters
from shopfloor.thermal.rungs import Override
from shopfloor.thermal.sensors import Sensors, parse_limit
from shopfloor.thermal.trust import TrustSettings
from shopfloor.thermal.watchdog import (
    Observation,
    Observer,
    Verdict,
    Watchdog,
    WatchdogSettings,
)

PUBLISH_PERIOD_S = 0.5
DECIDE_PERIOD_S = 0.25
"""Readings that bring no news wait so long at most: each turn of the executor costs half a percent
of what the node may use."""

_LOAD_PERIOD_S = 5.0
_FIRST_TURNS = 4
"""After so many turns, a second, a first reading is late: it may never come."""

_RESULTS_PERIOD_S = 0.5
"""All results that came are taken this often: each wakes the executor for more than it costs."""


class ThermalWatchdogNode(ShopfloorNode[ThermalWatchdogParameters]):
    """Reads on its worker, decides on the executor, publishes at 2 Hz and at once on change."""

    PARAMETERS = ThermalWatchdogParameters

    def __init__(self, name: str = "thermal_watchdog", **node_arguments: Any) -> None:
        self._nvml: Nvml | None = None
        self._observer: Observer | None = None
        self._watchdog: Watchdog | None = None
        self._commands: Commands | None = None
        self._worker: Worker[None, Observation] | None = None
        self._keeper: Worker[str, None] | None = None
        self._latest: Observation | None = None
        self._unwritten: dict[Path, str] = {}
        self._news: Any = None
        self._seen: Observation | None = None
        self._verdict: Verdict | None = None
        self._load: HostUsage | None = None
        self._load_at_s = -math.inf
        self._said: Any = None
        super().__init__(name, **node_arguments)

    # Lifecycle ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Find the sensors."""
        params = self.params
        root = Path(state_folder(), params.system_root)
        self._rungs = params.rungs()
        self._nvml = Nvml() if params.nvml else None
        sensors = Sensors(
            root / "sys",
            ignore=params.ignore_zones,
            limits=[parse_limit(text) for text in params.zone_limits],
            default_limit_celsius=params.default_limit_celsius,
            expected=params.required_zones,
        )
        trust = TrustSettings(frozen_peers_celsius=params.frozen_peers_celsius)
        memories = self._remembered() if params.learn_board else None
        self._observer = Observer(sensors, Board(root), self._nvml, trust, memories)
        self._states = self.publisher("thermal_state", host=self.host)
        self._temperatures: dict[str, Publisher] = {}
        self.poll(_RESULTS_PERIOD_S, inspection_result=self._on_result)
        self._commands = Commands(self)
        self._commands.serve("set_rung", self._set_rung, report=self._report, host=self.host)
        # Of their own: a disk that hangs must not make the sensors stale.
        self._keeper = self.worker("files", self._keep, self._kept, limit_s=math.inf)
        self.worker(
            "host", self._measure, self._measured, limit_s=math.inf, period_s=_LOAD_PERIOD_S
        )
        # A sensor that hangs is this node's own matter; a restart would not move it.
        self._worker = self.worker(
            "sensors",
            self._observe,
            self._observed,
            limit_s=math.inf,
            period_s=params.sample_period_s,
        )
        self._published_s = self._turned_s = -math.inf
        self._waits = False
        self.steady_timer(DECIDE_PERIOD_S, self._turn)
        self._statuses: dict[str, Status] = {}
        for check, ask in self._checks().items():
            self.diagnostics.add(check, partial(self._asked, check, ask))
        found = ", ".join(sensor.name for sensor in sensors.sensors) or "none"
        self.get_logger().info(f"temperature sensors: {found}")

    def start(self) -> None:
        """The ladder goes on at its rung, or at that of a process which ended a moment ago.

        Nothing is said before the sensors were read, or should have been.
        """
        observer, now_s = self._observer, self._now_s()
        assert observer is not None
        rung = self._verdict.ladder.rung if self._verdict is not None else self._kept_rung()
        self._seen = self._verdict = self._latest = self._news = None
        self._watchdog = self._new_watchdog()
        self._watchdog.ladder.begin(rung, "as before the restart")
        if rung:
            name = self._rungs[rung].name
            self.get_logger().info(f"begins at rung {rung} '{name}', as before the restart")
        self._kept_at = rung, now_s
        self._turns = 0
        # Nobody saw what the load did meanwhile.
        observer.load_changed()
        # Its first turn is none that came late: another node's start may hold up the second.
        self._turned_s, self._waits = now_s, False

    def teardown(self) -> None:
        """Give the devices back."""
        for check in self._checks():
            self.diagnostics.remove(check)
        commands, self._commands = self._commands, None
        if commands is not None:
            commands.close()
        self._worker = self._keeper = None
        self._observer = None
        self._watchdog = self._verdict = None
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            nvml.close()

    def _new_watchdog(self) -> Watchdog:
        params = self.params
        settings = WatchdogSettings(
            required_zones=params.required_zones,
            min_clock_fraction=params.min_clock_fraction,
            expected_power_mode=params.expected_power_mode,
        )
        return Watchdog(Ladder(self._rungs, params.ladder_settings()), settings)

    # Readings: worker ---------------------------------------------------------------------------

    def _observe(self, _: None) -> Observation | None:
        """Read; the executor is woken only for what it should hear at once."""
        observer = self._observer
        assert observer is not None
        if not self.is_active:
            return None
        seen = self._latest = observer.observe(self._now_s())
        memories = observer.memories
        if observer.take_learnt() and memories is not None:
            self._write(self._state_file("boards.json"), board_file.to_json(memories))
        news = (
            [(zone.sensor.name, zone.fault) for zone in seen.zones],
            seen.board.throttle,
            seen.board.over_current_events,
        )
        if news == self._news:
            return None
        self._news = news
        return seen

    def _measure(self, _: None) -> None:
        self._load, self._load_at_s = host_usage(self.params.disk_folder), self._now_s()

    def _measured(self, done: Done[None, None]) -> None:
        if done.error is not None:
            self.fault("host", f"{type(done.error).__name__}: {done.error}")

    # What a restart must not forget ---------------------------------------------------------------

    def _state_file(self, name: str) -> Path:
        folder = self.get_fully_qualified_name().strip("/").replace("/", ".")
        return Path(state_folder(), folder, name)

    def _remembered(self) -> dict[str, BoardMemory]:
        """Of earlier runs; a file that is none is an unknown board."""
        try:
            return board_file.read(self._state_file("boards.json"))
        except ValueError as error:
            self.get_logger().warning(f"the board is learnt anew: {error}")
            return {}

    def _kept_rung(self) -> int:
        """Of a process that ended a short while ago; in ROS time, so a replay has its own."""
        try:
            return rung_file.read(self._state_file("rung.json"), self._rungs, self.now_ns() / 1e9)
        except ValueError as error:
            self.get_logger().warning(f"the ladder begins anew: {error}")
            return 0

    def _keep_rung(self, now_s: float, rung: int) -> None:
        kept, kept_s = self._kept_at
        if rung != kept or (rung and now_s - kept_s >= rung_file.REPEAT_S):
            self._kept_at = rung, now_s
            text = rung_file.to_json(self._rungs[rung], self.now_ns() / 1e9)
            self._write(self._state_file("rung.json"), text)

    def _write(self, path: Path, text: str) -> None:
        """From any thread; of one file the latest counts."""
        keeper = self._keeper
        if keeper is not None:
            self._unwritten[path] = text
            keeper.put(path.name)

    def _keep(self, _: str) -> None:
        while self._unwritten:
            board_file.write(*self._unwritten.popitem())

    def _kept(self, done: Done[str, None]) -> None:
        if done.error is not None:
            self.fault("files", f"what a restart needs is not kept: {done.error}")

    # Decisions: executor ------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self.steady_ns() / 1e9

    def _turn(self) -> None:
        """Decide on the latest reading; where one hangs, time alone makes the last one stale."""
        if not self.is_active:
            return
        now_s = self._now_s()
        late = now_s - self._turned_s > 2.0 * DECIDE_PERIOD_S
        self._turned_s = now_s
        # Where this thread was not run, the sensors' thread was not either: not their fault.
        self._waits = late and not self._waits
        if not self._waits:
            self._turns += 1
            if self._latest is not None or self._turns >= _FIRST_TURNS:
                self._seen = self._latest
                self._decide(now_s)
        if now_s - self._published_s >= PUBLISH_PERIOD_S - DECIDE_PERIOD_S / 2.0:
            self._publish()

    def _observed(self, done: Done[None, Observation]) -> None:
        if done.error is not None:
            self.fault("sensors", f"{type(done.error).__name__}: {done.error}")
        if done.result is not None and self.is_active:
            self._seen, now_s = done.result, self._now_s()
            # What waited for this thread is no news; whether it is stale is for `_turn` to say.
            if now_s - done.result.at_s < DECIDE_PERIOD_S:
                self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        watchdog, observer = self._watchdog, self._observer
        if watchdog is None or observer is None:
            return
        rung = watchdog.ladder.state.rung
        verdict = self._verdict = watchdog.decide(now_s, self._seen)
        state = verdict.ladder
        if state.rung != rung:
            observer.load_changed()
            names = self._rungs[rung].name, self._rungs[state.rung].name
            self.get_logger().warning(
                f"rung {rung} '{names[0]}' -> {state.rung} '{names[1]}' "
                f"({state.cause.name.lower()}: {state.text})"
            )
        self._keep_rung(now_s, state.rung)
        said = (
            state.rung, state.next_rung, state.cause, verdict.sensors_lost, verdict.board.throttle,
            state.override, tuple((z.sensor.name, z.fault) for z in verdict.zones),
        )  # fmt: skip
        if said != self._said:
            self._said = said
            self._publish()

    def _publish(self) -> None:
        verdict = self._verdict
        if verdict is None or not self.is_active:
            return
        self._published_s = self._now_s()
        self._statuses.clear()
        self._states.publish(self._message(verdict))
        stamp = self._stamp(verdict.at_s)
        for zone in verdict.zones[: messages.MAX_ZONES]:
            name = _topic_name(zone.sensor.name)
            if name not in self._temperatures:
                self._temperatures[name] = self.publisher("temperature", host=self.host, zone=name)
            if self._temperatures[name].get_subscription_count():
                self._temperatures[name].publish(messages.temperature(zone, stamp))

    def _message(self, verdict: Verdict) -> ThermalState:
        return messages.thermal_state(
            verdict,
            self._rungs,
            host=self.host,
            stamp=self._stamp,
            horizon_s=WatchdogSettings.horizon_s,
            load=self._host_load(),
        )

    def _stamp(self, steady_s: float) -> Any:
        """ROS time of a moment on the steady clock; 0 for infinity."""
        if not math.isfinite(steady_s):
            return self.stamp(0)
        return self.stamp(max(self.now_ns() + int(steady_s * 1e9) - self.steady_ns(), 0))

    @property
    def _usage(self) -> HostUsage | None:
        """Of the last seconds; None where it cannot be read, as with a disk that hangs."""
        is_fresh = self._now_s() - self._load_at_s < 3.0 * _LOAD_PERIOD_S
        return self._load if is_fresh else None

    def _host_load(self) -> HostLoad:
        nan = math.nan
        load = self._usage or HostUsage(nan, nan, nan, nan, nan, nan)
        return HostLoad(**asdict(load))

    # Inference times ----------------------------------------------------------------------------

    def _on_result(self, result: InspectionResult, arrival_ns: int) -> None:
        watchdog = self._watchdog
        if watchdog is None or not self.is_active:
            return
        arrived_s, origin = self._arrived_s(arrival_ns), result.provenance
        wanted = self.params.inspectors
        mine = result.station in wanted if wanted else origin.host == self.host
        # A frame of the rung before tells nothing about this one.
        if mine and origin.rung == watchdog.ladder.state.rung:
            stages = [stage.duration_ms for stage in origin.stages if stage.name != "queue"]
            if stages:
                watchdog.latency.add(arrived_s, sum(stages))
        if mine:
            watchdog.rate.add(arrived_s, result.station, result.frames_processed)

    def _arrived_s(self, arrival_ns: int) -> float:
        """When it came, on the steady clock; a step of the system's clock moves it little."""
        if self.is_stepped:
            return arrival_ns / 1e9
        ago_s = (time.time_ns() - arrival_ns) / 1e9 if arrival_ns else 0.0
        return self._now_s() - min(max(ago_s, 0.0), _RESULTS_PERIOD_S)

    # Override -----------------------------------------------------------------------------------

    def _set_rung(self, request: SetRung.Request, response: SetRung.Response) -> None:
        watchdog, command = self._watchdog, request.command
        if watchdog is None or not self.is_active:
            raise Refused(Reason.NOT_READY, "the watchdog is not active")
        now_s = self._now_s()
        if request.release:
            watchdog.ladder.release(now_s)
        else:
            if not command.reason:
                raise Refused(Reason.INVALID_ARGUMENT, "command.reason: say why")
            if request.rung >= len(self._rungs):
                text = f"rung {request.rung}; allowed: 0 to {len(self._rungs) - 1}"
                raise Refused(Reason.INVALID_ARGUMENT, text)
            longest = self.params.override_max_s
            if not 0.0 < request.duration_s <= longest:
                text = f"duration_s {request.duration_s:g}; allowed: above 0, up to {longest:g}"
                raise Refused(Reason.INVALID_ARGUMENT, text)
            if self._verdict is not None and self._verdict.sensors_lost:
                raise Refused(Reason.INTERLOCK, self._verdict.sensors_lost)
            who = command.person or command.caller
            until_s = now_s + request.duration_s
            watchdog.ladder.pin(now_s, Override(request.rung, until_s, who, command.reason))
        observer = self._observer
        if observer is not None:
            observer.load_changed()
        if self._verdict is not None:  # else the first reading is on its way
            self._decide(now_s)
        self._report(response)

    def _report(self, response: SetRung.Response) -> None:
        watchdog = self._watchdog
        if watchdog is None:
            return
        state = watchdog.ladder.state
        response.rung = state.rung
        if state.override is not None:
            response.override_until = self._stamp(state.override.until_s)

    # /diagnostics -------------------------------------------------------------------------------

    def _checks(self) -> dict[str, Callable[[], Status]]:
        return {
            "temperature": lambda: node_checks.temperature(self._verdict, self._nvml),
            "ladder": lambda: node_checks.ladder(self._verdict, self._rungs),
            "host": lambda: node_checks.host(self._verdict, self._usage, self.params.disk_folder),
        }

    def _asked(self, check: str, ask: Callable[[], Status]) -> Status:
        """The answer of the last message that was published; the base asks five times a second."""
        if check not in self._statuses:
            self._statuses[check] = ask()
        return self._statuses[check]


def _topic_name(zone: str) -> str:
    """A zone's name as part of a topic: letters, digits and underscores, a letter first."""
    name = re.sub(r"\W+", "_", zone, flags=re.ASCII).strip("_")
    return name if name[:1].isalpha() else f"zone_{name}"


def main() -> int:
    """`ros2 run shopfloor thermal_watchdog`."""
    return run_node(ThermalWatchdogNode)


if __name__ == "__main__":
    raise SystemExit(main())

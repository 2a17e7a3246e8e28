"""vibration_monitor: blocks in, features per window and health per machine out."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from rclpy.publisher import Publisher
from rclpy.time import Time
from shopfloor_msgs.msg import Tachometer, VibrationBlock
from shopfloor_msgs.srv import AcknowledgeAlert, LearnBaseline

from shopfloor.ros.command_service import Commands
from shopfloor.ros.commands import Reason, Refused
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.parameters import configuration_sha256
from shopfloor.ros.paths import parameter_file, share_folder, state_folder
from shopfloor.ros.timing import Rolling
from shopfloor.ros.worker import Done, Worker
from shopfloor.vibration import messages
from shopfloor.vibration.analysis import Analyser, Speed, WindowFeatures
from shopfloor.vibration.baseline import MIN_WINDOWS, BaselineAction, BaselineState
from shopfloor.vibration.clock import ClockLimits
from shopfloor.vibration.diagnosis import DiagnosisLimits
from shopfloor.vibration.health import HealthLimits, Tier
from shopfloor.vibration.machines import load_machines
from shopfloor.vibration.monitoring import BlockRefused, Monitoring, Report, Settings
from shopfloor.vibration.parameters import VibrationMonitorParameters
from shopfloor.vibration.severity import load_zone_table
from shopfloor.vibration.signal import Status as SignalStatus
from shopfloor.vibration.signal import Window
from shopfloor.vibration.validation import Limits

_SILENCE_CHECK_S = 0.5
_POLL_S = 0.1
"""Blocks wait so long at the most; a window takes a second to fill."""

_MAX_WAITING = 256
"""Windows that may wait for the worker; beyond it the oldest is dropped and counted."""

Batch = list[tuple[Window, Speed]]


class VibrationMonitorNode(ShopfloorNode[VibrationMonitorParameters]):
    """Cuts blocks into windows, analyses them on its worker in batches, publishes."""

    PARAMETERS = VibrationMonitorParameters

    def __init__(self, name: str = "vibration_monitor", **node_arguments: Any) -> None:
        self._monitoring: Monitoring | None = None
        self._commands: Commands | None = None
        self._waiting: deque[tuple[Window, Speed]] = deque(maxlen=_MAX_WAITING)
        self._is_busy = False
        super().__init__(name, **node_arguments)

    # Lifecycle ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load machines and zones; the worker loads what learning needs."""
        params = self.params
        config = share_folder() / "config" / "vibration"
        machines_file = params.machines_file or str(config / "machines.yaml")
        zones_file = params.zones_file or str(config / "iso20816_3_zones.yaml")
        machines = load_machines(parameter_file(machines_file))
        zones = load_zone_table(parameter_file(zones_file))
        for machine in machines.values():
            if machine.zone_key is not None and machine.zone_key not in zones:
                raise ValueError(f"machine '{machine.machine_id}': no zones for {machine.zone_key}")
        self._analyser = Analyser(machines, zones, params.bands, _signal_limits(params))
        name = self.get_fully_qualified_name().strip("/").replace("/", ".")
        folder = Path(params.baseline_folder or state_folder() / name / "baselines")
        self._monitoring = Monitoring(_settings(params, folder), machines)
        self._origin = messages.Origin(
            configuration_sha256(params), self.host, self.get_fully_qualified_name()
        )
        self._is_system_time = not self.get_parameter("use_sim_time").value
        self._batch_ms = Rolling()
        self._waiting.clear()
        self._features = self.publisher("vibration_features")
        self._health: dict[str, Publisher] = {}
        for machine_id in machines:
            self._health_publisher(machine_id)
        self._worker: Worker[Batch, list[WindowFeatures]] = self.worker(
            "features", self._analyse, self._analysed
        )
        self._is_busy = True
        self._worker.put([])
        self._commands = Commands(self)
        monitor = self.get_name()
        self._commands.serve(
            "learn_baseline", self._learn, state_of=self._baseline_state, monitor=monitor
        )
        self._commands.serve("acknowledge_alert", self._acknowledge, monitor=monitor)
        # Speeds first: the windows that the blocks complete ask for them.
        self.poll(_POLL_S, tachometer=self._on_speed, vibration_block=self._on_block)
        self.steady_timer(_SILENCE_CHECK_S, self._look_for_silence)
        self.diagnostics.add("signals", self._signals_status)
        self.diagnostics.add("machines", self._machines_status)

    def teardown(self) -> None:
        """Forget the streams; baselines lie on disk."""
        self.diagnostics.remove("signals")
        self.diagnostics.remove("machines")
        if self._commands is not None:
            self._commands.close()
        self._commands = None
        self._monitoring = None

    # Blocks and speeds --------------------------------------------------------------------------

    def _on_speed(self, message: Tachometer, _: int) -> None:
        if not self.is_active or self._monitoring is None:
            return
        stamp_ns = Time.from_msg(message.header.stamp).nanoseconds
        try:
            self._monitoring.hear_speed(
                message.machine_id, stamp_ns, message.speed_rpm, message.source
            )
        except ValueError as error:
            self.fault("speed refused", str(error))

    def _on_block(self, message: VibrationBlock, arrival_ns: int) -> None:
        if not self.is_active or self._monitoring is None:
            return
        if not message.sensor_id or not message.machine_id:
            sequence = message.sequence
            self.fault("block without sensor or machine", f"sequence {sequence}")
            return
        try:
            # A bag's time is not the middleware's.
            arrival_ns = arrival_ns if self._is_system_time and arrival_ns else self.now_ns()
            windows = self._monitoring.add(messages.block(message, arrival_ns), self.steady_ns())
        except BlockRefused as error:
            self.fault("block refused", str(error))
            return
        for window in windows:
            if len(self._waiting) == _MAX_WAITING:
                self.fault("window dropped", f"{_MAX_WAITING} windows wait for the worker")
            self._waiting.append((window, self._monitoring.speed(window)))
        self._feed()

    # Worker -------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """All windows that wait, as one batch, when the worker is free."""
        if self._waiting and not self._is_busy:
            self._is_busy = True
            batch = list(self._waiting)
            self._waiting.clear()
            self._worker.put(batch)

    def _analyse(self, batch: Batch) -> list[WindowFeatures]:
        if not batch:
            import sklearn.covariance  # noqa: F401  takes a second; the executor has none to spare
        return self._analyser.analyse([w for w, _ in batch], [s for _, s in batch])

    def _analysed(self, done: Done[Batch, list[WindowFeatures]]) -> None:
        self._is_busy = False
        if done.error is not None or done.result is None:
            self.fault("analysis", f"{len(done.item)} windows: {done.error!r}")
        elif done.item and self.is_active and self._monitoring is not None:
            batch_ms = (done.finished_ns - done.started_ns) / 1e6
            self._batch_ms.add(batch_ms)
            stages = {"features": batch_ms / max(len(done.item), 1)}
            for found in done.result:
                bands = self.params.bands
                self._features.publish(messages.features(found, bands, self._origin, stages))
                self._publish(self._monitoring.judge(found, self.now_ns()), found, stages)
        self._feed()

    def _publish(
        self, report: Report, found: WindowFeatures | None, stages_ms: dict[str, float]
    ) -> None:
        stamp_ns = self.now_ns()
        if found is not None:
            window = found.window
            stamp_ns = window.stamp_ns + round(window.duration_s * 1e9)
        self._health_publisher(report.machine_id).publish(
            messages.machine_health(
                report.machine_id,
                report.sensor_id,
                report.health,
                report.book.alert,
                report.work_order,
                stamp_ns,
                self._origin,
                stages_ms,
            )
        )
        sensor = self._monitoring.sensors.get(report.sensor_id) if self._monitoring else None
        while sensor is not None and sensor.health.problems:
            self.fault("baseline", sensor.health.problems.pop(0))

    def _health_publisher(self, machine_id: str) -> Publisher:
        if machine_id not in self._health:
            # A topic name allows less than a machine's id.
            name = "".join(c if c.isascii() and c.isalnum() else "_" for c in machine_id)
            name = f"m{name}" if name[:1].isdigit() else name
            self._health[machine_id] = self.publisher("machine_health", machine=name)
        return self._health[machine_id]

    def _look_for_silence(self) -> None:
        if self.is_active and self._monitoring is not None:
            for report in self._monitoring.silences(self.steady_ns(), self.now_ns()):
                self._publish(report, None, {})

    # Services -----------------------------------------------------------------------------------

    def _baseline_state(self, request: LearnBaseline.Request) -> int:
        if self._monitoring is None:
            return int(BaselineState.UNKNOWN)
        return int(self._monitoring.baseline_state(request.machine_id, request.speed_bin))

    def _learn(self, request: LearnBaseline.Request, response: LearnBaseline.Response) -> None:
        if not self.is_active or self._monitoring is None:
            raise Refused(Reason.NOT_READY, "the monitor is not active")
        try:
            action = BaselineAction(request.action)
        except ValueError:
            text = f"action {request.action}; allowed: 1 to 3"
            raise Refused(Reason.INVALID_ARGUMENT, text) from None
        try:
            response.windows_learned = self._monitoring.change_baseline(
                request.machine_id, action, request.speed_bin, request.windows
            )
        except KeyError:
            text = f"no blocks of machine '{request.machine_id}' yet"
            raise Refused(Reason.UNKNOWN_TARGET, text) from None
        except ValueError as error:
            raise Refused(Reason.INVALID_ARGUMENT, str(error)) from error
        except RuntimeError as error:
            raise Refused(Reason.INVALID_TRANSITION, str(error)) from error
        response.windows_needed = MIN_WINDOWS

    def _acknowledge(
        self, request: AcknowledgeAlert.Request, response: AcknowledgeAlert.Response
    ) -> None:
        if not self.is_active or self._monitoring is None:
            raise Refused(Reason.NOT_READY, "the monitor is not active")
        if not request.command.person:
            raise Refused(Reason.INVALID_ARGUMENT, "an alert is acknowledged by a person")
        if not 0 <= request.silence_s < float("inf"):
            raise Refused(Reason.INVALID_ARGUMENT, f"silence_s {request.silence_s}; at least 0")
        now_ns = self.now_ns()
        for machine_id, book in self._monitoring.books.items():
            if book.alert is not None and book.alert.alert_id == request.alert_id:
                book.acknowledge(
                    request.alert_id,
                    request.command.person,
                    request.silence_s,
                    request.false_alarm,
                    now_ns,
                )
                self._publish(self._monitoring.report(machine_id, now_ns), None, {})
                return
        raise Refused(Reason.UNKNOWN_TARGET, f"no open alert '{request.alert_id}'")

    # Diagnostics --------------------------------------------------------------------------------

    def _signals_status(self) -> Status:
        monitoring = self._monitoring
        if monitoring is None or not self.is_active:
            return Status(Level.STALE, "not active")
        values: dict[str, object] = {
            "windows": monitoring.windows,
            "windows UNKNOWN": monitoring.unknown_windows,
            "sensors": len(monitoring.sensors),
            "windows waiting": len(self._waiting),
            "batch ms p50": self._batch_ms.percentile(50),
            "batch ms p99": self._batch_ms.percentile(99),
            **{f"defect {name}": count for name, count in sorted(monitoring.defects.items())},
        }
        if not monitoring.sensors:
            return Status(Level.STALE, "no blocks yet", values)
        bad = [health.reason for _, health in monitoring.missing.values()]
        bad += [
            f"{name}: {sensor.latest.quality.reason}"
            for name, sensor in monitoring.sensors.items()
            if sensor.latest is not None and sensor.latest.quality.status is not SignalStatus.VALID
        ]
        if bad:
            everyone = len(monitoring.sensors) + len(monitoring.missing)
            level = Level.ERROR if len(bad) == everyone else Level.WARN
            return Status(level, "; ".join(bad[:3]), values)
        waiting = [name for name, s in monitoring.sensors.items() if s.latest is None]
        if waiting:
            return Status(Level.STALE, f"no window yet of {', '.join(waiting[:3])}", values)
        return Status(Level.OK, f"{len(monitoring.sensors)} sensors, all trusted", values)

    def _machines_status(self) -> Status:
        monitoring = self._monitoring
        if monitoring is None or not self.is_active:
            return Status(Level.STALE, "not active")
        tiers: dict[str, Tier] = {}
        values: dict[str, object] = {}
        for name, sensor in monitoring.sensors.items():
            if sensor.latest is None:
                continue
            tiers[sensor.machine_id] = max(
                tiers.get(sensor.machine_id, Tier.UNKNOWN), sensor.latest.tier
            )
            state = BaselineState(sensor.latest.baseline).name.lower()
            values[name] = f"{sensor.latest.tier.name}: {sensor.latest.reason} (baseline {state})"
        silent = sorted(set(monitoring.machines) - set(tiers))
        if silent:
            values["not heard"] = ", ".join(silent)
        for name, (machine_id, health) in monitoring.missing.items():
            values[name] = f"{health.tier.name}: {health.reason}"
            tiers[machine_id] = tiers.get(machine_id, Tier.UNKNOWN)
        asks = [f"{machine}: {tier.name}" for machine, tier in tiers.items() if tier > Tier.LOG]
        if asks:
            return Status(Level.WARN, "; ".join(asks), values)
        unknown = [machine for machine, tier in tiers.items() if tier is Tier.UNKNOWN]
        unknown += [machine for machine in silent if machine not in tiers]
        if unknown or not tiers:
            return Status(Level.STALE, f"not known: {', '.join(unknown) or 'no machine'}", values)
        return Status(Level.OK, f"{len(tiers)} machines as learned", values)


def _signal_limits(params: VibrationMonitorParameters) -> Limits:
    return Limits(
        bias_low_v=params.bias_low_v, bias_high_v=params.bias_high_v, mains_hz=params.mains_hz
    )


def _settings(params: VibrationMonitorParameters, folder: Path) -> Settings:
    return Settings(
        window_s=params.window_s,
        bands_hz=params.bands,
        clock=ClockLimits(
            jitter_s=params.jitter_ms / 1e3, late_s=params.late_s, drift_ppm=params.drift_ppm
        ),
        health=HealthLimits(
            act_db=params.act_db,
            work_order_db=params.work_order_db,
            persistence=params.persistence_windows,
            watch_windows=params.watch_windows,
            speed_bin_rpm=params.speed_bin_rpm,
            learn_windows=params.learn_windows,
            learn_automatically=params.learn_automatically,
        ),
        diagnosis=DiagnosisLimits(
            bearing_margin=params.bearing_margin, windows=params.diagnosis_windows
        ),
        baseline_folder=folder,
        silent_s=params.silent_s,
        speed_max_age_s=params.speed_max_age_s,
        max_sensors=params.max_sensors,
    )


def main() -> int:
    """`ros2 run shopfloor vibration_monitor`."""
    return run_node(VibrationMonitorNode)


if __name__ == "__main__":
    raise SystemExit(main())

"""line_simulator: parts on a belt before a simulated camera, and the truth about each of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import Any

from rclpy.time import Time
from shopfloor_msgs.msg import BeltEncoder, Detection, PartExit, PartTruth, RejectCommand

from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.frame_socket import FrameSocketError, usual_path
from shopfloor.ros.loop_thread import LoopThread
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.sim.camera_device import CameraDevice
from shopfloor.sim.faults import Timetable, parse_fault
from shopfloor.sim.line import BeltSettings, Line, PictureQueue, Trigger
from shopfloor.sim.node_board import SimulatedBoard
from shopfloor.sim.parameters import LineSimulatorParameters
from shopfloor.sim.parts import CLASS_NAMES
from shopfloor.sim.reject_output import OutputSettings, RejectOutput, Window
from shopfloor.sim.scene import Scene
from shopfloor.sim.simulated_camera import SimulatedCamera

_BATCH_BYTES = 48
_SLICE_S = 0.05
"""The belt's thread looks at faults and at its end this often."""

_SETTLE_S = 0.3
"""Where one listener was found, the others are not far."""

_ENCODER_PERIOD_S = 0.02

_QUIET_S = 0.02
"""After a trigger nothing is rendered for this long (or a quarter of the period)."""


class LineSimulatorNode(ShopfloorNode[LineSimulatorParameters]):
    """Runs the belt on a thread of its own while it is active."""

    PARAMETERS = LineSimulatorParameters

    def __init__(self, name: str = "line_simulator", **node_arguments: Any) -> None:
        self._pictures: PictureQueue | None = None
        self._camera: SimulatedCamera | None = None
        self._line: Line | None = None
        self._loop = LoopThread("belt")
        self._defective = 0
        self._output: RejectOutput | None = None
        self._left: Counter[str] = Counter()
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Check everything and start to render ahead."""
        params = self.params
        if len(params.batch.encode()) > _BATCH_BYTES:
            raise NodeError(f"batch: {params.batch!r} is longer than {_BATCH_BYTES} bytes")
        started = datetime.fromtimestamp(self.now_ns() / 1e9, timezone.utc)
        self._settings = BeltSettings(
            parts_per_minute=params.parts_per_minute,
            defect_rate=params.defect_rate,
            kinds=params.kinds,
            seed=params.seed,
            batch=params.batch or started.strftime("%m%d%H%M%S"),
            distinct_parts=params.distinct_parts,
            parts=params.parts,
        )
        self._defective = 0
        self._truth = self.publisher("part_truth")
        if params.reject_distance_m:
            self._exits = self.publisher("part_exit")
            self._encoder = self.publisher("belt_encoder")
            self.subscription("reject_command", self._on_command)
            self.steady_timer(_ENCODER_PERIOD_S, self._read_encoder)
        self._pictures = PictureQueue(self._settings, Scene(params.width, params.height))
        self._pictures.start()
        if params.board_folder:
            SimulatedBoard(self, params.board_folder, lambda: self.params.hall_celsius)
        self.diagnostics.add("belt", self._belt_status)

    def start(self) -> None:
        """Plug the camera in and start the belt."""
        device = CameraDevice(self.params.address or usual_path())
        self._camera = SimulatedCamera(device, self._timetable())
        try:
            self._camera.update(self.steady_ns())
        except FrameSocketError as error:
            raise NodeError(str(error)) from error
        self._line = None
        self._output = self._make_output()
        self._started_ns = self.steady_ns()
        self._heard_ns: int | None = None
        self._loop.start(self._run)

    def stop(self) -> None:
        """Stop the belt and unplug the camera."""
        self._loop.stop()
        if self._camera is not None:
            self._camera.unplug()
            self._camera = None

    def teardown(self) -> None:
        """Forget the parts."""
        self.diagnostics.remove("belt")
        pictures, self._pictures = self._pictures, None
        if pictures is not None:
            pictures.stop()

    def parameters_changed(
        self, old: LineSimulatorParameters, new: LineSimulatorParameters
    ) -> None:
        """A new timetable of faults starts now."""
        camera = self._camera
        if camera is not None and new.faults != old.faults:
            camera.set_timetable(self._timetable())

    def _make_output(self) -> RejectOutput | None:
        params = self.params
        if not params.reject_distance_m:
            return None
        settings = OutputSettings(
            distance_m=params.reject_distance_m,
            speed_m_per_s=params.belt_speed_m_per_s,
            wobble=params.belt_speed_wobble,
            pulses_per_m=params.encoder_pulses_per_m,
            encoder_bits=params.encoder_bits,
            reject_unknown=params.unknown_part == "reject",
        )
        return RejectOutput(settings, self.steady_ns())

    def _read_encoder(self) -> None:
        output = self._output
        if output is None or not self.is_active:
            return
        reading = BeltEncoder(valid=True, count=output.encoder_count(self.steady_ns()))
        reading.header.stamp = self.stamp(self.now_ns())
        reading.header.frame_id = "belt"
        self._encoder.publish(reading)

    def _on_command(self, command: RejectCommand) -> None:
        output = self._output
        if output is None or command.action not in (
            RejectCommand.ACTION_REJECT,
            RejectCommand.ACTION_PASS,
        ):
            return
        opens, closes = command.encoder_open, command.encoder_close
        if not command.by_encoder:
            opens, closes = (
                Time.from_msg(stamp).nanoseconds
                for stamp in (command.window_open, command.window_close)
            )
        rejects = command.action == RejectCommand.ACTION_REJECT
        output.command(
            Window(command.number, rejects, command.by_encoder, opens, closes, self.steady_ns())
        )

    def _timetable(self) -> Timetable:
        return Timetable(map(parse_fault, self.params.faults), self.steady_ns())

    # On the belt's thread -----------------------------------------------------------------------

    def _run(self) -> None:
        camera, pictures = self._camera, self._pictures
        assert camera is not None and pictures is not None
        while not self._loop.stopping.is_set():
            try:
                self._step(camera, pictures)
            except Exception as error:  # the belt must not end in silence
                self.fault("belt", f"{type(error).__name__}: {error}")
                self._loop.stopping.wait(1.0)

    def _step(self, camera: SimulatedCamera, pictures: PictureQueue) -> None:
        now_ns = self.steady_ns()
        camera.update(now_ns)
        line = self._line
        if line is None:
            if self.params.wait_for_camera and not camera.counters().readers:
                self._loop.stopping.wait(_SLICE_S)
                return
            if not self._is_heard(now_ns):
                self._loop.stopping.wait(_SLICE_S)
                return
            # the first part waits for its picture, so that the belt starts with a part
            if pictures.wait_ready(1, _SLICE_S):
                self._line = Line(self._settings, pictures, self.steady_ns())
            return
        self._let_out(now_ns)
        trigger = line.poll(now_ns)
        if trigger is not None:
            self._expose(camera, trigger)
            # rendering shares the interpreter with the sending thread: the frame goes first
            self._loop.stopping.wait(min(_QUIET_S, self._settings.period_ns / 4e9))
        pictures.refill()
        wait_s = _SLICE_S if line.is_done else (line.due_ns - self.steady_ns()) / 1e9
        self._loop.stopping.wait(min(max(wait_s, 0.0), _SLICE_S))

    def _let_out(self, now_ns: int) -> None:
        output = self._output
        if output is None:
            return
        to_ros_ns = self.now_ns() - self.steady_ns()
        for part in output.poll(now_ns, to_ros_ns):
            self._left["rejected" if part.rejected else "went on"] += 1
            message = PartExit(part_id=part.part_id, rejected=part.rejected, command=part.number)
            message.header.stamp = self.stamp(part.at_ns + to_ros_ns)
            message.header.frame_id = self.params.camera
            self._exits.publish(message)

    def _is_heard(self, now_ns: int) -> bool:
        """Whether the truth has its listeners, as far as it is worth to wait for them."""
        if self._heard_ns is None and self._truth.get_subscription_count():
            self._heard_ns = now_ns
        if self._heard_ns is not None:
            return now_ns - self._heard_ns >= _SETTLE_S * 1e9
        return now_ns - self._started_ns >= self.params.listener_wait_s * 1e9

    def _expose(self, camera: SimulatedCamera, trigger: Trigger) -> None:
        part = trigger.part
        ros_ns = self.now_ns() - (self.steady_ns() - trigger.due_ns)
        sequence = camera.expose(
            part.picture.image,
            part_id=part.plan.part_id,
            trigger=trigger.number,
            steady_ns=trigger.due_ns,
            ros_ns=ros_ns,
        )
        self._defective += part.picture.defective
        if self._output is not None:
            self._output.put(part.plan.part_id, trigger.due_ns)
        self._truth.publish(self._truth_message(trigger, sequence, ros_ns))

    def _truth_message(self, trigger: Trigger, sequence: int, ros_ns: int) -> PartTruth:
        picture, plan = trigger.part.picture, trigger.part.plan
        message = PartTruth(
            part_id=plan.part_id,
            part_kind=plan.kind,
            frame_sequence=sequence,
            defective=picture.defective,
            defects=[
                Detection(
                    class_id=class_id,
                    class_name=CLASS_NAMES[class_id],
                    score=1.0,
                    x_px=x1,
                    y_px=y1,
                    width_px=x2 - x1,
                    height_px=y2 - y1,
                )
                for (x1, y1, x2, y2), class_id in zip(
                    picture.boxes.tolist(), picture.classes.tolist(), strict=True
                )
            ],
        )
        message.header.stamp = self.stamp(ros_ns)
        message.header.frame_id = self.params.camera
        return message

    # On the executor thread ---------------------------------------------------------------------

    def _belt_status(self) -> Status:
        camera, line = self._camera, self._line
        if camera is None:
            return Status(Level.STALE, "the belt stands still")
        counters = camera.counters()
        values: dict[str, object] = {
            "parts": line.triggers if line else 0,
            "parts with defects": self._defective,
            "parts unseen by the camera": camera.withheld,
            "empty places on the belt": line.empty_places if line else 0,
            "cameras connected": counters.readers,
            "frames sent": counters.sent,
            "frames dropped by slow cameras": counters.dropped,
            "faults": ", ".join(sorted(camera.faults)) or "none",
            **{f"parts that {what}": count for what, count in self._left.items()},
        }
        if line is None:
            missing = "somebody to listen to the truth" if counters.readers else "a camera"
            return Status(Level.WARN, f"the first part waits for {missing}", values)
        if line.is_done:
            return Status(Level.OK, f"done: all {self.params.parts} parts passed", values)
        if camera.faults:
            return Status(Level.WARN, f"simulated fault: {values['faults']}", values)
        if not counters.readers:
            return Status(Level.WARN, "no camera is connected", values)
        return Status(Level.OK, f"{self.params.parts_per_minute:g} parts a minute", values)


def main() -> None:
    """`ros2 run shopfloor line_simulator`."""
    raise SystemExit(run_node(LineSimulatorNode))


if __name__ == "__main__":
    main()

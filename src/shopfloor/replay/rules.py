"""What of a message is compared, and how closely: one table for all types.

A path names a field at any depth, list indices left out: `provenance.stages`. A row covers the
field and all that lies below it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OF_THE_RUN = ("load",)
"""What says how busy the computer is that runs the replay: neither compared nor hashed."""

OF_THE_TIME = (
    # How long it took, and when it was heard: another day on another computer.
    "provenance.stages", "provenance.host", "provenance.engine", "provenance.node",
    "provenance.configuration_sha256", "provenance.board_temperature_celsius",
    "frame_age_ms", "age_ms", "latency_ms", "decided_stamp", "received_stamp", "deadline",
    # Counted since the node was started.
    "frames_received", "frames_processed", "dropped_superseded", "dropped_stale",
    "dropped_stride", "dropped_invalid", "baseline_windows", "steps_down", "steps_up",
)  # fmt: skip
"""Not compared with the bag; two replays have them equal."""


@dataclass(frozen=True)
class Tolerance:
    """Equal when the distance is at most `absolute`, or `relative` of the larger one."""

    absolute: float = 0.0
    relative: float = 0.0

    def holds(self, before: float, now: float) -> bool:
        """Whether the two count as equal; NaN equals NaN."""
        if before == now or (before != before and now != now):
            return True
        return abs(before - now) <= max(self.absolute, self.relative * max(abs(before), abs(now)))


@dataclass(frozen=True)
class Rule:
    """How one type is compared.

    key: fields that tell which message of the replay answers which of the bag.
    part: the field that a person knows the thing by.
    tolerances: by path; what is not named is compared exactly, floats to their last bits of noise.
    ignored_where: a flag of the message, and what is not compared where it is set.
    changes: where it is set, messages are states that come by a timer. Only the succession of
        different values of these fields is compared, not each message.
    only: a field and the values of it with which messages are compared; empty: all of them.
    labelled: a list of names and the list of their numbers, in an order of no meaning.
    by_clock: a field above 0 in what was searched for until a clock said stop. With one of these in
        the bag the topic is not compared: nothing could find the same again.
    """

    key: tuple[str, ...]
    part: str
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    ignored_where: tuple[str, tuple[str, ...]] = ("", ())
    changes: tuple[str, ...] = ()
    only: tuple[str, tuple[int, ...]] = ("", ())
    labelled: tuple[str, str] | None = None
    by_clock: str = ""


FLOAT_NOISE = Tolerance(1e-9, 1e-5)
"""float32 fields, and sums in another order on another processor."""

_SCORE = Tolerance(0.05)
_PIXELS = Tolerance(1.5)
_BOX = {
    f"{whole}.{name}": _PIXELS
    for whole in ("detections", "detection")
    for name in ("x_px", "y_px", "width_px", "height_px")
}

RULES: dict[str, Rule] = {
    # Frames in a bag are JPEG, the inspector may have seen them raw: scores and edges move a bit.
    "inspection_result": Rule(
        ("header.frame_id", "header.stamp"), "part_id",
        {"score": _SCORE, "detections.score": _SCORE, "quality.sharpness": Tolerance(1.0, 0.5),
         "quality": Tolerance(1.0, 0.05), **_BOX},
        ignored=("reason",),
    ),
    "suspect_crop": Rule(
        ("header.frame_id", "header.stamp", "crop_index"), "part_id",
        {"detection.score": _SCORE, "crop_x_px": _PIXELS, "crop_y_px": _PIXELS,
         "crop_width_px": _PIXELS, "crop_height_px": _PIXELS, "margin_px": _PIXELS, **_BOX},
        ignored=("image.data",),
    ),
    "detail_result": Rule(
        ("header.frame_id", "header.stamp", "crop_index"), "part_id",
        {"detection.score": _SCORE, "class_scores": _SCORE, "length_mm": Tolerance(0.05, 0.05),
         "width_mm": Tolerance(0.05, 0.05), **_BOX},
        # Best first: the order of classes that nobody sees in the crop is noise.
        ignored=("reason",), labelled=("class_names", "class_scores"),
    ),
    "part_verdict": Rule(
        ("part_id", "revision"), "part_id",
        {"evidence.score": _SCORE},
        # In words, with numbers that the tolerances above allow to differ. When the part is at the
        # output is a forecast from the belt's speed at that moment; reject_command says the place.
        ignored=("reasons", "evidence.reason", "evidence.provenance", "evidence.received_stamp",
                 "reject_stamp"),
    ),
    # A count is what the encoder resolves, and the sum of doubles may fall on either side of it.
    "reject_command": Rule(
        ("header.stamp", "part_id"), "part_id",
        {"encoder_open": Tolerance(1.0), "encoder_close": Tolerance(1.0)},
        ignored=("reason", "number"),
        ignored_where=("by_encoder", ("window_open", "window_close")),
    ),
    "vibration_features": Rule(("sensor_id", "header.stamp"), "sensor_id"),
    "machine_health": Rule(
        ("machine_id", "header.stamp"), "machine_id", ignored=("alert_id", "alert_since")
    ),
    "thermal_state": Rule(("host",), "host", changes=("rung", "next_rung", "cause")),
    "line_state": Rule(("line",), "line", changes=("state", "mode")),
    "plan": Rule(("version",), "version", by_clock="solve_ms"),
    # What the graph and commands have caused: states of machines, defect stops, thermal derates,
    # maintenance, holds and pins. Other events are of plans, which are compared themselves.
    "plan_events": Rule(
        ("kind", "machine_id", "job_id", "operation_id"), "machine_id",
        only=("kind", (1, 2, 3, 4, 6, 7, 8, 9)),
        ignored=("header.stamp", "sequence", "text"),
    ),
}  # fmt: skip

DEFAULT_RULE = Rule(("header.stamp",), "header.frame_id")
"""For types that the table does not name."""


def covers(paths: tuple[str, ...], path: str) -> bool:
    """Whether one of `paths` is `path`, or the whole of which it is a part, at any depth."""
    return any(f".{path}.".find(f".{known}.") >= 0 for known in paths)

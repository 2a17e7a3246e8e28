"""Between the core's dataclasses and the messages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.time import Time
from shopfloor_msgs.msg import (
    AxisFeatures,
    BandPower,
    HealthContribution,
    MachineHealth,
    Provenance,
    SignalQuality,
    SpectralLine,
    StageTime,
    Tachometer,
    VibrationBlock,
    VibrationFeatures,
)

from shopfloor.vibration.alerts import Alert
from shopfloor.vibration.analysis import LINE_NAMES, ORDERS, WindowFeatures
from shopfloor.vibration.bearing import LINES
from shopfloor.vibration.health import Health
from shopfloor.vibration.signal import Block, Quality, Unit

_MAX_SAMPLES = 1_048_576
_TEXT_BYTES = 254


@dataclass(frozen=True)
class Origin:
    """What all results of one configured node have in common."""

    configuration_sha256: str
    host: str
    node: str

    def provenance(self, stages_ms: dict[str, float]) -> Provenance:
        """Where a result came from; no model was used."""
        return Provenance(
            engine="numpy, scipy",
            precision="float32",
            configuration_sha256=self.configuration_sha256,
            stages=[StageTime(name=name, duration_ms=ms) for name, ms in stages_ms.items()],
            board_temperature_celsius=math.nan,
            host=self.host,
            node=self.node,
        )


def text(value: str, limit: int = _TEXT_BYTES) -> str:
    """At most `limit` bytes of UTF-8."""
    return value.encode()[:limit].decode(errors="ignore")


def block(message: VibrationBlock, arrival_ns: int) -> Block:
    """The core's block, over the message's memory.

    arrival_ns: taken where the message does not say when it arrived. Sizes that contradict each
    other give an array that does not fit its channels, which the stream reports.
    """
    channels = tuple(message.channels)
    data = np.frombuffer(message.data, np.float32)
    samples = message.samples_per_channel
    fits = channels and samples and len(data) == len(channels) * samples
    data = data.reshape(len(channels), samples) if fits else np.empty((0, len(data)), np.float32)
    try:
        unit = Unit(message.unit)
    except ValueError:
        unit = Unit.UNKNOWN
    received = Time.from_msg(message.received_stamp).nanoseconds
    return Block(
        machine_id=message.machine_id,
        sensor_id=message.sensor_id,
        sequence=message.sequence,
        stamp_ns=Time.from_msg(message.header.stamp).nanoseconds,
        received_ns=received or arrival_ns,
        sample_rate_hz=message.sample_rate_hz,
        channels=channels,
        unit=unit,
        data=data,
        full_scale=message.full_scale if message.full_scale > 0 else math.nan,
        bias_v=tuple(message.bias_v),
        frame_id=message.header.frame_id,
    )


def block_message(made: Block) -> VibrationBlock:
    """The message of a block. Raises ValueError where it is larger than a message may be."""
    if made.data.size > _MAX_SAMPLES:
        raise ValueError(f"a block of {made.data.size} samples; at most {_MAX_SAMPLES} are allowed")
    message = VibrationBlock(
        machine_id=made.machine_id,
        sensor_id=made.sensor_id,
        sequence=made.sequence,
        sample_rate_hz=made.sample_rate_hz,
        channels=list(made.channels),
        unit=int(made.unit),
        full_scale=made.full_scale,
        samples_per_channel=made.data.shape[1],
    )
    message.header.stamp = Time(nanoseconds=made.stamp_ns).to_msg()
    message.header.frame_id = made.frame_id
    message.received_stamp = Time(nanoseconds=made.received_ns).to_msg()
    message.bias_v.extend(made.bias_v)
    # The message's own array: assigning an ndarray would cost its every element.
    message.data.frombytes(np.ascontiguousarray(made.data, np.float32).tobytes())
    return message


def tachometer(made: Block, speed_rpm: float, source: int) -> Tachometer:
    """The shaft speed that came with a block, stamped in its middle."""
    duration_ns = round(made.data.shape[1] / made.sample_rate_hz * 1e9)
    message = Tachometer(
        machine_id=made.machine_id,
        source=source,
        speed_rpm=speed_rpm,
        speed_error_rpm=math.nan,
        load_percent=math.nan,
    )
    message.header.stamp = Time(nanoseconds=made.stamp_ns + duration_ns // 2).to_msg()
    return message


def quality(found: Quality) -> SignalQuality:
    """Whether a signal can be trusted."""
    return SignalQuality(
        status=int(found.status),
        defects=int(found.defects),
        reason=text(found.reason),
        nan_fraction=found.nan_fraction,
        saturated_fraction=found.saturated_fraction,
        gap_ms=found.gap_ms,
        clock_offset_s=found.clock_offset_s,
        clock_drift_ppm=found.clock_drift_ppm,
    )


def features(
    found: WindowFeatures,
    bands_hz: tuple[tuple[float, float], ...],
    origin: Origin,
    stages_ms: dict[str, float],
) -> VibrationFeatures:
    """The features of one window."""
    window = found.window
    message = VibrationFeatures(
        machine_id=window.machine_id,
        sensor_id=window.sensor_id,
        first_sequence=window.first_sequence,
        last_sequence=window.last_sequence,
        window_s=window.duration_s,
        sample_rate_hz=window.sample_rate_hz,
        unit=int(window.unit),
        speed_rpm=found.speed.rpm,
        speed_source=int(found.speed.source),
        quality=quality(found.quality),
        axes=_axes(found, bands_hz),
        provenance=origin.provenance(stages_ms),
    )
    message.header.stamp = Time(nanoseconds=window.stamp_ns).to_msg()
    message.header.frame_id = window.frame_id
    return message


def _axes(found: WindowFeatures, bands_hz: tuple[tuple[float, float], ...]) -> list[AxisFeatures]:
    # Plain lists once: numpy scalars one by one cost several times as much.
    basic = found.basic
    rms, peak, crest = basic.rms.tolist(), basic.peak.tolist(), basic.crest_factor.tolist()
    kurtosis, skewness = basic.kurtosis.tolist(), basic.skewness.tolist()
    velocity, bands = found.velocity_rms_mm_s.tolist(), basic.bands.tolist()
    lines = _lines(found)
    names = [f"{low:g}-{high:g} Hz" for low, high in bands_hz]
    return [
        AxisFeatures(
            channel=channel,
            quality=quality(found.channel_quality[k]),
            rms=rms[k],
            peak=peak[k],
            crest_factor=crest[k],
            kurtosis=kurtosis[k],
            skewness=skewness[k],
            velocity_rms_mm_s=velocity[k],
            zone=int(found.zones[k]),
            bands=[
                BandPower(name=name, low_hz=edges[0], high_hz=edges[1], power=power)
                for name, edges, power in zip(names, bands_hz, bands[k], strict=True)
            ],
            lines=lines[k],
        )
        for k, channel in enumerate(found.window.channels)
    ]


def _lines(found: WindowFeatures) -> list[list[SpectralLine]]:
    """Per channel: dominant, orders, bearing lines; those that were found."""
    speed_hz = found.speed.hz
    spectrum = _rows(found.lines.frequency_hz, found.lines.amplitude, found.lines.prominence_db)
    expected = [math.nan, *(order * speed_hz for order in ORDERS)]
    channels = [_channel(LINE_NAMES, expected, rows, False, speed_hz) for rows in spectrum]
    evidence, bearing = found.evidence, found.bearing
    if evidence is None or bearing is None:
        return channels
    orders = (bearing.bpfo, bearing.bpfi, 2 * bearing.bsf, bearing.ftf)
    expected = [order * speed_hz for order in orders]
    envelope = _rows(evidence.frequency_hz, evidence.amplitude, evidence.prominence_db)
    return [
        lines + _channel(LINES, expected, rows, True, speed_hz)
        for lines, rows in zip(channels, envelope, strict=True)
    ]


def _rows(*columns: Any) -> list[list[tuple[float, float, float]]]:
    """Per channel and line: frequency, amplitude, prominence."""
    rows: list[list[tuple[float, float, float]]] = np.stack(columns, axis=-1).tolist()
    return rows


def _channel(
    names: tuple[str, ...],
    expected: list[float],
    rows: list[tuple[float, float, float]],
    envelope: bool,
    speed_hz: float,
) -> list[SpectralLine]:
    return [
        SpectralLine(
            name=name,
            envelope=envelope,
            expected_hz=hz,
            frequency_hz=frequency,
            order=frequency / speed_hz if speed_hz > 0 else math.nan,
            amplitude=amplitude,
            prominence_db=prominence,
        )
        for name, hz, (frequency, amplitude, prominence) in zip(names, expected, rows, strict=True)
        if frequency == frequency
    ]


def machine_health(
    machine_id: str,
    sensor_id: str,
    found: Health,
    alert: Alert | None,
    work_order: str,
    stamp_ns: int,
    origin: Origin,
    stages_ms: dict[str, float],
) -> MachineHealth:
    """The health of a machine, told by the sensor that has most to say."""
    message = MachineHealth(
        machine_id=machine_id,
        component=sensor_id,
        tier=int(found.tier),
        reason=text(found.reason),
        watch_score=found.watch_score,
        watch_threshold=found.watch_threshold,
        act_score=found.act_score,
        act_threshold=found.act_threshold,
        act_persisted_s=found.act_persisted_s,
        zone=int(found.zone),
        contributions=[
            HealthContribution(
                sensor_id=sensor_id,
                channel=c.name.channel,
                feature=c.name.feature,
                value=c.value,
                baseline=c.baseline,
                unit=c.name.unit,
                change_db=c.change_db,
                share=c.share,
                text=text(c.text, 128),
            )
            for c in found.contributions[:16]
        ],
        diagnosis=int(found.diagnosis.fault),
        diagnosis_margin=found.diagnosis.margin,
        diagnosis_margin_required=found.diagnosis.margin_required,
        diagnosis_text=text(found.diagnosis.text),
        quality=quality(found.quality),
        speed_rpm=found.speed_rpm,
        speed_bin=found.bin_name,
        baseline=int(found.baseline),
        baseline_windows=found.baseline_windows,
        work_order=work_order,
        provenance=origin.provenance(stages_ms),
    )
    message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    message.header.frame_id = machine_id
    if alert is not None:
        message.alert_id = alert.alert_id
        message.alert_since = Time(nanoseconds=alert.since_ns).to_msg()
        message.acknowledged_by = text(alert.acknowledged_by, 64)
    return message

"""Parameters of the vibration monitor."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import ParameterProblem, param


@dataclass(frozen=True)
class VibrationMonitorParameters(CommandParameters):
    """What is watched, and when a change is one."""

    machines_file: str = param(
        "", "The machines, as in config/vibration/machines.yaml; empty: that file."
    )
    zones_file: str = param(
        "", "Severity zones; empty: config/vibration/iso20816_3_zones.yaml, with its sources."
    )
    baseline_folder: str = param(
        "", "Where learned baselines are kept; empty: in the state folder, by the node's name."
    )
    window_s: float = param(
        1.0,
        "Length of a window. A diagnosis needs six turns of the shaft in it.",
        unit="s",
        ge=0.1,
        le=10.0,
    )
    bands_hz: tuple[float, ...] = param(
        (10.0, 100.0, 100.0, 1000.0, 1000.0, 3000.0),
        "Bands as pairs of edges, at most 8; the last is the high-frequency band of the act index.",
        unit="Hz",
        ge=0.0,
        le=100_000.0,
    )
    mains_hz: float = param(50.0, "Frequency of the grid.", unit="Hz", ge=10.0, le=400.0)
    bias_low_v: float = param(5.0, "IEPE bias below it: loop shorted.", unit="V", ge=0.0, le=30.0)
    bias_high_v: float = param(18.0, "IEPE bias above it: loop open.", unit="V", ge=0.0, le=30.0)
    late_s: float = param(
        0.9, "A block that arrives later after its last sample is LATE.", unit="s", ge=0.05, le=60.0
    )
    jitter_ms: float = param(
        2.0,
        "A stamp may be off by this much from the end of the block before.",
        unit="ms",
        ge=0.01,
        le=1000.0,
    )
    drift_ppm: float = param(
        200.0, "More is CLOCK_DRIFT, against arrival, over a minute.", unit="ppm", ge=1.0, le=1e5
    )
    silent_s: float = param(
        3.0, "A sensor without blocks for so long is UNKNOWN.", unit="s", ge=0.2, le=600.0
    )
    speed_max_age_s: float = param(
        5.0, "An older shaft speed is not used.", unit="s", ge=0.1, le=600.0
    )
    speed_bin_rpm: float = param(
        100.0, "Width of the bins of shaft speed; each has its own baseline.", unit="1/min", ge=1.0
    )
    learn_automatically: bool = param(
        True, "Learn a baseline wherever there is none. Off: only by the service learn_baseline."
    )
    learn_windows: int = param(
        300, "Windows of a baseline that is learned automatically.", ge=30, le=100_000
    )
    act_db: float = param(
        6.0, "Rise over the baseline that asks for a person.", unit="dB", ge=1.0, le=60.0
    )
    work_order_db: float = param(
        12.0, "Rise that drafts a work order without a diagnosis.", unit="dB", ge=1.0, le=60.0
    )
    persistence_windows: int = param(
        30, "Windows, four fifths of which must agree before a person is asked.", ge=2, le=3600
    )
    watch_windows: int = param(
        10, "Windows, three fifths of which must be off before a change is written down.", ge=2,
        le=3600,
    )  # fmt: skip
    diagnosis_windows: int = param(5, "Windows that a diagnosis is averaged over.", ge=1, le=600)
    bearing_margin: float = param(
        2.0,
        "Lead over the runner-up that a bearing diagnosis needs, in standard deviations of what "
        "combs find where there is no fault line.",
        ge=0.1,
        le=20.0,
    )
    max_sensors: int = param(
        64, "Blocks of further sensors are refused and counted.", ge=1, le=1024
    )

    def problems(self) -> list[ParameterProblem]:
        """Bands that are none, edges the wrong way round."""
        found = super().problems()
        edges = self.bands_hz
        pairs = list(zip(edges[::2], edges[1::2], strict=False))
        if len(edges) % 2 or not 1 <= len(pairs) <= 8 or any(low >= high for low, high in pairs):
            text = f"{list(edges)} are not 1 to 8 pairs low, high with low < high"
            found.append(ParameterProblem("bands_hz", text))
        if self.bias_low_v >= self.bias_high_v:
            text = f"{self.bias_low_v:g} V is not below bias_high_v {self.bias_high_v:g} V"
            found.append(ParameterProblem("bias_low_v", text))
        if self.work_order_db < self.act_db:
            text = f"{self.work_order_db:g} dB is less than act_db {self.act_db:g} dB"
            found.append(ParameterProblem("work_order_db", text))
        return found

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """The pairs."""
        return tuple(zip(self.bands_hz[::2], self.bands_hz[1::2], strict=True))

"""Parameters of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.parameters import BaseParameters, ParameterProblem, param
from shopfloor.ros.recorded_topics import POLICIES, parse

MODES = ("continuous", "events", "both")


@dataclass(frozen=True)
class RecorderParameters(BaseParameters):
    """What is recorded, and where."""

    folder: str = param("bags", "Folder for the bags.")
    name: str = param(
        "",
        "Name of the first bag, and how the others' begin; empty: shopfloor_YYYYmmdd_HHMMSS and "
        "event_YYYYmmdd_HHMMSS by the host's time.",
    )
    mode: str = param(
        "continuous",
        "Record all the time, only around events (a FAIL, an alarm, a crash, on request), or both.",
        choices=MODES,
    )
    before_s: float = param(
        10.0, "How much before an event goes into its bag.", unit="s", ge=0.0, le=600.0
    )
    after_s: float = param(
        5.0, "How much after the last event goes into its bag.", unit="s", ge=0.0, le=600.0
    )
    ring_mb: int = param(
        256,
        "Memory for what came before an event; with more data, less than before_s is kept.",
        unit="MB",
        ge=1,
        le=16384,
    )
    split_mb: int = param(
        2048, "A bag that has this size is followed by the next; 0: any size.", unit="MB", ge=0
    )
    split_s: float = param(
        3600.0,
        "A bag that is this long is followed by the next; 0: any length.",
        unit="s",
        ge=0.0,
    )
    quota_mb: int = param(
        0,
        "What all bags of the folder may take: the oldest are deleted beyond it, but none that is "
        "being written or that has another file beside it. 0: nothing is deleted.",
        unit="MB",
        ge=0,
    )
    min_free_mb: int = param(
        200,
        "With less free on the disk, recording pauses with an error, and goes on by itself.",
        unit="MB",
        ge=0,
    )
    plant_file: str = param(
        "",
        "Plant file to keep with each bag, with the files that its parameters name, so that a "
        "replay knows nodes and parameters. A runner that starts a plant names its own.",
    )
    images: str = param(
        "annotated",
        "Which images go in as JPEG: none, crops of suspects, also those with boxes, or also those "
        "of the cameras, which a replay of inspectors needs, or all. "
        "Recording them makes the nodes encode them.",
        choices=POLICIES,
    )
    topics: tuple[str, ...] = param(
        (),
        "Topics that differ from that, as TOPIC=none, TOPIC=jpeg or TOPIC=raw: a camera's is "
        "my_camera/image_raw. Raw images are recorded where they are named here only.",
    )

    def problems(self) -> list[ParameterProblem]:
        """Entries of `topics` that say nothing."""
        try:
            parse(self.topics)
        except ValueError as error:
            return [ParameterProblem("topics", str(error))]
        return []

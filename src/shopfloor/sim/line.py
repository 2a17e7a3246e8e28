"""The belt: which part is under the camera when, and what is true of it.

Pure: no clock of its own, no device, no ROS. Parts are numbered from 1 and part n of a seed is
always the same. The belt never waits for a picture: a part is put on it only when its picture is
ready, and where none is, a place on the belt stays empty and is counted.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shopfloor.sim.parts import KINDS
from shopfloor.sim.scene import Picture, Scene

_MAX_DEFECTS = 6
_FEWER_IS_COMMON = np.array([0.30, 0.25, 0.18, 0.12, 0.09, 0.06])


@dataclass(frozen=True)
class BeltSettings:
    """How the line runs.

    kinds: of parts, drawn with equal chance; a name given twice has twice the chance.
    distinct_parts: after so many parts the same pictures come again (new part ids); 0: never.
    parts: the belt is empty after so many; 0: never.
    """

    parts_per_minute: float = 120.0
    defect_rate: float = 0.4
    kinds: tuple[str, ...] = KINDS
    seed: int = 1
    batch: str = "sim"
    distinct_parts: int = 0
    parts: int = 0

    def __post_init__(self) -> None:
        if self.parts_per_minute <= 0:
            raise ValueError(f"parts_per_minute must be above 0, got {self.parts_per_minute}")
        if not 0 <= self.defect_rate <= 1:
            raise ValueError(f"defect_rate must be 0..1, got {self.defect_rate}")
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {self.kinds}")

    @property
    def period_ns(self) -> int:
        """From part to part."""
        return round(60e9 / self.parts_per_minute)


@dataclass(frozen=True)
class PlannedPart:
    """A part of the belt's plan. number: from 1; seed and defects: as `render` takes them."""

    number: int
    part_id: str
    kind: str
    seed: int
    defects: int


@dataclass(frozen=True)
class BeltPart:
    """A part that is on the belt, with its picture."""

    plan: PlannedPart
    picture: Picture


@dataclass(frozen=True)
class Trigger:
    """The camera was triggered. due_ns: when the part stood under it, on the line's clock."""

    number: int
    due_ns: int
    part: BeltPart


def plan_part(settings: BeltSettings, number: int) -> PlannedPart:
    """Part `number` (from 1) of the plan; the same for the same settings, whenever it is asked."""
    if number < 1:
        raise ValueError(f"parts are numbered from 1, got {number}")
    model = number if not settings.distinct_parts else 1 + (number - 1) % settings.distinct_parts
    rng = np.random.default_rng([settings.seed, model])
    kind = settings.kinds[int(rng.integers(len(settings.kinds)))]
    is_defective = bool(rng.random() < settings.defect_rate)
    count = 1 + int(rng.choice(_MAX_DEFECTS, p=_FEWER_IS_COMMON))
    part_seed = int(rng.integers(2**31))
    return PlannedPart(
        number=number,
        part_id=f"{settings.batch}-{number:06d}",
        kind=kind,
        seed=part_seed,
        defects=count if is_defective else 0,
    )


class PartSource(Protocol):
    """Where the belt's parts come from."""

    @property
    def is_exhausted(self) -> bool:
        """Whether there will be no more parts."""

    def take(self) -> BeltPart | None:
        """The next part, None when it is not ready; never waits."""


class PictureQueue:
    """Renders the plan's parts ahead on a thread of its own; never more than `ahead` wait.

    Once `ahead` parts wait, the thread sleeps until `refill`.

    An error of the renderer ends the thread and comes out of the next `take`.
    """

    def __init__(self, settings: BeltSettings, scene: Scene, ahead: int = 4) -> None:
        self._settings = settings
        self._scene = scene
        self._ahead = ahead
        self._condition = threading.Condition()
        self._ready: deque[BeltPart] = deque()
        self._known: dict[int, Picture] = {}
        self._error: Exception | None = None
        self._rendered_all = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="part renderer", daemon=True)

    def start(self) -> None:
        """Start to render; once in the life of a queue."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the part that it is at."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def take(self) -> BeltPart | None:
        """The next part, None when its picture is not ready; never waits."""
        with self._condition:
            if self._ready:
                return self._ready.popleft()
            if self._error is not None:
                raise RuntimeError(f"rendering failed: {self._error}") from self._error
            return None

    def refill(self) -> None:
        """Render what was taken. Apart from `take`, so that a frame is on its way first."""
        with self._condition:
            self._condition.notify_all()

    @property
    def is_exhausted(self) -> bool:
        """Whether all parts of the plan were taken."""
        with self._condition:
            return self._rendered_all and not self._ready

    def wait_ready(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` parts are ready (at most `ahead`) or all that there will be.

        False when time is up first.
        """
        limit = min(count, self._ahead)
        with self._condition:
            return self._condition.wait_for(
                lambda: len(self._ready) >= limit or self._rendered_all or self._error is not None,
                timeout_s,
            )

    def _run(self) -> None:
        number = 1
        while not self._settings.parts or number <= self._settings.parts:
            try:
                part = self._render(plan_part(self._settings, number))
            except Exception as error:  # whatever it was, it belongs to whoever takes parts
                with self._condition:
                    self._error = error
                    self._condition.notify_all()
                return
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or len(self._ready) < self._ahead)
                if self._stopping:
                    return
                self._ready.append(part)
                self._condition.notify_all()
            number += 1
        with self._condition:
            self._rendered_all = True
            self._condition.notify_all()

    def _render(self, plan: PlannedPart) -> BeltPart:
        picture = self._known.get(plan.seed)
        if picture is None:
            picture = self._scene.picture(plan.kind, plan.seed, plan.defects)
            if self._settings.distinct_parts:
                self._known[plan.seed] = picture
        return BeltPart(plan, picture)


class Line:
    """The belt under the camera; its first place gets there one period after `start_ns`."""

    def __init__(self, settings: BeltSettings, source: PartSource, start_ns: int) -> None:
        self._period_ns = settings.period_ns
        self._source = source
        self._due_ns = start_ns + self._period_ns
        self.triggers = 0
        self.empty_places = 0

    @property
    def due_ns(self) -> int:
        """When the next place of the belt stands under the camera."""
        return self._due_ns

    @property
    def is_done(self) -> bool:
        """Whether the last part has passed."""
        return self._source.is_exhausted

    def poll(self, now_ns: int) -> Trigger | None:
        """The trigger that is due at `now_ns`, if there is one.

        A caller that comes late gets the trigger of the last place that passed; the places before
        it went by empty.
        """
        if now_ns < self._due_ns or self.is_done:
            return None
        missed = (now_ns - self._due_ns) // self._period_ns
        due_ns = self._due_ns + missed * self._period_ns
        self.empty_places += missed
        self._due_ns = due_ns + self._period_ns
        part = self._source.take()
        if part is None:
            self.empty_places += 1
            return None
        self.triggers += 1
        return Trigger(self.triggers, due_ns, part)

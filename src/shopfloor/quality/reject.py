"""The reject tracker: follows each part to the reject output and says once what happens to it.

All lengths are metres of belt; `belt.py` turns time or counts into them. A part is decided when its
window comes within `lead_m + margin_m`: until then later evidence still counts. What stands against
a part then rejects it, and so does no verdict at all. A reject that cannot act in time any more is
LATE_REJECT: said out loud, and nothing acts, since it would hit another part. Not thread-safe.
"""

from __future__ import annotations

import bisect
import enum
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass

MAX_TRACKED = 10_000
"""Parts kept at most, on the belt and lately gone."""


class Action(enum.IntEnum):
    """Values of RejectCommand.ACTION_*."""

    UNKNOWN = 0
    REJECT = 1
    PASS = 2
    LATE_REJECT = 3


@dataclass(frozen=True)
class RejectSettings:
    """Geometry and safe choices.

    distance_m: from each camera to the output. window_m: how long the output acts for one part; it
    is cut at half way to a neighbour. lead_m: the belt's way while a command takes effect, at its
    highest speed. margin_m: how much earlier a part is decided. pass_without_id: a part whose id
    could not be read goes on; otherwise it leaves.
    """

    distance_m: dict[str, float]
    window_m: float
    lead_m: float
    margin_m: float
    pass_without_id: bool = False


@dataclass(frozen=True)
class RejectOrder:
    """What the output shall do; open_m, close_m: belt positions, NaN for LATE_REJECT."""

    part_id: str
    action: Action
    revision: int
    reason: str
    exposure_ns: int
    open_m: float = math.nan
    close_m: float = math.nan


@dataclass(eq=False)
class _Part:
    """at_m: belt position when it is at the output, None: not known; lost: nor will it be."""

    part_id: str
    exposure_ns: int
    rejects: bool = True
    reason: str = "no verdict came in time"
    revision: int = 0
    at_m: float | None = None
    lost: bool = False
    action: Action = Action.UNKNOWN


class RejectTracker:
    """See the module's text. `counts` holds the actions, and what could not be placed."""

    def __init__(self, settings: RejectSettings) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._queue: list[tuple[float, int, _Part]] = []
        self._decided_m: list[float] = []
        self._now_m = -math.inf
        self._serial = 0

    @property
    def on_the_way(self) -> int:
        """Parts that have a place and no order yet."""
        return len(self._queue)

    def place_of(self, part_id: str) -> float | None:
        """Belt position when the part is at the output; None: not known."""
        part = self._parts.get(part_id)
        return part.at_m if part is not None else None

    def seen(self, part_id: str, camera: str, exposure_ns: int, position_m: float | None) -> None:
        """A camera saw the part when the belt was at `position_m`; the first place counts.

        position_m: None where the belt's position was not known. A camera that has no distance
        places nothing.
        """
        distance_m = self.settings.distance_m.get(camera)
        if distance_m is None:
            return
        part = self._part(part_id, exposure_ns)
        if part.at_m is not None or part.action is not Action.UNKNOWN:
            return
        part.lost = position_m is None
        if position_m is None:
            self.counts["place not known"] += 1
            return
        part.exposure_ns = exposure_ns
        self._place(part, position_m + distance_m)

    def measured(self, part_id: str, camera: str, exposure_ns: int, position_m: float) -> None:
        """Where the belt was at the exposure that `seen` could only forecast; the order stands."""
        distance_m = self.settings.distance_m.get(camera)
        part = self._parts.get(part_id)
        if distance_m is None or part is None or part.at_m is None:
            return
        if part.exposure_ns != exposure_ns or part.action is not Action.UNKNOWN:
            return
        self._queue = [entry for entry in self._queue if entry[2] is not part]
        self._place(part, position_m + distance_m)

    def judged(
        self, part_id: str, revision: int, rejects: bool, reason: str, exposure_ns: int
    ) -> list[RejectOrder]:
        """The part got a verdict; an older revision than the known one changes nothing."""
        part = self._part(part_id, exposure_ns)
        if revision <= part.revision:
            return []
        part.revision, part.rejects, part.reason = revision, rejects, reason
        if rejects and part.action is Action.PASS:
            return [self._late(part, f"was let on before this came: {reason}")]
        if rejects and part.lost and part.action is Action.UNKNOWN:
            return [self._late(part, f"its place on the belt is not known: {reason}")]
        return []

    def advance(self, now_m: float) -> list[RejectOrder]:
        """The belt is at `now_m`: orders for the parts that come near."""
        self._now_m = now_m
        near_m = now_m + self.settings.lead_m + self.settings.margin_m + self.settings.window_m / 2
        orders = []
        while self._queue and self._queue[0][0] <= near_m:
            at_m, _, part = self._queue.pop(0)
            orders.append(self._decide(part, at_m))
            bisect.insort(self._decided_m, at_m)
        # What lies more than a window behind is nobody's neighbour.
        del self._decided_m[: bisect.bisect(self._decided_m, now_m - self.settings.window_m)]
        return orders

    def lose_places(self, cause: str) -> list[RejectOrder]:
        """No place is known any more, nor do windows that were said before mean anything."""
        orders = []
        for part in self._parts.values():
            ahead = part.at_m is not None and part.at_m > self._now_m
            if ahead and part.action is not Action.LATE_REJECT:
                part.lost = True
                self.counts["place lost"] += 1
                if part.rejects:
                    orders.append(self._late(part, f"{cause}: {part.reason}"))
            part.at_m = None
        self._queue.clear()
        self._decided_m.clear()
        self._now_m = -math.inf
        return orders

    def _part(self, part_id: str, exposure_ns: int) -> _Part:
        part = self._parts.get(part_id) if part_id else None
        if part is not None:
            return part
        part = _Part(part_id, exposure_ns)
        self._serial += 1
        if not part_id:
            part.rejects = not self.settings.pass_without_id
            part.reason = "its id could not be read"
            self.counts["without id"] += 1
        # No id from a message holds a NUL.
        self._parts[part_id or f"\0{self._serial}"] = part
        while len(self._parts) > MAX_TRACKED:
            _, oldest = self._parts.popitem(last=False)
            if oldest.at_m is not None and oldest.action is Action.UNKNOWN:
                self._queue = [entry for entry in self._queue if entry[2] is not oldest]
                self.counts["forgotten by the memory bound"] += 1
        return part

    def _place(self, part: _Part, at_m: float) -> None:
        part.at_m = at_m
        self._serial += 1
        bisect.insort(self._queue, (at_m, self._serial, part))

    def _decide(self, part: _Part, at_m: float) -> RejectOrder:
        window_m, lead_m = self.settings.window_m, self.settings.lead_m
        place = bisect.bisect(self._decided_m, at_m)
        before_m = self._decided_m[place - 1] if place else -math.inf
        after_m = self._decided_m[place] if place < len(self._decided_m) else math.inf
        if self._queue:
            after_m = min(after_m, self._queue[0][0])
        open_m = max(at_m - window_m / 2, (at_m + before_m) / 2)
        close_m = min(at_m + window_m / 2, (at_m + after_m) / 2)
        ahead_m = open_m - self._now_m
        if part.rejects and ahead_m < lead_m:
            late_mm = (lead_m - ahead_m) * 1e3
            return self._late(part, f"decided {late_mm:.0f} mm too late: {part.reason}")
        part.action = Action.REJECT if part.rejects else Action.PASS
        self.counts[part.action.name] += 1
        return RejectOrder(
            part.part_id, part.action, part.revision, part.reason, part.exposure_ns, open_m, close_m
        )

    def _late(self, part: _Part, reason: str) -> RejectOrder:
        part.action = Action.LATE_REJECT
        self.counts[Action.LATE_REJECT.name] += 1
        return RejectOrder(part.part_id, part.action, part.revision, reason, part.exposure_ns)

"""Alerts of one machine: raised once, open until a person has seen them and the cause is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from shopfloor.vibration.health import Tier


@dataclass(frozen=True)
class Alert:
    """An alert that is open. since_ns: ROS time. acknowledged_by: empty, nobody yet."""

    alert_id: str
    cause: str
    since_ns: int
    acknowledged_by: str = ""


class AlertBook:
    """The alert of one machine and what was silenced."""

    def __init__(self, machine_id: str) -> None:
        self.machine_id = machine_id
        self.alert: Alert | None = None
        self._silenced: dict[str, tuple[int, str]] = {}
        self._number = 0
        self._highest = Tier.UNKNOWN

    def update(self, tier: Tier, cause: str, now_ns: int) -> Tier:
        """Raise, keep or close the alert; the tier to show.

        What becomes worse than what a person has acknowledged is an alert of its own. A silenced
        cause shows as LOG. UNKNOWN neither raises nor closes: nobody knows.
        """
        if tier is Tier.UNKNOWN:
            return tier
        if tier >= Tier.INSPECT:
            until_ns, _ = self._silenced.get(cause, (0, ""))
            if now_ns < until_ns:
                return Tier.LOG
            is_worse = tier > self._highest
            self._highest = max(tier, self._highest)
            if self.alert is None or (self.alert.acknowledged_by and is_worse):
                self._number += 1
                self._highest = tier
                at = datetime.fromtimestamp(now_ns / 1e9, timezone.utc)
                alert_id = f"{self.machine_id[:36]}-{at:%Y%m%dT%H%M%S}-{self._number}"
                self.alert = Alert(alert_id, cause, now_ns)
        elif self.alert is not None and self.alert.acknowledged_by:
            self.alert = None
        return tier

    def silenced(self, now_ns: int) -> list[str]:
        """Causes that are silenced now, in words."""
        return [
            f"{cause} (by {person})"
            for cause, (until_ns, person) in self._silenced.items()
            if now_ns < until_ns
        ]

    def acknowledge(
        self, alert_id: str, person: str, silence_s: float, false_alarm: bool, now_ns: int
    ) -> None:
        """A person has seen it. Raises KeyError where no such alert is open.

        A false alarm closes at once; else it stays open until its cause is gone.
        """
        alert = self.alert
        if alert is None or alert.alert_id != alert_id:
            raise KeyError(alert_id)
        if silence_s > 0:
            self._silenced[alert.cause] = (now_ns + round(silence_s * 1e9), person)
        self.alert = (
            None if false_alarm else Alert(alert.alert_id, alert.cause, alert.since_ns, person)
        )


def work_order(machine_id: str, sensor_id: str, reason: str, findings: list[str]) -> str:
    """Draft of a work order, for a planner to complete; at most 1,024 bytes."""
    lines = [
        f"Machine {machine_id}, sensor {sensor_id}: {reason}.",
        "What changed since the baseline:",
        *(f"- {finding}" for finding in findings[:5]),
        "Proposed: inspect the bearing and the mounting at this sensor, check lubrication, "
        "fasteners and alignment, and enter the finding when acknowledging the alert.",
        "Drafted from vibration alone; no remaining life is stated.",
    ]
    return "\n".join(lines).encode()[:1024].decode(errors="ignore")

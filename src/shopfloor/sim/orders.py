"""Scheduling problems of the size of a small factory, for the demo, tests and benchmarks.

Five lines with twelve machines, a camera station that they share, fifty jobs of one to four
operations, three pairs of machines on one fuse that may not run together, five downtimes and a
tariff of three levels: all drawn from a seed, as the content of a problem file (times in seconds).

    python -m shopfloor.sim.orders [SEED] > factory.json
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

MINUTE = 60
HOUR = 3600
FAMILIES = ("aluminium", "steel", "brass", "plastic")
LINES = {"A": 3, "B": 3, "C": 2, "D": 2, "E": 2}
CAMERA_STATION = "camera_station"

_TARIFF = ((0, 2, 0.18, "mid"), (2, 5, 0.34, "peak"), (5, 8, 0.18, "mid"), (8, 14, 0.09, "low"),
           (14, 18, 0.18, "mid"), (18, 20, 0.34, "peak"))  # fmt: skip
"""Hours from now, price per kWh: an early shift that starts at eight."""


def factory(seed: int, jobs: int = 50) -> dict[str, Any]:
    """The content of a problem file; the same seed gives the same problem."""
    rng = random.Random(seed)
    machines = _machines(rng)
    names = [m["id"] for m in machines]
    speed = {m["id"]: m["speed_factor"] for m in machines}
    orders = [_job(rng, number, names, speed) for number in range(jobs)]
    work = sum(o["standard"] for job in orders for o in job["operations"])
    span = work / len(names) / 0.8
    for job in orders:
        own = sum(o["standard"] for o in job["operations"])
        job["release"] = float(MINUTE * rng.randint(0, 90) if rng.random() < 0.3 else 0)
        slack = rng.uniform(0.25, 1.25) * span
        job["due"] = round(job["release"] + max(slack, 2.0 * own))
    _downtimes(rng, machines, span)
    return {
        "problem_id": f"factory_{seed}",
        "machines": [*machines, {"id": CAMERA_STATION, "kind": "resource"}],
        "jobs": orders,
        "setups": {
            "families": list(FAMILIES),
            "seconds": [
                [0 if a == b else MINUTE * rng.randint(5, 15) for b in FAMILIES] for a in FAMILIES
            ],
        },
        "tariff": {
            "default": 0.18,
            "windows": [
                {"start": a * HOUR, "end": b * HOUR, "price": price, "label": label}
                for a, b, price, label in _TARIFF
            ],
        },
    }


def _machines(rng: random.Random) -> list[dict[str, Any]]:
    found = []
    for line, count in LINES.items():
        for number in range(1, count + 1):
            power = rng.uniform(4.0, 16.0)
            found.append(
                {
                    "id": f"{line}{number}",
                    "line": line,
                    "speed_factor": rng.choice((0.7, 0.85, 1.0, 1.0, 1.2)),
                    "power_kw": round(power, 1),
                    "idle_power_kw": round(power * rng.uniform(0.1, 0.25), 1),
                }
            )
    for first, second in (("A1", "B1"), ("A2", "C1"), ("D1", "E1")):
        next(m for m in found if m["id"] == first)["forbidden_with"] = [second]
    return found


def _downtimes(rng: random.Random, machines: list[dict[str, Any]], span: float) -> None:
    for machine in rng.sample(machines, 5):
        start = round(rng.uniform(0.1, 0.8) * span)
        end = start + MINUTE * rng.randint(20, 60)
        machine["downtimes"] = [{"start": start, "end": end, "label": "maintenance"}]


def _job(
    rng: random.Random, number: int, names: list[str], speed: dict[str, float]
) -> dict[str, Any]:
    family = rng.choice(FAMILIES)
    count = 1 if rng.random() < 0.4 else rng.randint(2, 4)
    operations = []
    for step in range(count):
        standard = MINUTE * rng.randint(10, 60)
        eligible = rng.sample(names, rng.randint(2, 4))
        operation: dict[str, Any] = {
            "id": f"op{step + 1}",
            "machines": {m: round(standard / speed[m]) for m in sorted(eligible)},
            "standard": standard,
            "setup_family": family if rng.random() < 0.7 else "",
        }
        if count > 1 and step == count - 1 and rng.random() < 0.4:
            standard = MINUTE * rng.randint(5, 12)
            operation |= {"standard": standard, "setup_family": "", "resources": [CAMERA_STATION]}
            operation["machines"] = {m: round(standard / speed[m]) for m in sorted(eligible)}
        operations.append(operation)
    return {
        "id": f"job{number + 1:02d}",
        "product": family,
        "quantity": rng.randint(1, 20),
        "weight": rng.choice((1.0, 1.0, 1.0, 2.0, 4.0)),
        "operations": operations,
    }


if __name__ == "__main__":
    print(json.dumps(factory(int(sys.argv[1]) if len(sys.argv) > 1 else 1), indent=1))

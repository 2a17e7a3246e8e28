"""Parameters of the scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from shopfloor.ros.commands import CommandParameters
from shopfloor.ros.parameters import param


@dataclass(frozen=True)
class SchedulerParameters(CommandParameters):
    """What is planned, how long it may take, and who decides."""

    plant: str = param("plant", "Name of the plant or line in plans and events.", read_only=True)
    problem_file: str = param(
        "", "JSON file with machines and first jobs; empty: they come with PlanSchedule goals."
    )
    journal: str = param(
        "", "SQLite journal; empty: scheduler.sqlite in ~/.local/state/shopfloor/PLANT."
    )
    first_plan_s: float = param(
        5.0, "Budget of the first plan, made when there is none; 0: wait to be asked.",
        unit="s", ge=0.0, le=600.0,
    )  # fmt: skip
    repair_s: float = param(
        5.0, "Budget of a repair after an event.", unit="s", ge=0.1, le=600.0, live=True
    )
    max_time_budget_s: float = param(
        120.0, "Longest budget that a goal may ask for.", unit="s", ge=0.1, le=86_400.0
    )
    processes: int = param(2, "Processes that search; 0: rules alone.", ge=0, le=64)
    freeze_horizon_s: float = param(
        120.0, "A repair after an event does not move what starts within it.",
        unit="s", ge=0.0, le=86_400.0, live=True,
    )  # fmt: skip
    stability_weight: float = param(
        0.2, "What a repair after an event pays for moving every operation, in units of J.",
        ge=0.0, le=10.0, live=True,
    )  # fmt: skip
    approval: str = param(
        "never",
        "Which plans a person has to commit: none, those that change more than "
        "approval_above_changed, or all.",
        choices=("never", "large", "always"),
        live=True,
    )
    approval_above_changed: float = param(
        0.25, "Share of changed operations above which a large change needs a person.",
        ge=0.0, le=1.0, live=True,
    )  # fmt: skip
    unknown_stop_s: float = param(
        3600.0, "A stop without an expected end is taken to last this long.",
        unit="s", ge=1.0, le=86_400.0,
    )  # fmt: skip
    machines: str = param(
        "none",
        "What carries out ExecuteJob: nothing, or machines that are simulated.",
        choices=("none", "simulated"),
    )
    simulated_speed: float = param(
        1.0, "Simulated machines run this much faster than planned.", ge=0.01, le=10_000.0
    )
    dispatch: bool = param(
        False, "Start what is due by itself; off: only on ExecuteJob.", live=True
    )
    feeders: tuple[str, ...] = param(
        (),
        "STATION=MACHINE: a run of FAIL verdicts at the station holds the machine that feeds it.",
    )
    fail_run: int = param(
        5, "FAIL verdicts in a row that hold the feeder; 0: never.", ge=0, le=1000, live=True
    )
    thermal_machines: tuple[str, ...] = param(
        (), "HOST=MACHINE: a thermal rung of the host slows the machine."
    )
    health_machines: tuple[str, ...] = param(
        (),
        "ID=MACHINE, of MachineHealth and of the problem: a drafted work order books a stop.",
    )
    maintenance_s: float = param(
        1800.0, "A drafted work order books a stop this long, at the first gap after the freeze "
        "horizon.", unit="s", ge=0.0, le=86_400.0,
    )  # fmt: skip

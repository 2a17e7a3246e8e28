"""Problem files, conflicts, explanations, differences and the chart."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scheduling_problems import NOW

from shopfloor.ros.commands import Reason, Refused
from shopfloor.scheduling.codec import from_json, to_json
from shopfloor.scheduling.commands import Commands
from shopfloor.scheduling.conflicts import find_conflicts
from shopfloor.scheduling.decoder import Decoder
from shopfloor.scheduling.explain import ChangeKind, diff, explain
from shopfloor.scheduling.floor import Floor
from shopfloor.scheduling.gantt import gantt_html
from shopfloor.scheduling.journal import Journal
from shopfloor.scheduling.model import Model
from shopfloor.scheduling.problem import (
    JobState,
    MachineState,
    Problem,
    ProblemError,
    Rule,
    Weights,
    Window,
)
from shopfloor.scheduling.problem_file import from_data
from shopfloor.scheduling.rules import dispatch
from shopfloor.sim.orders import factory


def planned(problem: Problem, rule: str = "EDD_EC"):  # type: ignore[no-untyped-def]
    decoder = Decoder(Model(problem))
    return decoder, decoder.assignments(decoder.decode(dispatch(decoder.model, rule)))


def tight(seconds: float) -> Problem:
    """One job of 60 s on a machine that is down for the first 100 s, due in `seconds`."""
    return from_data(
        {
            "machines": [
                {"id": "m1", "downtimes": [{"start": 0, "end": 100, "label": "overhaul"}]},
                {"id": "m2"},
            ],
            "jobs": [
                {"id": "rush", "due": seconds, "due_is_hard": True,
                 "operations": [{"id": "a", "machines": {"m1": 60, "m2": 60},
                                 "pinned_machine": "m1"}]},
                {"id": "other", "operations": [{"id": "a", "machines": {"m2": 5}}]},
            ],
        },
        NOW,
    )  # fmt: skip


def test_conflicts_name_due_date_pin_and_downtime() -> None:
    assert {c.rule for c in find_conflicts(tight(90))} == {Rule.DUE_DATE, Rule.PIN, Rule.DOWNTIME}
    assert find_conflicts(tight(160)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"jobs": [{"id": "j", "operations": [{"id": "a", "machines": {"mX": 5}}]}]}, "mX"),
        ({"jobs": [{"id": "j", "dew": 3, "operations": []}]}, "dew"),
        ({"jobs": [{"id": "j", "weight": 0, "operations": [
            {"id": "a", "machines": {"m1": 5}}]}]}, "job j.weight"),
        ({"jobs": [{"id": "j", "operations": [
            {"id": "a", "machines": {"m1": 5}, "predecessors": ["b"]},
            {"id": "b", "machines": {"m1": 5}, "predecessors": ["a"]}]}]}, "circle"),
        ({"machines": [{"id": "m1", "capacity": 0}]}, "machine m1.capacity"),
        ({"machines": [{"id": "m1", "forbidden_with": ["m9"]}]}, "m9"),
        ({"tariff": {"windows": [{"start": 5, "end": 2}]}}, "tariff"),
    ],
)  # fmt: skip
def test_a_problem_that_cannot_be_right_is_named(change: dict, named: str) -> None:  # type: ignore[type-arg]
    data = {"machines": [{"id": "m1"}], "jobs": [], **change}
    with pytest.raises(ProblemError, match=named):
        from_data(data)


def test_j_is_what_the_page_says() -> None:
    problem = from_data(
        {
            "machines": [{"id": "m1", "power_kw": 2.0, "idle_power_kw": 1.0}, {"id": "m2"}],
            "jobs": [
                {"id": "a", "due": 3600, "operations": [
                    {"id": "x", "machines": {"m1": 7200}, "standard": 3600}]}
            ],
            "tariff": {"default": 0.5, "windows": [{"start": 3600, "end": 7200, "price": 1.0}]},
        },
        NOW,
    )  # fmt: skip
    decoder, plan = planned(problem)
    score = decoder.model.objective.score(plan)
    assert score.utilisation == pytest.approx(3600 / (2 * 7200))  # not 7200: the machine is slow
    assert score.tardiness == pytest.approx(1.0)
    assert score.energy_kwh == pytest.approx(4.0)
    assert score.energy == pytest.approx((2 * 0.5 + 2 * 1.0) / (4.0 * 1.0))
    weights = Weights()
    assert score.objective == pytest.approx(
        weights.utilisation * score.utilisation
        - weights.tardiness * score.tardiness
        - weights.energy * score.energy
    )


def test_explanations_say_what_blocks() -> None:
    problem = tight(1000)
    free = replace(problem.jobs[0].operations[0], pinned_machine="")
    jobs = (replace(problem.jobs[0], operations=(free,)), problem.jobs[1])
    problem = replace(problem, jobs=jobs)
    _, plan = planned(problem)
    words, rows = explain(problem, plan, ("rush", "a"))
    assert words and [r.machine_id for r in rows] == ["m1"]
    assert rows[0].blocking.rule is Rule.DOWNTIME and rows[0].delta < 0
    _, (row,) = explain(problem, plan, ("other", "a"), "m1")
    assert row.blocking.rule is Rule.ELIGIBILITY and math.isnan(row.delta)
    with pytest.raises(KeyError):
        explain(problem, plan, ("nobody", "a"))


@pytest.mark.parametrize(
    ("rule", "first", "machines"),
    [
        (Rule.FORBIDDEN_PAIR, {"m3": 50}, {"m2": {"forbidden_with": ["m3"]}}),
        (Rule.CAPACITY, {"m2": 50}, {}),
        (Rule.CALENDAR, {"m3": 50}, {"m2": {"calendar": [{"start": 90, "end": 900}]}}),
        (Rule.DOWNTIME, {"m3": 50}, {"m2": {"downtimes": [{"start": 5, "end": 20}]}}),
        (Rule.MACHINE_STATE, {"m3": 50}, {"m2": {"state": "down", "state_until": 300}}),
    ],
)
def test_an_explanation_names_the_rule_that_stands_in_the_way(
    rule: Rule, first: dict[str, float], machines: dict[str, dict[str, object]]
) -> None:
    """Why is `late` on m1 and not on m2, where it would be faster? It starts at 10 s on m1."""
    problem = from_data(
        {
            "machines": [{"id": name, **machines.get(name, {})} for name in ("m1", "m2", "m3")],
            "jobs": [
                {"id": "first", "operations": [{"id": "a", "machines": first}]},
                {"id": "late", "release": 10,
                 "operations": [{"id": "a", "machines": {"m1": 60, "m2": 59}}]},
            ],
        },
        NOW,
    )  # fmt: skip
    _, plan = planned(problem)
    place = {a.job_id: (a.machine_id, a.start - NOW) for a in plan}
    assert place["late"] == ("m1", 10_000)
    _, (row,) = explain(problem, plan, ("late", "a"), "m2")
    assert row.blocking.rule is rule, row.blocking
    assert row.blocking.job_id == "late" and row.blocking.machine_id == "m2"
    assert "s later" in row.blocking.text
    assert (row.blocking.window is not None) == (rule is Rule.DOWNTIME)


def test_a_job_that_comes_again_with_another_order_is_named(tmp_path: Path) -> None:
    problem = from_data(factory(1, jobs=3), NOW)
    journal = Journal(tmp_path / "j.sqlite", synchronous="OFF")
    floor = Floor(journal)
    floor.load(problem, 0)
    first, second, third = problem.jobs
    float32 = float(np.float32(first.weight * 1.1))
    told = replace(problem, jobs=(first, second, third, replace(first, job_id="rush")))
    assert floor.known_otherwise(told) == []
    # What the floor changes itself is no other order.
    pinned = replace(first.operations[0], pinned_machine=first.operations[0].machine_ids[0])
    ran = replace(first, state=JobState.HELD, operations=(pinned, *first.operations[1:]))
    assert floor.known_otherwise(replace(problem, jobs=(ran,))) == []
    other = (
        replace(first, due=NOW + 1, weight=float32),
        replace(second, operations=second.operations[:-1]),
        replace(third, release=NOW + 1, due_is_hard=not third.due_is_hard),
    )
    assert floor.known_otherwise(replace(problem, jobs=other)) == [
        f"job {first.job_id} (due, weight)",
        f"job {second.job_id} (operations)",
        f"job {third.job_id} (release, due_is_hard)",
    ]
    journal.close()


def test_differences_of_two_plans() -> None:
    problem = from_data(factory(1), NOW)
    _, first = planned(problem, "EDD")
    _, second = planned(problem, "SPT")
    assert diff(first, first) == []
    kinds = {c.kind for c in diff(first, second)}
    assert kinds <= {ChangeKind.MACHINE, ChangeKind.EARLIER, ChangeKind.LATER}
    assert [c.kind for c in diff(first, first[1:])] == [ChangeKind.REMOVED]


def test_the_chart_is_well_formed_and_shows_what_changed() -> None:
    problem = from_data(factory(1), NOW)
    decoder, plan = planned(problem)
    _, before = planned(problem, "SPT")
    page = gantt_html(problem, plan, decoder.model.objective.score(plan), before=before)
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    assert svg.count("<g>") == svg.count("</g>") > len(plan) - 1
    assert "stroke='#f28e2b' stroke-width='2.5'/>" in svg
    assert "job01" in page and "tariff" in page


def test_a_problem_survives_the_journal() -> None:
    problem = replace(from_data(factory(2), NOW), tariff=(Window(NOW, NOW + 5, 0.1, "x"),))
    assert from_json(Problem, to_json(problem)) == problem


def test_a_plan_is_committed_only_over_the_one_that_was_seen(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", synchronous="OFF")
    commands = Commands(Floor(journal), lambda: NOW * 1_000_000)
    commands.load(from_data(factory(1), NOW), "test")
    with pytest.raises(Refused) as refused:
        commands.commit(7, "", 0)
    assert refused.value.reason is Reason.UNKNOWN_TARGET
    with pytest.raises(Refused) as refused:
        commands.set_machine_state("A1", MachineState.DERATED, 1.5, None, "")
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    commands.set_machine_state("A1", MachineState.DERATED, 0.5, None, "hot")
    job = next(j for j in commands.problem().jobs for o in j.operations if "A1" in o.machine_ids)
    known = commands.floor.state.jobs[job.job_id]
    for now, full in zip(job.operations, known.operations, strict=True):
        if "A1" in now.machine_ids:
            assert now.duration_on("A1") == 2 * (full.duration_on("A1") or 0)

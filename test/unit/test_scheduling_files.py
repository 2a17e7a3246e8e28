"""Job shops in the formats in which they are handed around, and what is wrong in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.scheduling.job_shop_files import read_job_shop
from shopfloor.scheduling.problem import Problem, ProblemError
from shopfloor.scheduling.problem_file import load_problem

STANDARD = "# tiny, 2x2\n2 2\n 0 3  1 4\n 1 2  0 5\n"
TAILLARD = """Nb of jobs, Nb of Machines, Time seed, Machine seed, Upper bound, Lower bound
           2           2   840612802   398197754        8        7
Times
  3  4
  2  5
Machines
  1  2
  2  1
"""
COLLECTION = """This file holds job-shop test instances, 2 of them.
+++++++++++++++++++++++++++++
 instance abz5
+++++++++++++++++++++++++++++
 Adams, Balas, and Zawack 10x10 instance (Table 1, instance 5)
 2 2
 0 3 1 4
 1 2 0 5
+++++++++++++++++++++++++++++
 instance orb01
+++++++++++++++++++++++++++++
 trivial 1x1 instance
 1 1
 0 7
++++++++ END
"""


def times(problem: Problem) -> list[list[tuple[str, float]]]:
    return [
        [(o.machine_ids[0], o.durations_ms[0] / 1000) for o in job.operations]
        for job in problem.jobs
    ]


def test_every_format_of_a_job_shop_gives_the_same() -> None:
    wanted = [[("0", 3.0), ("1", 4.0)], [("1", 2.0), ("0", 5.0)]]
    assert times(read_job_shop("a", STANDARD)) == wanted
    assert times(read_job_shop("a", COLLECTION, "abz5")) == wanted
    assert times(read_job_shop("a", COLLECTION, "orb01")) == [[("0", 7.0)]]
    from_one = [[(str(int(m) + 1), d) for m, d in job] for job in wanted]
    assert times(read_job_shop("a", TAILLARD)) == from_one
    problem = read_job_shop("a", STANDARD)
    assert problem.jobs[1].operations[1].predecessors == ("0",)


@pytest.mark.parametrize("header", ["2 2 1.5", "2 2", "2\t2\t1"])
def test_a_flexible_job_shop_is_read(header: str) -> None:
    problem = read_job_shop("tiny", f"{header}\n1 2 1 3 2 4\n2 1 1 5 1 2 6\n\n")
    first, second = problem.jobs
    assert first.operations[0].machine_ids == ("1", "2")
    assert first.operations[0].durations_ms == (3000, 4000)
    assert second.operations[1].predecessors == ("0",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "jobs machines"),
        ("2 2\n0 3 1 4\n", "2 jobs are promised, 1 rows follow"),
        ("1 2\n2 1 1 5 1 2\n", "line 2: ends too early"),
        ("1 2\n1 1 1 5 9\n", "line 2: 1 numbers too many"),
        ("1 2\n1 2 1 5 1 6\n", "line 2"),
        ("1 2\n1 1 1 five\n2 3\n", "line 2: not a row of numbers"),
        ("1 1\n0 -3\n", "line 2.*whole numbers"),
        ("1 1\n0 2.5\n", "line 2.*whole numbers"),
        (COLLECTION, "name one: abz5, orb01"),
        (TAILLARD.replace("  2  1\n", ""), "2 rows of times, 1 of machines"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "shop.txt"
    path.write_text(text)
    with pytest.raises(ProblemError, match=f"shop.txt: .*{named}"):
        load_problem(path)


def test_a_json_of_several_instances_wants_a_name(tmp_path: Path) -> None:
    path = tmp_path / "jsp.json"
    path.write_text('{"a": {"dur": [[3]], "mac": [[0]]}, "b": {"dur": [[4]], "mac": [[0]]}}')
    assert times(load_problem(path, instance="b")) == [[("0", 4.0)]]
    with pytest.raises(ProblemError, match="name one: a, b"):
        load_problem(path)
    with pytest.raises(ProblemError, match="no instance 'c': a, b"):
        load_problem(path, instance="c")

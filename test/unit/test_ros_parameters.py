"""Parameters as data: what is refused, and whether the message helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from shopfloor.ros.parameters import (
    BaseParameters,
    ParameterError,
    ParameterProblem,
    build,
    configuration_sha256,
    markdown_table,
    param,
    specs,
    validate,
)


@dataclass(frozen=True)
class Sample(BaseParameters):
    rate_hz: float = param(10.0, "Rate.", unit="Hz", ge=0.5, le=100.0)
    count: int = param(3, "How many.", ge=1)
    road: str = param("auto", "Which way.", choices=("auto", "image"))
    cameras: tuple[str, ...] = param((), "Cameras.")
    gains: tuple[float, ...] = param(default=(1.0,), description="Gains.", ge=0.0, le=2.0)
    loop: bool = param(False, "Again and again.", live=True)

    def problems(self) -> list[ParameterProblem]:
        fast = self.loop and self.rate_hz > 50.0
        return [ParameterProblem("rate_hz", "at most 50 Hz in a loop")] if fast else []


def test_defaults_stand_and_values_are_typed() -> None:
    built = build(Sample, {"rate_hz": 5, "cameras": ["a", "b"], "gains": [1, 0.5]})
    assert (built.rate_hz, type(built.rate_hz)) == (5.0, float)
    assert built.cameras == ("a", "b")
    assert built.gains == (1.0, 0.5)
    assert built.autostart


@pytest.mark.parametrize(
    ("key", "value", "needle"),
    [
        ("rate_hz", 0.1, "from 0.5 to 100 Hz"),
        ("rate_hz", float("nan"), "nan is not allowed"),
        ("rate_hz", float("inf"), "inf is not allowed"),
        ("rate_hz", True, "True is not allowed"),
        ("rate_hz", "fast", "'fast' is not allowed"),
        ("count", 0, "at least 1"),
        ("count", 2.0, "2.0 is not allowed"),
        ("road", "imge", "one of 'auto', 'image'"),
        ("cameras", "top", "str[]"),
        ("cameras", ["top", 3], "3 is not allowed"),
        ("gains", [1.0, 2.5], "2.5 is not allowed"),
        ("loop", 1, "1 is not allowed"),
        ("rate_khz", 1.0, "did you mean 'rate_hz'?"),
        ("zzz", 1.0, "known: autostart"),
        ("rate_hz", None, "None is not allowed"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key: str, value: Any, needle: str) -> None:
    (problem,) = validate(Sample, {key: value})
    assert problem.key == key
    assert needle in str(problem)
    with pytest.raises(ParameterError, match=key):
        build(Sample, {key: value})


def test_values_that_do_not_fit_each_other_are_named() -> None:
    assert validate(Sample, {"rate_hz": 60.0}) == validate(Sample, {"loop": True}) == []
    with pytest.raises(ParameterError, match="rate_hz: at most 50 Hz in a loop"):
        build(Sample, {"rate_hz": 60.0, "loop": True})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        build(Sample, {"rate_hz": -1.0, "count": 0, "nonsense": 1})
    assert [problem.key for problem in caught.value.problems] == ["rate_hz", "count", "nonsense"]


def test_the_hash_follows_every_value() -> None:
    one, other = build(Sample, {}), build(Sample, {"loop": True})
    assert configuration_sha256(one) == configuration_sha256(build(Sample, {}))
    assert configuration_sha256(one) != configuration_sha256(other)
    assert configuration_sha256(one) != configuration_sha256(one, model="abc")


def test_a_type_that_ros_does_not_know_is_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Broken(BaseParameters):
        folder: dict[str, str] = param(None, "No such parameter type.")  # noqa: RUF009

    with pytest.raises(TypeError, match="folder"):
        specs(Broken)


def test_the_docs_table_has_a_row_per_parameter() -> None:
    table = markdown_table(Sample)
    assert len(table.splitlines()) == 2 + len(specs(Sample))
    assert "| `loop` | `false` | bool | any time | Again and again. |" in table

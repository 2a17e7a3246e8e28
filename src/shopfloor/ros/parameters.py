"""Parameters as data: one frozen dataclass per node is its whole parameter interface.

The dataclass declares the ROS parameters (see :mod:`shopfloor.ros.node_parameters`), validates
plant files before anything starts, and generates the tables in ``docs/``. Nothing here needs ROS.

    @dataclass(frozen=True)
    class CameraParameters(BaseParameters):
        rate_hz: float = param(10.0, "Frames per second asked of the source.",
                               unit="Hz", ge=0.1, le=1000.0)
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

P = TypeVar("P")

_SCALARS: tuple[type, ...] = (bool, int, float, str)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: what a person or a tool needs to set it right."""

    name: str
    type: type
    is_array: bool
    default: Any
    description: str
    unit: str
    ge: float | None
    le: float | None
    choices: tuple[str, ...] | None
    read_only: bool
    live: bool

    @property
    def type_name(self) -> str:
        """`float`, `str[]` and so on."""
        return self.type.__name__ + ("[]" if self.is_array else "")

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        unit = f" {self.unit}" if self.unit else ""
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.ge is not None and self.le is not None:
            return f"{self.type_name} from {self.ge:g} to {self.le:g}{unit}"
        if self.ge is not None:
            return f"{self.type_name} of at least {self.ge:g}{unit}"
        if self.le is not None:
            return f"{self.type_name} of at most {self.le:g}{unit}"
        return f"{self.type_name}{unit}"


@dataclass(frozen=True)
class ParameterProblem:
    """Why a value was refused; `str()` is one line that names key, value and what is allowed."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class ParameterError(ValueError):
    """Some values do not fit; `problems` lists all of them."""

    def __init__(self, problems: Iterable[ParameterProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def param(
    default: Any,
    description: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] | None = None,
    read_only: bool = False,
    live: bool = False,
) -> Any:
    """Declare a field of a parameter dataclass.

    `ge` and `le` bound numbers (each element of an array), `choices` bounds strings.
    `read_only` parameters are fixed at start; `live` ones take effect while the node is active;
    all others can be set while the node is unconfigured and take effect at its next configure.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "description": description,
            "unit": unit,
            "ge": ge,
            "le": le,
            "choices": choices,
            "read_only": read_only,
            "live": live,
        },
    )


@dataclass(frozen=True)
class BaseParameters:
    """What every node has."""

    autostart: bool = param(
        True,
        "Configure and activate by itself, and try again after a failure. "
        "Off where a line_manager brings the node up.",
        read_only=True,
    )
    host_name: str = param(
        "", "Name of this host in the plant file; empty: the machine's host name.", read_only=True
    )
    service_events: str = param(
        "none",  # not "off", which is false in YAML
        "What the node's services tell on NAME/_service_event of each call: nothing, who and when, "
        "or also request and response.",
        choices=("none", "metadata", "contents"),
        live=True,
    )

    def problems(self) -> list[ParameterProblem]:
        """What no single bound can say: values that don't fit each other, texts of a wrong form."""
        return []


def specs(cls: type[Any]) -> dict[str, ParameterSpec]:
    """The parameters of a dataclass, in declaration order.

    Raises TypeError where a field's type is not bool, int, float, str or a tuple of one of them.
    """
    hints = typing.get_type_hints(cls)
    found: dict[str, ParameterSpec] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        is_array = typing.get_origin(hint) is tuple
        scalar = typing.get_args(hint)[0] if is_array else hint
        if scalar not in _SCALARS:
            raise TypeError(f"{cls.__name__}.{field.name}: no ROS parameter has type {hint}")
        meta = field.metadata
        found[field.name] = ParameterSpec(
            name=field.name,
            type=scalar,
            is_array=is_array,
            default=field.default,
            description=meta["description"],
            unit=meta["unit"],
            ge=meta["ge"],
            le=meta["le"],
            choices=meta["choices"],
            read_only=meta["read_only"],
            live=meta["live"],
        )
    return found


def coerce(spec: ParameterSpec, value: Any) -> Any:
    """`value` as the type that `spec` asks for (an int becomes a float, a list a tuple).

    Raises ParameterError naming the key, the value and what is allowed.
    """
    if not spec.is_array:
        return _coerce_scalar(spec, value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _refused(spec, value)
    return tuple(_coerce_scalar(spec, item) for item in value)


def _coerce_scalar(spec: ParameterSpec, value: Any) -> Any:
    if spec.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # type() and not isinstance(): True is an int, but never a rate.
    if type(value) is not spec.type:
        raise _refused(spec, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _refused(spec, value)
        if (spec.ge is not None and value < spec.ge) or (spec.le is not None and value > spec.le):
            raise _refused(spec, value)
    if spec.choices is not None and value not in spec.choices:
        raise _refused(spec, value)
    return value


def _refused(spec: ParameterSpec, value: Any) -> ParameterError:
    message = f"{value!r} is not allowed; allowed: {spec.allowed}"
    return ParameterError([ParameterProblem(spec.name, message)])


def _unknown(key: str, known: Iterable[str]) -> ParameterProblem:
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return ParameterProblem(key, f"unknown parameter; {hint}known: {', '.join(names)}")


def validate(cls: type[Any], values: Mapping[str, Any]) -> list[ParameterProblem]:
    """Everything that is wrong with `values` for the parameters of `cls`; empty: all is well."""
    known = specs(cls)
    problems: list[ParameterProblem] = []
    for key, value in values.items():
        if key not in known:
            problems.append(_unknown(key, known))
            continue
        try:
            coerce(known[key], value)
        except ParameterError as error:
            problems.extend(error.problems)
    if not problems and issubclass(cls, BaseParameters):
        typed = {key: coerce(known[key], value) for key, value in values.items()}
        problems.extend(cls(**typed).problems())
    return problems


def build(cls: type[P], values: Mapping[str, Any]) -> P:
    """`cls` from `values` over the defaults. Raises ParameterError with all problems."""
    problems = validate(cls, values)
    if problems:
        raise ParameterError(problems)
    known = specs(cls)
    return cls(**{key: coerce(known[key], value) for key, value in values.items()})


def configuration_sha256(parameters: Any, **extra: str) -> str:
    """Hash of every parameter value (and of `extra`, such as a model's hash), for provenance."""
    content = {**dataclasses.asdict(parameters), **extra}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def markdown_table(cls: type[Any]) -> str:
    """The parameters of `cls` as a Markdown table for docs/."""
    rows = ["| parameter | default | allowed | set when | meaning |", "|---|---|---|---|---|"]
    for spec in specs(cls).values():
        default = list(spec.default) if spec.is_array else spec.default
        when = "at start" if spec.read_only else "any time" if spec.live else "unconfigured"
        rows.append(
            f"| `{spec.name}` | `{json.dumps(default)}` | {spec.allowed} | {when} "
            f"| {spec.description} |"
        )
    return "\n".join(rows)

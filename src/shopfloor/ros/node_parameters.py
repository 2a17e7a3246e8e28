"""A parameter dataclass as the ROS parameters of a node.

A wrong value never ends a node: it is refused when set, and a wrong override at start is kept as a
problem that makes `configure` fail with file, key and allowed range until it is set right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from shopfloor.ros.parameters import (
    BaseParameters,
    ParameterError,
    ParameterProblem,
    ParameterSpec,
    build,
    coerce,
    specs,
    validate,
)

P = TypeVar("P", bound=BaseParameters)

# Declared by rclpy itself, or by tools through overrides.
_FOREIGN_PREFIXES = ("use_sim_time", "start_type_description_service", "qos_overrides")

_INT64_MAX = 2**63 - 1

_ARRAY_TYPES = {
    str: Parameter.Type.STRING_ARRAY,
    float: Parameter.Type.DOUBLE_ARRAY,
    int: Parameter.Type.INTEGER_ARRAY,
    bool: Parameter.Type.BOOL_ARRAY,
}


class NodeParameters(Generic[P]):
    """Declares the parameters of `cls` on `node` and keeps `value` up to date.

    may_change: asked for each parameter that is not live; False refuses the set.
    on_change: called with the old and the new value after each accepted set.
    """

    def __init__(
        self,
        node: Node,
        cls: type[P],
        may_change: Callable[[], bool],
        on_change: Callable[[P, P], None],
    ) -> None:
        self._node = node
        self._cls = cls
        self._specs = specs(cls)
        self._may_change = may_change
        self._on_change = on_change
        self._problems: dict[str, ParameterProblem] = {}
        self.value: P = cls()
        self._declare()
        node.add_pre_set_parameters_callback(self._coerce_all)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._accept)

    @property
    def problems(self) -> list[str]:
        """What is still wrong with the values given at start, one line each."""
        source = _params_files()
        return [f"{source}{problem}" for problem in self._problems.values()]

    def _declare(self) -> None:
        # rclpy keeps overrides of undeclared parameters to itself; a misspelt key must not pass.
        overrides = {
            key: parameter.value
            for key, parameter in self._node._parameter_overrides.items()
            if not key.startswith(_FOREIGN_PREFIXES)
        }
        # What is wrong starts at its default, so that the values in force always fit each other.
        good = overrides
        while problems := validate(self._cls, good):
            self._problems.update({problem.key: problem for problem in problems})
            kept = {key: value for key, value in good.items() if key not in self._problems}
            good = kept if len(kept) < len(good) else {}
        self.value = build(self._cls, good)
        for spec in self._specs.values():
            value = getattr(self.value, spec.name)
            ros_value = list(value) if spec.is_array else value
            self._node.declare_parameter(
                spec.name, ros_value, _descriptor(spec), ignore_override=True
            )

    def _coerce_all(self, parameters: list[Parameter]) -> list[Parameter]:
        return [self._coerced(parameter) for parameter in parameters]

    def _coerced(self, parameter: Parameter) -> Parameter:
        spec = self._specs.get(parameter.name)
        if spec is None or parameter.value is None:
            return parameter
        try:
            value = coerce(spec, parameter.value)
        except ParameterError:
            return parameter  # refused with its reason by _check
        if spec.is_array:
            return Parameter(parameter.name, _ARRAY_TYPES[spec.type], list(value))
        return Parameter(parameter.name, value=value)

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        changes: dict[str, Any] = {}
        for parameter in parameters:
            spec = self._specs.get(parameter.name)
            if spec is None:
                continue
            if not spec.live and not self._may_change():
                return SetParametersResult(
                    successful=False,
                    reason=f"{spec.name} takes effect at configure: "
                    "deactivate and clean up the node first",
                )
            try:
                changes[spec.name] = coerce(spec, parameter.value)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        problems = replace(self.value, **changes).problems() if changes else []
        if problems:
            return SetParametersResult(successful=False, reason="; ".join(map(str, problems)))
        return SetParametersResult(successful=True)

    def _accept(self, parameters: list[Parameter]) -> None:
        changes: dict[str, Any] = {
            p.name: coerce(self._specs[p.name], p.value)
            for p in parameters
            if p.name in self._specs
        }
        for name in changes:
            self._problems.pop(name, None)
        if changes:
            old, self.value = self.value, replace(self.value, **changes)
            self._on_change(old, self.value)


def _params_files() -> str:
    """`FILE: ` for the parameter files on the command line, to name them in errors."""
    files = [sys.argv[i + 1] for i, arg in enumerate(sys.argv[:-1]) if arg == "--params-file"]
    return f"{', '.join(files)}: " if files else ""


def _descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=spec.name,
        description=spec.description + (f" [{spec.unit}]" if spec.unit else ""),
        additional_constraints=f"allowed: {spec.allowed}",
        read_only=spec.read_only,
        # An empty list has no element type and a whole number is no double: coerce() types them.
        dynamic_typing=True,
    )
    if not spec.is_array and spec.type is float and (spec.ge is not None or spec.le is not None):
        low = spec.ge if spec.ge is not None else -sys.float_info.max
        high = spec.le if spec.le is not None else sys.float_info.max
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    if not spec.is_array and spec.type is int and (spec.ge is not None or spec.le is not None):
        low_int = int(spec.ge) if spec.ge is not None else -_INT64_MAX
        high_int = int(spec.le) if spec.le is not None else _INT64_MAX
        descriptor.integer_range = [IntegerRange(from_value=low_int, to_value=high_int)]
    return descriptor

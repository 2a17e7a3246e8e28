"""Process specs as actions of `ros2 launch`. The only module of the package that imports `launch`.

Restarts follow the same counter as in the runner for wheels; `launch`'s own respawn knows neither
back-off nor "only after a failure".
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import (
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnShutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration

from shopfloor.plant.claims import claim
from shopfloor.plant.environment import domain_id
from shopfloor.plant.parent import PARENT_PIPE_VARIABLE, named_pipe
from shopfloor.plant.paths import find_plant_file
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.restart import RestartCounter
from shopfloor.plant.specs import ProcessSpec, make_specs, shared_memory_warning
from shopfloor.plant.supervisor import StopLimits

_STOP = StopLimits()
"""`launch` would give 5 s, too short for a clean end on a host without a free core."""


class EssentialProcessError(RuntimeError):
    """A process without which the line cannot run has ended for good."""


def plant_actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Actions for the launch arguments plant, host, only, domain_id and log_level.

    Raises PlantError, FileNotFoundError, ValueError or ClashError; `ros2 launch` prints them.
    """

    def argument(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    return spec_actions(
        load_plant(find_plant_file(argument("plant"))),
        argument("host"),
        argument("only").replace(",", " ").split(),
        domain=argument("domain_id"),
        log_level=argument("log_level"),
    )


def spec_actions(
    plant: Plant, host: str, only: Sequence[str] = (), *, domain: str, log_level: str
) -> list[LaunchDescriptionEntity]:
    """Actions for the processes of `plant`; domain: as it was typed, empty for the plant's own."""
    specs = make_specs(
        plant,
        host,
        only,
        domain_id=domain_id(domain) if domain else None,
        log_level=log_level,
    )
    claims = claim(plant, specs)
    # The claims live as long as this process; the handler's reference keeps them.
    folder = tempfile.TemporaryDirectory(prefix="shopfloor-")
    pipe = Path(folder.name) / "parent"
    named_pipe(pipe)  # open as long as this process lives, however it ends

    def clean_up(context: LaunchContext) -> None:
        claims.release()
        folder.cleanup()

    actions: list[LaunchDescriptionEntity] = [
        RegisterEventHandler(OnShutdown(on_shutdown=[OpaqueFunction(function=clean_up)]))
    ]
    warning = shared_memory_warning(specs)
    if warning:
        actions.append(LogInfo(msg=f"warning: {warning}"))
    for spec in specs:
        file = Path(folder.name) / f"{spec.name}.yaml"
        file.write_text(spec.parameters, "utf-8")
        actions.append(_process(spec, str(file), RestartCounter(spec.restart), pipe))
    return actions


def _process(
    spec: ProcessSpec, parameters_file: str, restart: RestartCounter, pipe: Path
) -> ExecuteProcess:
    def on_exit(event: ProcessExited, context: LaunchContext) -> Sequence[Any] | None:
        if context.is_shutdown:
            return None
        if not restart.wanted(event.returncode):
            why = "is not restarted" if event.returncode else ""
        else:
            delay_s = restart.next_delay_s(time.monotonic(), event.returncode)
            if delay_s is not None:
                again = _process(spec, parameters_file, restart, pipe)
                return [
                    LogInfo(msg=f"{spec.name}: restart in {delay_s:.1f} s"),
                    TimerAction(period=delay_s, actions=[again]),
                ]
            why = f"gave up: {spec.restart.limit} restarts within {spec.restart.within_s:g} s"
        if not why:
            return None
        if spec.essential:
            # An exception, not a Shutdown action: that one would make `ros2 launch` exit with 0.
            raise EssentialProcessError(f"{spec.name} {why}; the line cannot run without it")
        return [LogInfo(msg=f"{spec.name} {why}")]

    return ExecuteProcess(
        cmd=spec.command(parameters_file),
        name=spec.name,
        additional_env={**spec.environment, PARENT_PIPE_VARIABLE: str(pipe)},
        output="screen",
        on_exit=on_exit,
        sigterm_timeout=str(_STOP.terminate_s),
        sigkill_timeout=str(_STOP.interrupt_s),
    )

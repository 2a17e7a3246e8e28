"""Process specs as systemd units: the same command lines, parameters and environment.

The files come as a tree to be laid over `/` of the host: units, one parameter file a process, the
environment of ROS, and the user. See systemd.unit(5), systemd.service(5), systemd.exec(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from shopfloor.plant.devices import Devices, devices_of
from shopfloor.plant.niceness import cpu_weight
from shopfloor.plant.plant_file import Plant
from shopfloor.plant.specs import ProcessSpec
from shopfloor.plant.watch import START_LIMIT_S
from shopfloor.ros.network import EXIT_CODE

USER = "shopfloor"
TARGET = "shopfloor.target"
STOP_UNIT = "shopfloor-stop.service"
UNITS = "etc/systemd/system"
PARAMETERS = "etc/shopfloor/processes"
ENVIRONMENT_FILE = "etc/shopfloor/environment"
PLANT_FILE = "etc/shopfloor/plant.yaml"
STATE_FOLDER = "/var/lib/shopfloor"

WATCHDOG_S = 10.0
"""`WatchdogSec` where the plant file says no `watchdog_s`. systemd counts by the wall clock, time
without a free core included, so this is long enough for a host that swaps or a full disk."""

STOP_LIMIT_S = 15

_ROS_VARIABLES = re.compile(
    r"PYTHONPATH|LD_LIBRARY_PATH|AMENT_PREFIX_PATH|_ROS_WHEELS_BOOTSTRAP_COMPLETE"
    r"|ROS_(DISTRO|VERSION|PYTHON_VERSION|PYTHON_CHECK_FIELDS)"
)

_HARDENING = """\
# No way up, and nothing of the system to write to.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
# What a library tries and may do without gets an error, and not the end of the process.
SystemCallErrorNumber=EPERM
# UDP to other hosts, netlink to learn the addresses of this one.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
UMask=0027
# /dev/shm stays shared: frames and Fast DDS go through it from unit to unit. Memory stays writable
# and executable: inference engines compile their kernels at run time.
PrivateIPC=no
RemoveIPC=no
MemoryDenyWriteExecute=no
"""


def host_files(
    plant: Plant,
    specs: Sequence[ProcessSpec],
    *,
    user: str = USER,
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The files of one host, by their path below `/`.

    specs: processes of one host, with `plant_file` at PLANT_FILE. variables: where ROS is, by
    default the caller's own. Raises ValueError where specs of several hosts are mixed or a value
    holds a line break.
    """
    hosts = {spec.host for spec in specs}
    if len(hosts) != 1:
        raise ValueError(f"units are made for one host, not for {sorted(hosts) or 'none'}")
    variables = {
        name: value
        for name, value in (os.environ if variables is None else variables).items()
        if _ROS_VARIABLES.fullmatch(name) and value
    }
    files = {
        f"{UNITS}/{TARGET}": _target(plant, specs),
        f"{UNITS}/{STOP_UNIT}": _stop_unit(),
        ENVIRONMENT_FILE: _environment_file(variables),
        PLANT_FILE: Path(plant.lines.file).read_text(encoding="utf-8"),
        "usr/lib/sysusers.d/shopfloor.conf": _user(user),
    }
    for spec in specs:
        files[f"{UNITS}/{unit_name(spec)}"] = _unit(plant, spec, user, variables)
        files[f"{PARAMETERS}/{spec.name}.yaml"] = spec.parameters
    return files


def unit_name(spec: ProcessSpec) -> str:
    """The unit of a process."""
    return f"shopfloor-{spec.name}.service"


def escaped(text: str, *, command: bool = False) -> str:
    """A value in the quotes of a unit file; in a command line `$` is doubled too.

    Raises ValueError on a line break or another control character.
    """
    if any(ord(letter) < 32 for letter in text):
        raise ValueError(f"{text!r} holds a control character; allowed: one line of text")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return '"' + (text.replace("$", "$$") if command else text) + '"'


def _target(plant: Plant, specs: Sequence[ProcessSpec]) -> str:
    wants = "".join(f"Wants={unit_name(spec)}\n" for spec in specs)
    return (
        f"[Unit]\nDescription=shopfloor: {plant.name} on {specs[0].host}\n"
        f"{wants}\n[Install]\nWantedBy=multi-user.target\n"
    )


def _stop_unit() -> str:
    return (
        "# Started when a process without which the line cannot run has used up its restarts.\n"
        "[Unit]\nDescription=shopfloor: an essential process has failed for good\n\n"
        f"[Service]\nType=oneshot\nExecStart=systemctl --no-block stop {TARGET}\n"
    )


def _user(user: str) -> str:
    return (
        "# A system user: logind would clear /dev/shm of an ordinary one at its log-out.\n"
        f'u {user} - "shopfloor nodes" {STATE_FOLDER}\n'
    )


def _environment_file(variables: Mapping[str, str]) -> str:
    lines = [
        f"{name}={escaped(value).replace('%%', '%')}"  # % has no meaning in there
        for name, value in sorted(variables.items())
    ]
    return "# Where ROS 2 and the packages are, as it was when the units were made.\n" + "".join(
        f"{line}\n" for line in lines
    )


def _unit(plant: Plant, spec: ProcessSpec, user: str, variables: Mapping[str, str]) -> str:
    policy = spec.restart
    restart = {"always": "always", "on_failure": "on-failure", "never": "no"}[policy.when]
    command = spec.command(f"/{PARAMETERS}/{spec.name}.yaml")
    # An executable is no argument: systemd wants its path without quotes where it can.
    words = [command[0] if " " not in command[0] else escaped(command[0], command=True)]
    words += [escaped(word, command=True) for word in command[1:]]
    environment = {
        **spec.environment,
        "SHOPFLOOR_RUN_DIR": "/run/shopfloor",
        "ROS_LOG_DIR": "/var/log/shopfloor",
        # The watchdog ends a stuck process with SIGABRT: its stack goes to the journal.
        "PYTHONFAULTHANDLER": "1",
    }
    process = plant.processes[spec.name]
    watchdog_s = WATCHDOG_S if process.watchdog_s is None else process.watchdog_s
    nodes = [plant.nodes[key] for key in process.nodes]
    devices = devices_of(nodes, plant.hosts[spec.host])
    names = ", ".join(node.full_name for node in spec.nodes)
    lines = [
        f"# Made from the plant file '{plant.name}' by python -m shopfloor.plant systemd.",
        "[Unit]",
        f"Description=shopfloor {spec.name}: {names}",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        f"PartOf={TARGET}",
        f"StartLimitIntervalSec={policy.within_s:g}",
        f"StartLimitBurst={policy.limit + 1}",
        *([f"OnFailure={STOP_UNIT}"] if spec.essential else []),
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(words)}",
        f"WorkingDirectory={STATE_FOLDER}",
        f"EnvironmentFile=/{ENVIRONMENT_FILE}",
        *(f"Environment={escaped(f'{name}={value}')}" for name, value in environment.items()),
        f"User={user}",
        f"Group={user}",
        "StateDirectory=shopfloor",
        "CacheDirectory=shopfloor",
        "LogsDirectory=shopfloor",
        "RuntimeDirectory=shopfloor",
        "RuntimeDirectoryPreserve=yes",
        *(f"ReadWritePaths=-{path}" for path in _written_paths(spec, plant)),
        "",
        f"Restart={restart}",
        f"RestartSec={policy.backoff_s:g}",
        f"RestartForceExitStatus={EXIT_CODE}",  # the way to other hosts opened
        f"WatchdogSec={watchdog_s:g}",
        f"TimeoutStartSec={START_LIMIT_S:g}",
        f"TimeoutStopSec={STOP_LIMIT_S}",
        "KillMode=mixed",
        f"MemoryMax={spec.memory_mb * 10**6}",
        f"CPUWeight={cpu_weight(spec.nice)}",
        "OOMPolicy=kill",
        "TasksMax=512",
        "",
        *_device_lines(devices),
        f"ProtectHome={_protect_home([*command, *variables.values(), *environment.values()])}",
        _HARDENING,
    ]
    return "\n".join(lines)


def _device_lines(devices: Devices) -> Iterable[str]:
    if not devices.allow:
        yield "PrivateDevices=yes"
        return
    yield "# The device nodes that its cameras or its accelerator need, and no others."
    yield "DevicePolicy=closed"
    for device in devices.allow:
        yield f"DeviceAllow={device} rw"
    yield f"SupplementaryGroups={' '.join(devices.groups)}"


def _protect_home(texts: Iterable[str]) -> str:
    """Homes are hidden, unless the code itself or the keystore lies in one."""
    parts = [part for text in texts for part in text.split(":")]
    at_home = any(part.startswith(("/home/", "/root/")) for part in parts)
    return "read-only" if at_home else "yes"


def _written_paths(spec: ProcessSpec, plant: Plant) -> list[str]:
    """Absolute folders that parameters name for writing, other than the state folder."""
    found = set()
    for key in plant.processes[spec.name].nodes:
        for name, value in plant.nodes[key].parameters.items():
            if name != "folder" and not name.endswith("_folder"):
                continue
            path = PurePosixPath(str(value))
            if path.is_absolute() and not path.is_relative_to(STATE_FOLDER):
                found.add(str(path))
    return sorted(found)

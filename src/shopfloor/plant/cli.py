"""`python -m shopfloor.plant`: check a plant file, show its processes, run them, install them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from shopfloor.plant.checks import check_plant
from shopfloor.plant.claims import ClashError, claim
from shopfloor.plant.console import LogPrinter
from shopfloor.plant.environment import domain_id, plant_environment
from shopfloor.plant.paths import find_plant_file
from shopfloor.plant.placement import ANY_HOST, THIS_HOST, select
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.problems import PlantError, counted
from shopfloor.plant.security import policy_xml
from shopfloor.plant.specs import ProcessSpec, make_specs, shared_memory_warning
from shopfloor.plant.supervisor import Supervisor
from shopfloor.plant.systemd import PLANT_FILE, STOP_UNIT, USER, host_files
from shopfloor.ros.network import known_peers

WRONG_INPUT = 2
WORTH_SAYING_MBIT_S = 1.0
LOG_LEVELS = ("debug", "info", "warn", "error")

_EXAMPLES = """examples:
  python -m shopfloor.plant check --plant config/plant.yaml
  python -m shopfloor.plant specs --plant demo
  python -m shopfloor.plant up --plant demo
  python -m shopfloor.plant up --plant /etc/shopfloor/plant.yaml --host jetson_1
  python -m shopfloor.plant up --plant demo --only board_camera board_inspector --domain-id 7
  python -m shopfloor.plant status --plant demo
  python -m shopfloor.plant systemd --plant plant --host jetson_1 --output build/jetson_1

FILE is a path, or the name of a file in config/. --host says whose processes run here: the host
that this machine is in the file (auto), a host by name, or all of them on this machine (all).
Where ROS 2 has `ros2 launch`, `ros2 launch shopfloor plant.launch.py` starts the same processes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb of the command line; returns the exit code (2: something wrong with the input)."""
    options = _parser().parse_args(arguments)
    verbs = {
        "up": _up,
        "check": _check,
        "specs": _specs,
        "status": _status,
        "systemd": _systemd,
        "security": _security,
    }
    try:
        return verbs[options.verb](options)
    except PlantError as error:
        print(error, file=sys.stderr)
        print(f"{counted(len(error.problems), 'problem')}; nothing was started", file=sys.stderr)
        return WRONG_INPUT
    except (FileNotFoundError, ClashError) as error:
        print(error, file=sys.stderr)
        return WRONG_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.plant",
        description="Check a plant file, show the processes that it stands for, run them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, meaning, default_host in (
        ("up", "start the processes of a host and keep them running", THIS_HOST),
        ("check", "report everything that is wrong, start nothing", ANY_HOST),
        ("specs", "show the processes: nodes, command lines, environment", ANY_HOST),
        ("status", "show how hosts and nodes are, live; exit code 1 if not all run", ANY_HOST),
        ("systemd", "write a host's systemd units, to be laid over its /", THIS_HOST),
        ("security", "write the plant's SROS 2 policy: what each node may do", ANY_HOST),
    ):
        verb = verbs.add_parser(name, help=meaning, description=meaning)
        verb.add_argument("--plant", default="demo", metavar="FILE", help="default: demo")
        verb.add_argument(
            "--host", default=default_host, metavar="auto|all|NAME", help=f"default: {default_host}"
        )
        if name in ("systemd", "security"):
            verb.add_argument("--output", required=True, metavar="DIR", help="where to write")
        if name == "systemd":
            verb.add_argument("--user", default=USER, help=f"who runs the nodes; default: {USER}")
        if name == "status":
            verb.add_argument("--once", action="store_true", help="print it once")
            verb.add_argument(
                "--wait", type=float, default=5.0, metavar="SECONDS",
                help="with --once: wait so long for every host; default: 5",
            )  # fmt: skip
        if name in ("up", "specs"):
            verb.add_argument(
                "--only", nargs="+", default=[], metavar="NODE", help="only these nodes"
            )
        if name in ("up", "specs", "status"):
            verb.add_argument(
                "--domain-id", type=_domain_id, metavar="N", help="ROS domain, 0 to 101"
            )
        if name in ("up", "specs"):
            verb.add_argument("--log-level", choices=LOG_LEVELS, default="", help="of all nodes")
        if name in ("specs", "status"):
            verb.add_argument("--json", action="store_true", help="all of it, for programs")
    return parser


def _domain_id(text: str) -> int:
    try:
        return domain_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _load(options: argparse.Namespace) -> tuple[Plant, list[ProcessSpec]]:
    plant = load_plant(find_plant_file(options.plant))
    specs = make_specs(
        plant,
        options.host,
        options.only,
        domain_id=options.domain_id,
        log_level=options.log_level,
    )
    return plant, specs


def _check(options: argparse.Namespace) -> int:
    plant = load_plant(find_plant_file(options.plant))
    report = check_plant(plant, options.host)
    for link in (link for link in report.links if link.mbit_s >= WORTH_SAYING_MBIT_S):
        most = ", ".join(f"{flow.source.name} {flow.mbit_s:.1f}" for flow in link.flows[:3])
        print(f"{link.from_host} -> {link.to_host}: about {link.mbit_s:.1f} Mbit/s ({most}, ...)")
    for note in report.notes:
        print(f"note: {note}")
    print(
        f"plant '{plant.name}': {counted(len(plant.hosts), 'host')}, "
        f"{counted(len(plant.processes), 'process', 'processes')}, "
        f"{counted(len(plant.nodes), 'node')}: no problems"
    )
    return 0


def _specs(options: argparse.Namespace) -> int:
    plant, specs = _load(options)
    if options.json:
        print(json.dumps([_as_data(spec) for spec in specs], indent=2))
        return 0
    table = Table("host", "process", title=f"plant '{plant.name}'")
    table.add_column("node", no_wrap=True)
    table.add_column("type")
    table.add_column("restart")
    for spec in specs:
        policy = spec.restart
        for index, node in enumerate(spec.nodes):
            first = index == 0
            table.add_row(
                spec.host if first else "",
                spec.name if first else "",
                node.full_name,
                node.type,
                f"{policy.when} {policy.limit}x" if first else "",
            )
        table.add_section()
    Console().print(table)
    return 0


def _systemd(options: argparse.Namespace) -> int:
    plant = load_plant(find_plant_file(options.plant))
    specs = make_specs(plant, options.host, plant_file=f"/{PLANT_FILE}")
    if options.host == ANY_HOST:
        raise FileNotFoundError("--host all: units are made for one host; allowed: auto or a name")
    root = Path(options.output)
    for name, text in host_files(plant, specs, user=options.user).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(path)
    print(
        f"\nOn the host '{specs[0].host}':\n  cp -r {root}/. / && systemd-sysusers && "
        "systemctl daemon-reload && systemctl enable --now shopfloor.target\n"
        f"({STOP_UNIT} ends the line where an essential process has used up its restarts.)"
    )
    return 0


def _security(options: argparse.Namespace) -> int:
    plant = load_plant(find_plant_file(options.plant))
    check_plant(plant, options.host)
    path = Path(options.output) / "policy.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(policy_xml(plant), "utf-8")
    keystore = plant.security.keystore if plant.security else "KEYSTORE"
    domain = os.environ.get("ROS_DOMAIN_ID", "0") if plant.domain_id is None else plant.domain_id
    print(
        f"{path}\n\nWhere the keys are made (docs/security.md); they hold for this domain only:\n"
        f"  export ROS_DOMAIN_ID={domain}\n"
        f"  ros2 security create_keystore {keystore}\n"
        f"  ros2 security generate_artifacts -k {keystore} -p {path}"
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    plant = load_plant(find_plant_file(options.plant))
    os.environ.update(plant_environment(plant, (), next(iter(plant.hosts)), options.domain_id))
    # The tool may run anywhere, on a machine that is none of the hosts, too.
    known = known_peers(plant.peers)
    if unknown := sorted({*plant.peers} - {*known}):
        print(f"not looked for, no address known: {', '.join(unknown)}", file=sys.stderr)
    os.environ["ROS_STATIC_PEERS"] = ";".join(known)
    from shopfloor.plant.status import show
    from shopfloor.plant.status_node import StatusListener

    stop = _StopSignals()
    listener = StatusListener(plant, {p.host for p in select(plant, options.host)})
    try:
        return show(
            listener.look,
            once=options.once,
            as_json=options.json,
            wait_s=options.wait,
            stopped=lambda: stop.count > 0,
        )
    finally:
        listener.close()


def _as_data(spec: ProcessSpec) -> dict[str, object]:
    return {**asdict(spec), "command": spec.command("PARAMETERS_FILE")}


def _up(options: argparse.Namespace) -> int:
    plant, specs = _load(options)
    warning = shared_memory_warning(specs)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    with claim(plant, specs):
        return run_processes(specs)


def run_processes(specs: Sequence[ProcessSpec]) -> int:
    """Run `specs` until SIGINT, SIGTERM or SIGHUP, or until nothing runs any more."""
    stop = _StopSignals()
    printer = LogPrinter([spec.name for spec in specs])
    with Supervisor(specs, on_event=printer) as supervisor:
        while not supervisor.done and not stop.count:
            supervisor.poll()
        supervisor.request_stop()
        while supervisor.running:
            if stop.count > 1:
                supervisor.kill()
            supervisor.poll()
        failures = supervisor.failures
        for name, code in failures.items():
            print(f"{name} failed with exit code {code}", file=sys.stderr)
        return supervisor.exit_code


class _StopSignals:
    """Counts the signals that ask for an end; the second one makes it quick."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

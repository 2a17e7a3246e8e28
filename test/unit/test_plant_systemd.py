"""Units from a plant file: what systemd reads must be what the other runners start."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shopfloor.plant import cli
from shopfloor.plant.paths import config_folder
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.specs import ProcessSpec, make_specs
from shopfloor.plant.systemd import PLANT_FILE, UNITS, escaped, host_files, unit_name

LIMIT_S = 60.0
ANALYZE = shutil.which("systemd-analyze")
HOSTS = [
    (path.stem, host)
    for path in sorted(config_folder().glob("*.yaml"))
    for host in load_plant(path).hosts
]
ODD = 'a "quoted" 100% $HOME \\back\\slash; it\'s'
PLANT = """\
plant: trial
domain_id: 9
hosts:
  here: {hostname: "*", role: single, capabilities: [camera]}
cells:
  line_1:
    nodes:
      gate: {type: quality_gate, parameters: {line: "50% off $HOME"}}
      eye: {type: camera, parameters: {source: v4l2, address: /dev/video0}}
      tape: {type: recorder, parameters: {folder: /data/bags}}
      tape_2: {type: recorder, parameters: {folder: /var/lib/shopfloor/bags}}
processes:
  quality: {host: here, nodes: [gate], restart: {limit: 3, within_s: 30, when: always}, memory_mb: 300}
  vision: {host: here, nodes: [eye], essential: false, restart: {when: never}, nice: 5}
  tapes: {host: here, nodes: [tape, tape_2]}
"""  # noqa: E501


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    path = tmp_path / "plant.yaml"
    path.write_text(PLANT, "utf-8")
    return load_plant(path)


def units(plant: Plant, host: str = "here") -> dict[str, str]:
    """Unit text by name."""
    files = host_files(plant, make_specs(plant, host))
    return {Path(name).name: text for name, text in files.items() if name.startswith(UNITS)}


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def words(line: str) -> list[str]:
    """A command line as systemd reads it: quotes and backslashes, then % and $ doubled."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


def written(folder: Path, plant: str, host: str) -> Path:
    """The tree that the command line writes."""
    assert cli.main(["systemd", "--plant", plant, "--host", host, "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(("plant_name", "host"), HOSTS)
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_itself_finds_nothing_wrong(plant_name: str, host: str, tmp_path: Path) -> None:
    folder = written(tmp_path, plant_name, host) / UNITS
    names = sorted(path.name for path in folder.iterdir())
    assert ANALYZE is not None
    verified = subprocess.run(
        [ANALYZE, "verify", *names],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
    )
    own = [line for line in verified.stderr.splitlines() if "shopfloor" in line]
    assert not own and verified.returncode == 0, verified.stderr
    for service in folder.glob("shopfloor-*.service"):
        if service.name == "shopfloor-stop.service":
            continue
        judged = subprocess.run(
            [ANALYZE, "security", "--offline=yes", "--threshold=25", str(service)],
            capture_output=True,
            text=True,
        )
        if "unrecognized option" in judged.stderr:
            pytest.skip("this systemd-analyze cannot judge files")
        assert judged.returncode == 0, f"{service.name}: {judged.stdout[-200:]}{judged.stderr}"


def test_a_unit_starts_the_command_of_the_other_runners(plant: Plant) -> None:
    made = units(plant)
    for spec in make_specs(plant, "here"):
        unit = made[unit_name(spec)]
        (line,) = values(unit, "ExecStart")
        assert words(line) == spec.command(f"/etc/shopfloor/processes/{spec.name}.yaml")
        environment = dict(words(text)[0].split("=", 1) for text in values(unit, "Environment"))
        assert spec.environment.items() <= environment.items()
    parameters = host_files(plant, make_specs(plant, "here"))[
        "etc/shopfloor/processes/quality.yaml"
    ]
    assert "50% off $HOME" in parameters


def test_the_plant_file_goes_to_where_the_recorder_may_read_it(plant: Plant) -> None:
    files = host_files(plant, make_specs(plant, "here", plant_file=f"/{PLANT_FILE}"))
    assert files[PLANT_FILE] == PLANT
    assert (
        '"plant_file": "/etc/shopfloor/plant.yaml"' in files["etc/shopfloor/processes/tapes.yaml"]
    )


def test_restart_memory_and_essential_come_from_the_plant_file(plant: Plant) -> None:
    made = units(plant)
    quality, vision = made["shopfloor-quality.service"], made["shopfloor-vision.service"]
    assert values(quality, "Restart") == ["always"] and values(vision, "Restart") == ["no"]
    assert values(quality, "StartLimitBurst") == ["4"]  # the first start and three restarts
    assert values(quality, "StartLimitIntervalSec") == ["30"]
    assert values(quality, "MemoryMax") == ["300000000"]
    assert values(quality, "OnFailure") == ["shopfloor-stop.service"]
    assert values(vision, "OnFailure") == []
    assert sorted(values(made["shopfloor.target"], "Wants")) == sorted(
        name for name in made if name.endswith(".service") and "stop" not in name
    )


def test_who_stands_back_does_so_by_weight_between_units_and_by_niceness_of_its_threads(
    plant: Plant,
) -> None:
    made = units(plant)
    quality, vision = made["shopfloor-quality.service"], made["shopfloor-vision.service"]
    assert values(quality, "CPUWeight") == ["100"] and values(vision, "CPUWeight") == ["33"]
    assert "--nice" not in values(quality, "ExecStart")[0]
    assert "--nice 5 --node camera:/line_1/eye" in " ".join(words(values(vision, "ExecStart")[0]))


def test_the_watchdog_is_that_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "plant.yaml"
    text = PLANT.replace("memory_mb: 300", "watchdog_s: 2.5")
    path.write_text(text.replace("nodes: [eye],", "nodes: [eye], watchdog_s: 0,"), "utf-8")
    plant = load_plant(path)
    made = units(plant)
    assert values(made["shopfloor-quality.service"], "WatchdogSec") == ["2.5"]
    assert values(made["shopfloor-vision.service"], "WatchdogSec") == ["0"], "0 is no watchdog"
    # What the plant file does not say: longer than in the runner, which knows about busy cores.
    assert values(made["shopfloor-tapes.service"], "WatchdogSec") == ["10"]
    assert {spec.name: spec.watchdog_s for spec in make_specs(plant, "here")} == {
        "quality": 2.5, "vision": 0.0, "tapes": 1.5
    }  # fmt: skip


def test_each_unit_may_open_its_devices_and_write_its_folders_only(plant: Plant) -> None:
    made = units(plant)
    quality, vision = made["shopfloor-quality.service"], made["shopfloor-vision.service"]
    assert values(quality, "PrivateDevices") == ["yes"] and not values(quality, "DeviceAllow")
    assert values(vision, "PrivateDevices") == []
    assert "char-video4linux rw" in values(vision, "DeviceAllow")
    assert not any("nvidia" in device for device in values(vision, "DeviceAllow"))
    assert values(made["shopfloor-tapes.service"], "ReadWritePaths") == ["-/data/bags"]
    for name, unit in made.items():
        if name.endswith(".service") and name != "shopfloor-stop.service":
            assert values(unit, "NoNewPrivileges") == ["yes"]
            assert values(unit, "ProtectSystem") == ["strict"]
            assert values(unit, "PrivateIPC") == ["no"], "frames go from unit to unit"
            assert values(unit, "User") == ["shopfloor"]


def test_odd_text_survives_the_quotes() -> None:
    assert words(escaped(ODD, command=True)) == [ODD]
    assert shlex.split(escaped(ODD))[0].replace("%%", "%") == ODD
    with pytest.raises(ValueError, match="control character"):
        escaped("first\nExecStart=/bin/evil")


def test_units_are_for_one_host(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="one host"):
        host_files(plant, [])
    assert cli.main(["systemd", "--plant", "demo", "--host", "all", "--output", "x"]) == 2
    assert "allowed: auto or a name" in capsys.readouterr().err
    assert not Path("x").exists()


def test_code_in_a_home_stays_readable(plant: Plant) -> None:
    specs = make_specs(plant, "here")
    for variables, expected in (
        ({"PYTHONPATH": "/opt/shopfloor"}, "yes" if _outside_homes(specs) else "read-only"),
        ({"PYTHONPATH": "/opt/x:/home/ann/ws"}, "read-only"),
    ):
        unit = host_files(plant, specs, variables=variables)[f"{UNITS}/shopfloor-quality.service"]
        assert values(unit, "ProtectHome") == [expected]


def _outside_homes(specs: list[ProcessSpec]) -> bool:
    return not sys.executable.startswith(("/home/", "/root/"))


def test_a_process_of_a_unit_gets_ready_in_the_environment_of_the_unit_alone(
    plant: Plant, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not there")
    pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built")
    files = host_files(plant, make_specs(plant, "here"))
    unit = files[f"{UNITS}/shopfloor-quality.service"]
    parameters = tmp_path / "quality.yaml"
    parameters.write_text(files["etc/shopfloor/processes/quality.yaml"], "utf-8")
    assignments = files["etc/shopfloor/environment"].splitlines()[1:]
    assignments += [words(text)[0] for text in values(unit, "Environment")]
    environment = {}
    for text in assignments:
        name, _, value = text.partition("=")
        environment[name] = value if not value.startswith('"') else shlex.split(value)[0]
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(LIMIT_S)
    # Its own folders are systemd's to make; and nobody else may be on its domain.
    environment |= {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "SHOPFLOOR_RUN_DIR": str(tmp_path),
        "ROS_LOG_DIR": str(tmp_path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF",
    }
    command = words(values(unit, "ExecStart")[0])
    command[-1] = str(parameters)
    process = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        assert manager.recv(4096) == b"READY=1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
        manager.close()

"""Where the package's files lie: in a checkout, in a colcon install, or where the user says."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

FILES_VARIABLE = "SHOPFLOOR_FILES_OF_BAG"
"""Set by a replay alone: the folder of `kept_file`."""

_SOURCE = Path(__file__).resolve().parents[3]


def share_folder() -> Path:
    """The folder with config/, launch/ and models/.

    The checkout where this file lies in one (a symlink install too), else share/shopfloor of the
    install. Raises FileNotFoundError naming both where there is neither.
    """
    if (_SOURCE / "package.xml").is_file() and (_SOURCE / "config").is_dir():
        return _SOURCE
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    for prefix in filter(None, prefixes):
        share = Path(prefix) / "share" / "shopfloor"
        if (share / "config").is_dir():
            return share
    raise FileNotFoundError(
        f"config/ and models/ of shopfloor are neither in {_SOURCE} nor in share/shopfloor of "
        f"AMENT_PREFIX_PATH={':'.join(prefixes)}; source install/setup.bash"
    )


def models_folder() -> Path:
    """The folder of model packages: SHOPFLOOR_MODELS, else models/ of the package."""
    return Path(os.environ.get("SHOPFLOOR_MODELS") or share_folder() / "models")


def model_folder(model: str) -> Path:
    """The folder of `NAME/VERSION`, or `model` itself where it is the path of a folder.

    Raises FileNotFoundError that lists the models there are.
    """
    for candidate in (Path(model).expanduser(), models_folder() / model):
        if (candidate / "model.yaml").is_file():
            return candidate
    found = sorted(
        str(path.parent.relative_to(models_folder()))
        for path in models_folder().glob("*/*/model.yaml")
    )
    raise FileNotFoundError(
        f"no model '{model}': neither that folder nor {models_folder() / model} has a model.yaml; "
        f"there are: {', '.join(found) or 'none'}"
    )


def parameter_file(name: str) -> Path:
    """The file that a parameter names: as given, or in the package's config folder.

    In a replay the one that the bag kept under this name, where it did: the parameter itself, and
    with it the hash of the configuration, is that of the day.
    """
    if folder := os.environ.get(FILES_VARIABLE):
        kept = kept_file(Path(folder), name)
        if kept.is_file():
            return kept
    path = Path(name)
    return path if path.is_absolute() or path.exists() else share_folder() / "config" / path


def kept_file(folder: Path, name: str) -> Path:
    """Where a replay has the file of this name; readers may know formats by its last part."""
    return folder / hashlib.sha256(name.encode()).hexdigest()[:16] / Path(name).name


def message_folder(package: str, kind: str = "msg") -> Path:
    """The folder of a package's .msg files (or of `srv`, `action`). Raises FileNotFoundError."""
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        folder = Path(prefix) / "share" / package / kind
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"{package} is not built: no share/{package}/{kind} in AMENT_PREFIX_PATH"
    )


def data_folder() -> Path:
    """Real data for tests and benchmarks: SHOPFLOOR_DATA, else ../shared/data of the checkout."""
    return Path(os.environ.get("SHOPFLOOR_DATA") or _SOURCE.parent / "shared" / "data")


def run_folder() -> Path:
    """The folder of sockets and locks, private to this user; it need not exist yet.

    SHOPFLOOR_RUN_DIR, else shopfloor/ in XDG_RUNTIME_DIR, else shopfloor-UID/ in the folder of
    temporary files.
    """
    if named := os.environ.get("SHOPFLOOR_RUN_DIR"):
        return Path(named)
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and Path(runtime).is_dir():
        return Path(runtime) / "shopfloor"
    return Path(tempfile.gettempdir()) / f"shopfloor-{os.getuid()}"


def state_folder() -> Path:
    """The folder of what a node must know after a restart; it need not exist yet.

    SHOPFLOOR_STATE_DIR, else systemd's STATE_DIRECTORY, else shopfloor/ in XDG_STATE_HOME
    (~/.local/state where that is not set). One folder per ROS domain, so that two graphs on a
    machine don't share their memory.
    """
    domain = f"domain_{os.environ.get('ROS_DOMAIN_ID') or '0'}"
    if named := os.environ.get("SHOPFLOOR_STATE_DIR"):
        return Path(named) / domain
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0]) / domain
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "shopfloor" / domain


def cache_folder() -> Path:
    """The folder of what can be built again, engines for example; it need not exist yet.

    SHOPFLOOR_CACHE_DIR, else systemd's CACHE_DIRECTORY, else shopfloor/ in XDG_CACHE_HOME
    (~/.cache where that is not set).
    """
    if named := os.environ.get("SHOPFLOOR_CACHE_DIR"):
        return Path(named)
    if systemd := os.environ.get("CACHE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shopfloor"

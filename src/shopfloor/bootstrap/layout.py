"""Where the files of the workspace lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "shopfloor"


@dataclass(frozen=True)
class Layout:
    """Paths of one checkout; `root` is absolute."""

    root: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def build(self) -> Path:
        """colcon's build folder."""
        return self.root / "build"

    @property
    def install(self) -> Path:
        """colcon's install folder."""
        return self.root / "install"

    @property
    def prefix(self) -> Path:
        """Install prefix of the root package; `shopfloor_msgs` lands in it too."""
        return self.install / PACKAGE

    @property
    def lock_file(self) -> Path:
        """The pinned packages."""
        return self.root / "requirements.lock"

    @property
    def guard(self) -> Path:
        """File that is locked while one `./run` changes `.venv`, `build` or `install`."""
        return self.root / ".run.lock"

    @property
    def venv_stamp(self) -> Path:
        """What the virtual environment was made from; written last."""
        return self.venv / "shopfloor.json"

    @property
    def build_stamp(self) -> Path:
        """What the build was made from; written last."""
        return self.build / "shopfloor.json"

    @property
    def logs(self) -> Path:
        """Output of set-up and builds."""
        return self.root / "log"


def find_root() -> Path:
    """Root of the checkout that this module belongs to."""
    return Path(__file__).resolve().parents[3]

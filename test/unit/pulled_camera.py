"""Basler's camera emulator, with a cable that can be pulled."""

from __future__ import annotations

import os
from typing import Any

EMULATED = "PYLON_CAMEMU"
SERIAL = "0815-0000"


def plug_in(cameras: int = 1) -> None:
    """So many emulated cameras are there from now on; the SDK looks at each enumeration."""
    os.environ[EMULATED] = str(cameras)


def pull(source: Any) -> None:
    """No camera is there any more, and the open one of `source` notices as with a real cable."""
    camera = source._camera
    plug_in(0)
    if camera is not None:
        camera.FirePnPCallback.Execute()

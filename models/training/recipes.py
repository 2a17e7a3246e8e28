"""What is trained for each package, as data: network, images, schedule, start."""

from __future__ import annotations

import math
from dataclasses import dataclass

BOARD_CLASSES = ("open", "short", "mousebite", "spur", "copper", "pinhole")
SIMULATED_CLASSES = (*BOARD_CLASSES, "scratch", "inclusion", "patch")
NEU_CLASSES = (
    "crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches",
)  # fmt: skip


@dataclass(frozen=True)
class Costs:
    """What a wrong verdict costs, in any unit, and how many parts are defective.

    review: of a suspect part, whether good or not. defective: share of the parts, 0-1.
    """

    false_reject: float = 1.0
    false_accept: float = 30.0
    review: float = 0.1
    defective: float = 0.05


# Of what the edge found suspect much is defective, and only a person comes after the server.
SUSPECT_COSTS = Costs(false_reject=1.0, false_accept=5.0, review=0.5, defective=0.5)

FIRST_LAYERS = ("stem", "dark2")
WARM_UP_STEPS = 100


@dataclass(frozen=True)
class Network:
    """A YOLOX: multipliers of channels and of repeats, depthwise or full 3x3 convolutions."""

    name: str
    width: float
    depth: float
    depthwise: bool


NANO = Network("YOLOX-nano", 0.25, 0.33, True)
FULL = Network("YOLOX-nano with full convolutions", 0.25, 0.33, False)


@dataclass(frozen=True)
class Stage:
    """Steps at one input size; `plain` ones show whole pictures without mosaics, with L1 loss."""

    steps: int
    size_px: int
    batch: int
    plain: bool = False


@dataclass(frozen=True)
class Recipe:
    """A package and its training.

    sources: name of a set in `sources.SOURCES` -> its share of a batch. start: "coco" for the
    YOLOX-nano COCO weights, else NAME/VERSION of a package with the nano network; another network
    is grown from it. simulated: pairs of each simulated kind. scales: zoom in place of the sources'
    own. sees_windows: it judges windows of a part that another model found suspect.
    frozen: parts of the network that keep their start weights: their activations are the largest
    and a quarter of a step's time. mirrored: the exported graph judges the picture and its three
    mirror images and takes the mean, for four times the work. costs: choose the thresholds.
    """

    name: str
    version: str
    network: Network
    classes: tuple[str, ...]
    input_px: int
    sources: dict[str, float]
    stages: tuple[Stage, ...]
    learning_rate: float
    start: str = "coco"
    weight_decay: float = 0.02
    seed: int = 7
    simulated: int = 500
    scales: tuple[float, float] | None = None
    sees_windows: bool = False
    frozen: tuple[str, ...] = ()
    mirrored: bool = False
    costs: Costs = Costs()

    @property
    def package(self) -> str:
        """NAME/VERSION."""
        return f"{self.name}/{self.version}"

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The stage that `step` belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then half a cosine down to a hundredth."""
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.total))
        return self.learning_rate * warm * (0.01 + 0.99 * cosine)


DEEPPCB_NANO = Recipe(
    name="deeppcb_nano",
    version="2",
    network=NANO,
    classes=BOARD_CLASSES,
    input_px=640,
    sources={"deeppcb": 1.0},
    stages=(Stage(900, 352, 16), Stage(150, 640, 8, plain=True)),
    learning_rate=1e-3,
    start="deeppcb_nano/1",
)

NEU_NANO = Recipe(
    name="neu_nano",
    version="1",
    network=NANO,
    classes=NEU_CLASSES,
    input_px=256,
    sources={"neu": 1.0},
    stages=(Stage(1050, 256, 16), Stage(300, 256, 16, plain=True)),
    frozen=FIRST_LAYERS,
    learning_rate=1.5e-3,
    weight_decay=0.03,
)

SURFACE_NANO = Recipe(
    name="surface_nano",
    version="2",
    network=NANO,
    classes=SIMULATED_CLASSES,
    input_px=640,
    sources={"board": 0.65, "steel": 0.35},
    stages=(Stage(220, 352, 16), Stage(60, 640, 8, plain=True)),
    learning_rate=1e-3,
    frozen=FIRST_LAYERS,
    start="surface_nano/1",
    simulated=300,
)

SURFACE_SERVER = Recipe(
    name="surface_server",
    version="1",
    network=FULL,
    classes=SIMULATED_CLASSES,
    input_px=256,
    sources={"deeppcb": 0.4, "board": 0.38, "steel": 0.22},
    stages=(Stage(200, 256, 16), Stage(80, 256, 16, plain=True)),
    learning_rate=5e-4,
    start="surface_nano/1",
    simulated=300,
    scales=(0.7, 2.0),
    sees_windows=True,
    costs=SUSPECT_COSTS,
)

NEU_SERVER = Recipe(
    name="neu_server",
    version="1",
    network=FULL,
    classes=NEU_CLASSES,
    input_px=256,
    sources={"neu": 1.0},
    stages=(Stage(1200, 256, 16), Stage(300, 256, 16, plain=True)),
    learning_rate=1e-3,
    weight_decay=0.03,
    start="neu_nano/1",
    mirrored=True,
    costs=SUSPECT_COSTS,
)

_ALL = (DEEPPCB_NANO, NEU_NANO, SURFACE_NANO, SURFACE_SERVER, NEU_SERVER)
RECIPES = {recipe.name: recipe for recipe in _ALL}

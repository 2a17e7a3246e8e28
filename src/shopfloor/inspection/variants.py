"""The inspectors of a ladder, one for each model variant in it, all loaded before the first frame.

So a change of rung is a change of one reference, up as well as down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from shopfloor.inspection.engines import Engine
from shopfloor.inspection.model import ModelError, ModelPackage, load_model_package
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.rungs import Rung, Variant, resized
from shopfloor.inspection.verdict import Criteria, check_floor
from shopfloor.ros.paths import model_folder

TIMED_RUNS = 5
"""Inferences that time a variant when it is loaded; frames refine the figure."""


class Variants:
    """Loads the variants of `rungs`; those of rung 0 decide with `criteria`, the others cautiously.

    load: makes the engine of a package. build: makes the inspector of a package and its engine.
    Raises ModelError, EngineError, OutputError or FileNotFoundError, with nothing left loaded.
    """

    def __init__(
        self,
        rungs: Sequence[Rung],
        load: Callable[[ModelPackage], Engine],
        build: Callable[[ModelPackage, Engine], Inspector],
    ) -> None:
        self.rungs = tuple(rungs)
        self._inspectors: dict[Variant, Inspector] = {}
        self._engines: list[Engine] = []
        try:
            for rung in self.rungs:
                if rung.variant not in self._inspectors:
                    self._load(rung, load, build)
        except BaseException:
            self.close()
            raise

    def of(self, rung: Rung) -> Inspector:
        """The inspector that serves at `rung`."""
        return self._inspectors[rung.variant]

    def set_criteria(self, make: Callable[[ModelPackage], Criteria], caution: float) -> None:
        """Criteria of each package; a variant that is not rung 0's is suspect from less.

        caution: share of the suspect threshold from which a reduced variant is suspect, 0-1.
        Raises ValueError where thresholds don't fit, with all criteria as they were. Below the
        score floor nothing is seen, so no threshold may lie there.
        """
        made = {}
        for variant, inspector in self._inspectors.items():
            criteria = make(inspector.package)
            check_floor(criteria, inspector.score_floor)
            if variant != self.rungs[0].variant:
                cautious = max(criteria.suspect * caution, inspector.score_floor)
                criteria = replace(criteria, cautious=cautious)
            made[variant] = criteria
        for variant, criteria in made.items():
            self._inspectors[variant].criteria = criteria

    def close(self) -> None:
        """Free every engine."""
        for engine in self._engines:
            engine.close()
        self._engines.clear()
        self._inspectors.clear()

    def _load(
        self,
        rung: Rung,
        load: Callable[[ModelPackage], Engine],
        build: Callable[[ModelPackage, Engine], Inspector],
    ) -> None:
        variant = rung.variant
        package = resized(load_model_package(model_folder(variant.model)), variant.input_px)
        first = next(iter(self._inspectors.values()), None)
        if first is not None and package.classes != first.package.classes:
            raise ModelError(
                f"{package.path}: rung {rung.index} '{rung.name}' has the classes "
                f"{', '.join(package.classes)}; allowed: those of rung 0, in their order: "
                f"{', '.join(first.package.classes)}"
            )
        engine = load(package)
        self._engines.append(engine)
        inspector = build(package, engine)
        grey = np.full((package.input.height, package.input.width), package.input.pad, np.uint8)
        for _ in range(TIMED_RUNS):
            inspector.inspect(grey, "mono8")
        self._inspectors[variant] = inspector

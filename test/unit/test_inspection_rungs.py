"""The inspector's ladder: what its parameters mean, and what is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import build_onnx, picture, write_package

from shopfloor.inspection.engines import Engine, EngineError, EngineOptions, load_engine
from shopfloor.inspection.model import ModelError, ModelPackage, load_model_package
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.rungs import Mode, Variant, resized
from shopfloor.inspection.variants import Variants
from shopfloor.inspection.verdict import Criteria, Reason, Verdict


def parameters(**more: Any) -> InspectorParameters:
    return InspectorParameters(model="big/1", **more)


class Loads:
    """Counts what is loaded and closed."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.closed = 0

    def engine(self, package: ModelPackage) -> Engine:
        engine = load_engine("onnxruntime", package, EngineOptions())
        self.loaded.append(package.name)
        close = engine.close

        def counted() -> None:
            self.closed += 1
            close()

        engine.close = counted  # type: ignore[method-assign]
        return engine

    def inspector(self, package: ModelPackage, engine: Engine) -> Inspector:
        return Inspector(package, engine, Criteria(fail=0.6, suspect=0.3))


def test_the_default_ladder_ends_in_hold() -> None:
    full, half, hold = parameters().rungs()
    assert (full.name, full.mode, full.stride, full.variant) == (
        "full", Mode.INSPECT, 1, Variant("big/1", 0),
    )  # fmt: skip
    assert (half.stride, half.variant) == (2, full.variant)
    assert (hold.index, hold.mode) == (2, Mode.HOLD)


def test_models_and_inputs_stand_for_the_usual_where_empty() -> None:
    rungs = parameters(
        rung_names=("a", "b", "c"), rung_modes=(), rung_strides=(),
        rung_models=("", "small/1", ""), rung_inputs=(0, 0, 416),
    ).rungs()  # fmt: skip
    assert [r.variant for r in rungs] == [
        Variant("big/1"), Variant("small/1"), Variant("big/1", 416),
    ]  # fmt: skip
    assert {r.mode for r in rungs} == {Mode.INSPECT}


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"rung_names": ()}, "rung_names"),
        ({"rung_names": ("a", "a", "b")}, "rung_names"),
        ({"rung_names": ("a", "", "b")}, "rung_names"),
        ({"rung_names": ("x" * 65, "a", "b")}, "rung_names"),
        ({"rung_strides": (1, 2)}, "rung_strides"),
        ({"rung_modes": ("hold", "inspect", "hold")}, "rung_modes"),
        ({"rung_strides": (2, 2, 2)}, "rung_modes"),
        ({"rung_inputs": (0, 100, 0)}, "rung_inputs"),
        ({"rung_models": ("", "")}, "rung_models"),
        ({"rung_modes": ("inspect", "offload", "hold"), "crops": "none"}, "crops"),
        ({"fail_threshold": 0.2, "suspect_threshold": 0.5}, "suspect_threshold"),
        ({"min_mean_grey": 200.0, "max_mean_grey": 100.0}, "min_mean_grey"),
        ({"suspect_threshold": 0.2, "score_floor": 0.3}, "suspect_threshold"),
        ({"fail_threshold": 0.01}, "fail_threshold"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(wrong: dict[str, Any], key: str) -> None:
    (problem,) = parameters(**wrong).problems()
    assert problem.key == key and "allowed" in problem.message


def test_a_threshold_of_the_model_is_no_contradiction() -> None:
    assert parameters(suspect_threshold=0.5).problems() == []


def test_variants_are_loaded_once_each_and_freed(tmp_path: Path) -> None:
    big = write_package(tmp_path / "big")
    small = write_package(
        tmp_path / "small", build_onnx(64, 64), name="small",
        input={"name": "images", "width": 64, "height": 64},
    )  # fmt: skip
    loads = Loads()
    rungs = InspectorParameters(
        model=str(big), rung_names=("full", "half", "small", "hold"),
        rung_modes=("inspect", "inspect", "inspect", "hold"), rung_strides=(1, 2, 1, 1),
        rung_models=("", "", str(small), str(small)),
    ).rungs()  # fmt: skip
    variants = Variants(rungs, loads.engine, loads.inspector)
    assert loads.loaded == ["tiny", "small"]
    assert variants.of(rungs[0]) is variants.of(rungs[1])
    assert variants.of(rungs[2]).package.input.width == 64
    assert variants.of(rungs[2]).infer_ms.percentile(99) > 0
    variants.set_criteria(lambda package: Criteria(fail=0.6, suspect=0.3), caution=0.5)
    # A reduced variant is suspicious of what rung 0 lets pass.
    faint = picture((0, 0, 2, 155))  # scores 0.21
    assert variants.of(rungs[0]).inspect(faint, "bgr8").decision.verdict is Verdict.PASS
    cautious = variants.of(rungs[2])
    assert cautious.criteria.floor == pytest.approx(0.15)
    decision = cautious.inspect(faint[:64, :64].copy(), "bgr8").decision
    assert (decision.verdict, decision.reason) == (Verdict.SUSPECT, Reason.DEGRADED)
    variants.close()
    assert loads.closed == 2


def test_what_a_threshold_asks_for_cannot_lie_below_the_score_floor(tmp_path: Path) -> None:
    """Else a defect between the two would not be seen, and its part would pass."""
    folder = write_package(tmp_path / "tiny")

    def build(package: ModelPackage, engine: Engine) -> Inspector:
        return Inspector(package, engine, Criteria(fail=0.6, suspect=0.3), score_floor=0.25)

    rungs = InspectorParameters(
        model=str(folder), rung_names=("full", "small"), rung_modes=(), rung_strides=(),
        rung_models=("", str(write_package(tmp_path / "small"))),
    ).rungs()  # fmt: skip
    variants = Variants(rungs, Loads().engine, build)
    variants.set_criteria(lambda package: Criteria(fail=0.6, suspect=0.26), caution=0.5)
    assert variants.of(rungs[1]).criteria.floor == 0.25, "no more cautious than it can see"
    with pytest.raises(ValueError, match=r"score_floor 0.25 is above the suspect threshold 0.2"):
        variants.set_criteria(lambda package: Criteria(fail=0.6, suspect=0.2), caution=1.0)
    assert variants.of(rungs[0]).criteria.suspect == 0.26, "the ones before stay"
    variants.close()


def test_a_ladder_whose_last_model_does_not_fit_leaves_nothing_loaded(tmp_path: Path) -> None:
    big = write_package(tmp_path / "big")
    other = write_package(tmp_path / "other", classes=["blue", "red", "green"])
    loads = Loads()

    def ladder(*models: str, inputs: tuple[int, ...] = ()) -> Variants:
        p = InspectorParameters(
            model=str(big), rung_names=("full", "last"), rung_modes=(), rung_strides=(),
            rung_models=models, rung_inputs=inputs,
        )  # fmt: skip
        return Variants(p.rungs(), loads.engine, loads.inspector)

    with pytest.raises(ModelError, match=r"rung 1 'last' has the classes blue, red, green; allow"):
        ladder("", str(other))
    with pytest.raises(FileNotFoundError, match="no model"):
        ladder("", str(tmp_path / "absent"))
    with pytest.raises(EngineError, match="input tensor 'images'"):
        ladder("", "", inputs=(0, 64))
    assert loads.closed == len(loads.loaded)


def test_a_resized_package_keeps_its_proportions(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path / "tiny"))  # 128 x 96
    assert resized(package, 0) is package and resized(package, 128) is package
    assert (resized(package, 64).input.width, resized(package, 64).input.height) == (64, 64)
    assert (resized(package, 256).input.width, resized(package, 256).input.height) == (256, 192)


def test_an_offloaded_frame_is_suspect_and_never_passes(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path / "tiny"))
    loads = Loads()
    inspector = loads.inspector(package, loads.engine(package))
    outcome = inspector.hand_over(picture((0, 0, 1, 255)), "bgr8", "handed over")
    assert outcome.decision.verdict is Verdict.SUSPECT
    assert outcome.decision.reason is Reason.DEGRADED and outcome.image is not None
    dark = inspector.hand_over(picture(), "bgr8", "handed over")
    assert dark.decision.reason is Reason.FRAME_QUALITY
    broken = inspector.hand_over(picture()[..., :2], "bgr8", "handed over")
    assert broken.decision.reason is Reason.FRAME_INVALID

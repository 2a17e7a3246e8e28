"""The objects found in one image, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N boxes, highest score first.

    xyxy: (N, 4) float32, left, top, right, bottom in pixels; scores: (N,) float32, 0-1;
    class_ids: (N,) int32.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.xyxy.shape != (count, 4) or self.class_ids.shape != (count,):
            raise ValueError(
                f"boxes {self.xyxy.shape}, scores {self.scores.shape} and class ids "
                f"{self.class_ids.shape} don't belong together; allowed: (N, 4), (N,), (N,)"
            )

    @classmethod
    def empty(cls) -> Detections:
        """No box."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Detections:
        """The boxes that a mask or index array picks."""
        return Detections(self.xyxy[index], self.scores[index], self.class_ids[index])

    def above(self, score: float) -> Detections:
        """The boxes with at least this score."""
        return self[self.scores >= score]

    @property
    def top_score(self) -> float:
        """Highest score, 0 when there is no box."""
        return float(self.scores.max()) if len(self) else 0.0

"""What the fit needs of a parametric body; AnnyBody and SmplBody give it."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
import torch

from perception.body.anny_body import BodyState, RestBody


class BodyModel(Protocol):
    """A body on the 22 bones of BONE_NAMES with the 7 points of POINT_NAMES; see AnnyBody for the rest pose.

    Whatever the body, a pose is one local rotation per bone against the same rest pose, so poses, joint limits and the
    easy posture mean the same for all bodies. Only the shape parameters differ.
    """

    @property
    def name(self) -> str:
        """Name of the body model, as HumanMotion holds it."""
        ...

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Names of the S shape parameters."""
        ...

    @property
    def shape_mean(self) -> torch.Tensor:
        """Average shape (S,)."""
        ...

    @property
    def shape_low(self) -> torch.Tensor:
        """Lowest shape parameters (S,) that a fit may reach."""
        ...

    @property
    def shape_high(self) -> torch.Tensor:
        """Highest shape parameters (S,) that a fit may reach."""
        ...

    @property
    def shape_spread(self) -> float:
        """How far people differ from the average in a shape parameter, one standard deviation."""
        ...

    @property
    def faces(self) -> np.ndarray | None:
        """Triangles or quadrilaterals (F, 3 or 4), int64; None for a subset of vertices."""
        ...

    @property
    def weights(self) -> torch.Tensor:
        """Skinning weights (V, 22)."""
        ...

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the body's arrays."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the body's arrays."""
        ...

    def subset(self, index: np.ndarray | torch.Tensor) -> Self:
        """Return the same body with the vertices of an index (N,) alone: joints agree."""
        ...

    def rest(self, shape: torch.Tensor) -> RestBody:
        """Return the body of shape parameters (S,) or (B, S) in the rest pose."""
        ...

    def forward(
        self,
        pose: torch.Tensor,
        root_pos: torch.Tensor,
        shape: torch.Tensor | None = None,
        *,
        rest: RestBody | None = None,
        with_vertices: bool = True,
    ) -> BodyState:
        """Pose the body; see `AnnyBody.forward`. `rest` comes from the same body's `rest`."""
        ...

    def sample_vertices(self, count: int, seed: int = 0) -> np.ndarray:
        """Return sorted indices (count,) of outer-skin vertices, drawn by the area around them, without repeats."""
        ...

    def outer_vertices(self) -> np.ndarray:
        """Return indices of the skin: the mesh's largest connected part."""
        ...

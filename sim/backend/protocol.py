"""SimBackend: what a batched simulation must offer. N simulations of one model; arrays are float32 of one kind.

The arrays are numpy on the CPU and torch tensors on a GPU; everything above a backend is written over the array
API and never asks which. Derived fields (body poses) describe the state before the last physics step, as MuJoCo's
own step leaves them.
"""

from __future__ import annotations

from typing import Any, Protocol

import mujoco

Array = Any


class SimBackend(Protocol):
    """N simulations of one model, stepped together."""

    model: mujoco.MjModel
    """The compiled model."""
    num_envs: int
    """Number of simulations N."""
    xp: Any
    """Array namespace of every array (array_api_compat)."""
    device: Any
    """Where the arrays live; a torch device, or "cpu" for numpy."""

    def get_state(self) -> tuple[Array, Array]:
        """Return the positions (N, nq) and velocities (N, nv)."""
        ...

    def set_state(self, qpos: Array, qvel: Array, rows: Array | None = None) -> None:
        """Set the state of all simulations, or of some.

        Args:
            qpos: Positions (M, nq).
            qvel: Velocities (M, nv).
            rows: The simulations (M,) they are for; None for all, where only those whose values differ are touched.
        """
        ...

    def step(self, ctrl: Array, previous_ctrl: Array, delay: Array, num_substeps: int) -> None:
        """Advance every simulation by one control step.

        Args:
            ctrl: Controls (N, nu) of this control step.
            previous_ctrl: Controls (N, nu) that still act at its start.
            delay: Number of physics steps (N,), int, for which `previous_ctrl` still acts.
            num_substeps: Physics steps in the control step.
        """
        ...

    def body_pos(self) -> Array:
        """Return the positions of all bodies (N, nbody, 3), world, m."""
        ...

    def body_quat(self) -> Array:
        """Return the orientations of all bodies (N, nbody, 4), wxyz."""
        ...

    def set_model_field(self, name: str, values: Array) -> None:
        """Give a model field its own values in every simulation.

        Args:
            name: An MjModel field, e.g. geom_friction.
            values: Values (N, ...).
        """
        ...

    def random(self, *shape: int) -> Array:
        """Return uniform random numbers in [0, 1), float32, from the backend's seeded generator."""
        ...

    def normal(self, *shape: int) -> Array:
        """Return standard normal random numbers, float32, from the backend's seeded generator."""
        ...

    def asarray(self, values: Any) -> Array:
        """Return numpy values as an array of this backend: floats as float32, integers as int64, bools as bool."""
        ...

    def accumulate(self, index: Array, weight: Array, size: int) -> Array:
        """Return sums (size,) of the weights (N,) by index (N,), float32."""
        ...

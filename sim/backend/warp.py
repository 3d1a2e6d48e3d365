"""The GPU backend: MuJoCo Warp on one NVIDIA GPU, state and observations stay there as torch tensors."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import mujoco
import numpy as np

from bodydouble.errors import InputError


def _import_gpu_packages() -> tuple[Any, Any, Any]:
    try:
        return tuple(importlib.import_module(name) for name in ("torch", "warp", "mujoco_warp"))  # type: ignore[return-value]
    except ImportError as error:
        raise InputError(f"the warp backend needs {error.name}; pip install 'bodydouble[gpu]'") from None


class WarpBatch:
    """N simulations on one GPU; a SimBackend of torch tensors. One physics step is one captured CUDA graph."""

    def __init__(
        self, model: mujoco.MjModel, num_envs: int, seed: int, device: str = "cuda:0", contacts_per_env: int = 48
    ) -> None:
        """Upload the model and capture the step.

        Args:
            model: The compiled model; PGS is not supported by MuJoCo Warp.
            num_envs: Number of simulations N.
            seed: Seed of every random number the backend hands out.
            device: CUDA device; "cpu" runs the same kernels slowly, for tests.
            contacts_per_env: Contacts held for each simulation on average.

        Raises:
            InputError: A package is missing, or the solver is PGS.
        """
        self._torch, self._wp, self._mjw = _import_gpu_packages()
        if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
            raise InputError("the model's solver is PGS, which MuJoCo Warp does not have; set solver='Newton'")
        from array_api_compat import torch as xp

        self.xp = xp
        self.model = model
        self.num_envs = num_envs
        self.device = self._torch.device(device)
        self._wp.init()
        self._generator = self._torch.Generator(device=self.device)
        self._generator.manual_seed(seed)
        self._wp_device = self._wp.get_device(device)
        if self.device.type == "cuda":
            # Graphs cannot be captured on the default stream, and physics and torch must be ordered: one own stream
            # becomes the current one of both.
            stream = self._torch.cuda.Stream(self.device)
            self._torch.cuda.set_stream(stream)
            self._wp.set_stream(self._wp.stream_from_torch(stream), self._wp_device)
        # mujoco_warp refuses the flag; it never resets a bad state anyway.
        model = copy.copy(model)
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        with self._wp.ScopedDevice(self._wp_device):
            self._model = self._mjw.put_model(model)
            self._data = self._mjw.make_data(
                model, nworld=num_envs, nconmax=contacts_per_env, njmax=4 * contacts_per_env + model.njnt
            )
        to_torch = self._wp.to_torch
        self._qpos, self._qvel, self._ctrl = (to_torch(getattr(self._data, name)) for name in ("qpos", "qvel", "ctrl"))
        self._warmstart = to_torch(self._data.qacc_warmstart)
        self._xpos, self._xquat = to_torch(self._data.xpos), to_torch(self._data.xquat)
        self._qpos[:] = self.asarray(model.qpos0)
        self._graph: Any = None

    def get_state(self) -> tuple[Any, Any]:
        """Return copies of the positions (N, nq) and velocities (N, nv)."""
        return self._qpos.clone(), self._qvel.clone()

    def set_state(self, qpos: Any, qvel: Any, rows: Any = None) -> None:
        """Set positions (M, nq) and velocities (M, nv), of all simulations or of some; see SimBackend.set_state."""
        if rows is not None:
            self._qpos[rows], self._qvel[rows], self._warmstart[rows] = qpos, qvel, 0.0
            return
        changed = (self._qpos != qpos).any(dim=1) | (self._qvel != qvel).any(dim=1)
        self._qpos.copy_(qpos)
        self._qvel.copy_(qvel)
        self._warmstart.masked_fill_(changed[:, None], 0.0)

    def step(self, ctrl: Any, previous_ctrl: Any, delay: Any, num_substeps: int) -> None:
        """Advance every simulation by one control step (see SimBackend.step)."""
        with self._wp.ScopedDevice(self._wp_device):
            if self.device.type == "cuda" and self._graph is None:
                self._capture()
            for substep in range(num_substeps):
                self._ctrl.copy_(self._torch.where((delay > substep)[:, None], previous_ctrl, ctrl))
                if self._graph is None:
                    self._mjw.step(self._model, self._data)
                else:
                    self._wp.capture_launch(self._graph)

    def _capture(self) -> None:
        # Kernels compile on the first call, which must happen outside of the capture; the state is put back after.
        qpos, qvel = self.get_state()
        self._mjw.step(self._model, self._data)
        with self._wp.ScopedCapture() as capture:
            self._mjw.step(self._model, self._data)
        self._graph = capture.graph
        self._qpos.copy_(qpos)
        self._qvel.copy_(qvel)
        self._warmstart.zero_()

    def body_pos(self) -> Any:
        """Return the positions of all bodies (N, nbody, 3), world, m."""
        return self._xpos

    def body_quat(self) -> Any:
        """Return the orientations of all bodies (N, nbody, 4), wxyz."""
        return self._xquat

    def set_model_field(self, name: str, values: Any) -> None:
        """Give a model field its own values (N, ...) in every simulation; before the first step only."""
        field = getattr(self._model, name)
        fresh = self._wp.from_torch(values.contiguous().clone(), dtype=field.dtype)
        setattr(self._model, name, fresh)
        self._graph = None

    def random(self, *shape: int) -> Any:
        """Return uniform random numbers in [0, 1)."""
        return self._torch.rand(shape, generator=self._generator, device=self.device)

    def normal(self, *shape: int) -> Any:
        """Return standard normal random numbers."""
        return self._torch.randn(shape, generator=self._generator, device=self.device)

    def asarray(self, values: Any) -> Any:
        """Return values as tensors on the device: floats as float32, integers as int64, bools as bool."""
        values = np.asarray(values)
        dtype = {"f": self._torch.float32, "i": self._torch.int64, "u": self._torch.int64, "b": self._torch.bool}
        return self._torch.as_tensor(values, device=self.device).to(dtype[values.dtype.kind])

    def accumulate(self, index: Any, weight: Any, size: int) -> Any:
        """Return sums (size,) of the weights by index."""
        return self._torch.zeros(size, device=self.device).index_add_(0, index, weight)

"""When a simulation has diverged. MuJoCo itself would put such a state back to the start and go on."""

from __future__ import annotations

import mujoco
import numpy as np

LARGEST_STATE = 1e10
"""Position or velocity from which on a state is bad; MuJoCo's own bound."""
_WARNINGS = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


def without_autoreset(model: mujoco.MjModel) -> mujoco.MjModel:
    """Switch off the silent reset, so that a bad state stays to be seen; return the model."""
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    return model


def diverged(data: mujoco.MjData) -> bool:
    """Return whether the state is bad, or was at any step so far."""
    # NaN compares as false.
    sound = (np.abs(data.qpos) < LARGEST_STATE).all() and (np.abs(data.qvel) < LARGEST_STATE).all()
    return not sound or any(data.warning[kind].number for kind in _WARNINGS)

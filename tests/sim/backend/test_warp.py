from __future__ import annotations

import importlib.util

import mujoco
import pytest

from bodydouble.errors import InputError
from sim.backend.warp import WarpBatch
from tests.sim.tasks.tracking.samples import POINT


@pytest.mark.skipif(importlib.util.find_spec("mujoco_warp") is not None, reason="MuJoCo Warp is installed")
def test_without_its_packages_it_says_what_to_install() -> None:
    with pytest.raises(InputError, match=r"needs .*; pip install 'bodydouble\[gpu\]'"):
        WarpBatch(mujoco.MjModel.from_xml_string(POINT), 2, seed=0, device="cpu")

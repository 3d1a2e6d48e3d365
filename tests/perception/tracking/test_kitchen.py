"""Tracking of a real kitchen against the poses that come with it."""

import os
from pathlib import Path

import pytest

from perception.importers.sevenscenes import SevenScenesConfig, import_sevenscenes
from perception.tracking.evaluate import tracking_error

FOLDER = Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data")) / "rgbd_static_7scenes_kitchen" / "data"
UP = (0.006, -0.892, -0.453)


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there; set BODYDOUBLE_DATA")
def test_the_kitchen_is_tracked_without_its_poses(tmp_path):
    """The given poses are KinectFusion's, with errors of their own of some centimetres."""
    import_sevenscenes(FOLDER, tmp_path / "kitchen.mcap", SevenScenesConfig(up=UP))
    (figures,) = tracking_error(tmp_path / "kitchen.mcap").values()
    assert figures.ate_m < 0.05 and figures.lost == 0

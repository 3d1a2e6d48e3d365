"""One short synthetic recording that several tests read."""

from pathlib import Path

import pytest

from perception.synthetic.generate import SyntheticConfig, generate
from tests.perception.small_scenes import WALK


@pytest.fixture(scope="session")
def walk(tmp_path_factory) -> Path:
    """Folder of a recording: two cameras, 160 x 120 pixels, 20 Hz, 2.6 s, and its truth."""
    out = tmp_path_factory.mktemp("walk") / "recording"
    generate(SyntheticConfig(width=160, height=120, fps=20.0, max_seconds=2.6, workers=1, motion=WALK), out)
    return out

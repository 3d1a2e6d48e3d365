"""The parts of the import of bags by themselves: names, clocks, lenses, moved depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodydouble.errors import InputError
from perception.importers.bag.cameras import TopicOptions, choose_cameras
from perception.importers.bag.distortion import Undistortion, distort
from perception.importers.bag.registration import Registration
from perception.importers.bag.stamps import StampSample, choose_stamps
from perception.importers.bag.survey import ImageTopic, Survey

S = 1_000_000_000


def survey_of(*topics: str) -> Survey:
    out = Survey(Path("bag"))
    for topic in topics:
        name, encoding = topic.split()
        depth = encoding in ("16UC1", "32FC1", "png16")
        out.images[name] = ImageTopic(name, 10, "frame", (64, 48), encoding, depth, "mm" if depth else "")
    return out


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        # RealSense with aligned depth and both infrared imagers
        (
            ["/camera/camera/aligned_depth_to_color/image_raw 16UC1", "/camera/camera/color/image_raw rgb8",
             "/camera/camera/depth/image_rect_raw 16UC1", "/camera/camera/infra1/image_rect_raw mono8"],
            [("camera", "/camera/camera/aligned_depth_to_color/image_raw", "/camera/camera/color/image_raw")],
        ),
        # Azure Kinect
        (
            ["/depth_to_rgb/image_raw 16UC1", "/depth/image_raw 16UC1", "/rgb/image_raw bgra8", "/ir/image_raw mono16"],
            [("camera", "/depth_to_rgb/image_raw", "/rgb/image_raw")],
        ),
        # ZED
        (
            ["/zed/zed_node/depth/depth_registered 32FC1", "/zed/zed_node/rgb/image_rect_color bgra8"],
            [("zed_node", "/zed/zed_node/depth/depth_registered", "/zed/zed_node/rgb/image_rect_color")],
        ),
        # Kinect by OpenNI, compressed
        (
            ["/camera/depth_registered/image_raw/compressedDepth png16", "/camera/rgb/image_color/compressed jpeg"],
            [("camera", "/camera/depth_registered/image_raw/compressedDepth", "/camera/rgb/image_color/compressed")],
        ),
        # Two cameras called left and right
        (
            [f"/{side}/{what}" for side in ("left", "right") for what in ("depth/image 16UC1", "color/image rgb8")],
            [("left", "/left/depth/image", "/left/color/image"), ("right", "/right/depth/image", "/right/color/image")],
        ),
        # Names that follow no rule, but there is one of each
        (["/d 32FC1", "/c jpeg"], [("camera", "/d", "/c")]),
    ],
)  # fmt: skip
def test_names_of_common_drivers(topics: list[str], expected: list[tuple[str, str, str]]) -> None:
    found = choose_cameras(survey_of(*topics), TopicOptions())
    assert [(c.name, c.depth.name, c.color.name) for c in found if c.color is not None] == expected


def test_colour_that_fits_no_camera_is_asked_for() -> None:
    found = survey_of("/a/depth/image 16UC1", "/b/depth/image 16UC1", "/c/color/image rgb8")
    with pytest.raises(InputError, match="which colour topic belongs to /a/depth/image"):
        choose_cameras(found, TopicOptions())


def sample(header: list[int], received: list[int] | None = None) -> StampSample:
    out = StampSample()
    for i, stamp in enumerate(header):
        out.add(stamp, 1000 * S + i * S // 30 if received is None else received[i])
    return out


def test_stamps() -> None:
    good = sample([500 * S + i * S // 30 for i in range(20)])
    assert good.fault() is None and good.lateness_ns() == 500 * S
    assert "zero" in str(sample([0] * 5).fault())
    assert "zero" in str(sample([-(1 << 40)] * 5).fault())
    assert "do not rise" in str(sample([7 * S] * 5).fault())
    assert "another rate" in str(sample([S + i * S for i in range(20)]).fault())
    other = sample([503 * S + i * S // 30 for i in range(20)])
    by_header, notes = choose_stamps({"/a": good, "/b": other}, "", "--stamps")
    assert by_header and "header stamps of /b are 3.000 s ahead of those of /a" in notes[0]
    assert choose_stamps({"/a": good}, "received", "--stamps")[0] is False
    with pytest.raises(InputError, match="/a are zero or no time; give --stamps received"):
        choose_stamps({"/a": sample([0])}, "header", "--stamps")


def test_lens_models_by_hand() -> None:
    # x = 0.3, y = 0.4, r2 = 0.25; tangential alone: 2 p1 xy + p2 (r2 + 2 x2), p1 (r2 + 2 y2) + 2 p2 xy.
    got = distort(np.array([0.3, 0.4]), "plumb_bob", np.array([0, 0, 0.01, 0.02, 0]))
    np.testing.assert_allclose(got, [0.3 + 0.0024 + 0.0086, 0.4 + 0.0057 + 0.0048])
    # Radial over radial: (1 + 0.1 * 0.25) / (1 + 0.2 * 0.25).
    got = distort(np.array([0.3, 0.4]), "rational_polynomial", np.array([0.1, 0, 0, 0, 0, 0.2, 0, 0]))
    np.testing.assert_allclose(got, np.array([0.3, 0.4]) * 1.025 / 1.05)
    # Equidistant: the angle atan(0.5) = 0.463648 takes the place of the tangent 0.5.
    got = distort(np.array([0.3, 0.4]), "equidistant", np.zeros(4))
    np.testing.assert_allclose(got, np.array([0.3, 0.4]) * 0.4636476 / 0.5, rtol=1e-6)
    with pytest.raises(InputError, match="'inverse_brown_conrady' with 5 coefficients, expected plumb_bob"):
        Undistortion(np.eye(3), np.ones(5), "inverse_brown_conrady", (4, 4), "/info")


def test_undistortion_does_not_see_a_lens_twice() -> None:
    # With k1 = -0.6 the image turns back at r = sqrt(1 / 1.8) = 0.745; at a wide corner nothing is seen.
    K = np.array([[20.0, 0, 31.5], [0, 20.0, 31.5], [0, 0, 1]])
    depth = Undistortion(K, np.array([-0.6, 0, 0, 0, 0]), "plumb_bob", (64, 64), "").depth(np.ones((64, 64), np.uint16))
    assert depth[31, 31 + 14] == 1 and depth[31, 31 + 16] == 0 and depth[0, 0] == 0
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    none = Undistortion(K, np.zeros(5), "plumb_bob", (64, 64), "")
    np.testing.assert_array_equal(none.color(colour), colour)


K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_depth_that_is_not_moved_stays(seed: int) -> None:
    depth = np.random.default_rng(seed).integers(0, 6000, (48, 64)).astype(np.uint16)
    flat = np.where(depth > 0, 2000, 0).astype(np.uint16)
    moved = Registration(K, (64, 48), np.eye(4), K, (64, 48))
    np.testing.assert_array_equal(moved(flat)[flat > 0], flat[flat > 0])
    assert (moved(depth)[depth > 0] <= depth[depth > 0]).all()


def test_the_nearer_surface_hides_the_farther() -> None:
    wall = np.full((48, 64), 3000, np.uint16)
    wall[:, 24:40] = 1000
    T = np.eye(4)
    T[0, 3] = -0.2  # the new camera stands 0.2 m to the right
    got = Registration(K, (64, 48), T, K, (64, 48))(wall)
    # At 1 m 0.2 m are 10 pixels, at 3 m 3.3: the near strip goes to 14 to 30, the wall behind it shows up from 37 on.
    assert (got[:, 15:29] == 1000).all()
    assert (got[:, 38:60] == 3000).all() and (got[:, :13] == 3000).all()
    # What the first camera did not see, behind the strip, stays empty.
    assert (got[:, 31:36] == 0).all()
    behind = np.eye(4)
    behind[2, 3] = -5.0
    assert not Registration(K, (64, 48), behind, K, (64, 48))(wall).any()

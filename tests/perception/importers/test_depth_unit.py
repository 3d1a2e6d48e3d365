import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import InputError
from perception.importers.depth_unit import (
    UNITS,
    DepthSample,
    check_depth_unit,
    detect_depth_unit,
    doubt,
    require_unit,
    sample_depth,
    to_millimetres,
)


def room(seed=0):
    """Depth of a room in metres, 0.8 to 4.5, with holes."""
    depth = np.random.default_rng(seed).uniform(0.8, 4.5, (48, 64))
    depth[:4] = 0.0
    return depth


def counts(unit, dtype):
    return (room() / UNITS[unit]).astype(dtype)


@pytest.mark.parametrize(("unit", "dtype"), [("mm", np.uint16), ("mm", np.float32), ("m", np.float32)])
def test_a_room_tells_its_unit(unit, dtype):
    assert detect_depth_unit(sample_depth([counts(unit, dtype)], "x"), "x", "--u") == unit


def test_tum_and_tenth_of_a_millimetre_cannot_be_told_apart():
    sample = sample_depth([counts("0.2mm", np.uint16)], "x")
    assert sample.candidates() == ("0.2mm", "0.1mm")
    with pytest.raises(InputError, match=r"ambiguous: 0.2mm \(median 2.\d+ m.*or 0.1mm.*; name it with --unit"):
        detect_depth_unit(sample, "bag", "--unit")


def test_no_unit_gives_a_room():
    with pytest.raises(InputError, match=r"unclear, none gives a room: m \(median.*name it with --unit"):
        detect_depth_unit(DepthSample(5e6, 6e6), "x", "--unit")
    with pytest.raises(InputError, match="no depth image holds a reading"):
        sample_depth([np.zeros((4, 4), np.uint16), np.full((4, 4), 65535, np.uint16), np.full((4, 4), np.nan)], "x")


def test_a_wrong_declaration_is_named():
    sample = DepthSample(2000.0, 4000.0)
    check_depth_unit(sample, "mm", "bag", "--unit")
    with pytest.raises(InputError, match=r"bag: depth should be in m \(median 2e\+03 m.*looks like mm .*--unit"):
        check_depth_unit(sample, "m", "bag", "--unit")
    assert doubt(sample, 0.001) is None
    assert "looks like mm (median 2 m, far 4 m)" in doubt(sample, 1.0)
    # A table top fits no room in any unit: nothing speaks against what is declared.
    check_depth_unit(DepthSample(0.35, 0.5), "m", "bag", "--unit")


def test_hand_case_of_conversion():
    raw = np.array([[0.0, -1.0, np.nan, np.inf], [0.0004, 1.2345, 65.534, 70.0]])
    mm, too_far = to_millimetres(raw, 1.0)
    assert mm.tolist() == [[0, 0, 0, 0], [0, 1234, 65534, 0]] and too_far == 1
    assert to_millimetres(np.array([[5000, 65535]], np.uint16), 0.0002)[0].tolist() == [[1000, 13107]]
    with pytest.raises(InputError, match="--u 'furlong': expected one of m, cm, mm"):
        require_unit("furlong", "--u")


@given(st.floats(0.31, 9.9), st.floats(1.0, 3.0), st.sampled_from(sorted(UNITS)))
def test_the_true_unit_is_never_excluded(median, ratio, unit):
    far = median * ratio
    if 1.2 <= far <= 14.9:
        sample = DepthSample(median / UNITS[unit], far / UNITS[unit])
        assert unit in sample.candidates()
        check_depth_unit(sample, unit, "x", "--u")

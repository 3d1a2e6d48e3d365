from __future__ import annotations

import numpy as np
import pytest
import torch

from sim.tasks.tracking.config import TerminationConfig
from sim.tasks.tracking.rewards import TrackingSample
from sim.tasks.tracking.terminations import TERMINATIONS, cause
from tests.sim.tasks.tracking.samples import about, sample, shifted

C = TerminationConfig()
NAMES = list(TERMINATIONS)


def causes(s: TrackingSample) -> set[str]:
    return {name for name, holds in TERMINATIONS.items() if bool(holds(s, C)[0])}


def test_nothing_fails_on_the_reference() -> None:
    assert causes(sample()) == set() and cause(sample(3), C).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("field", "by", "expected"),
    [
        ("root_pos", [0.59, 0, 0], None),
        ("root_pos", [0.61, 0, 0], "far_from_reference"),
        ("root_pos", [0.45, -0.45, 0], "far_from_reference"),
        ("root_pos", [0.4, 0.4, 0], None),
        ("root_pos", [0, 0, 0.24], None),
        ("root_pos", [0, 0, 0.26], "wrong_height"),
        ("root_pos", [0, 0, -0.26], "wrong_height"),
        ("foot_pos", [[0, 0, 0.24], [0, 0, 0]], None),
        ("foot_pos", [[0, 0, 0], [0, 0, 0.26]], "foot_wrong_height"),
        ("foot_pos", [[0, 0, -0.26], [0, 0, 0]], "foot_wrong_height"),
        ("foot_pos", [[5, 5, 0], [0, 0, 0]], None),
    ],
)
def test_each_bound_from_both_sides(field: str, by: list, expected: str | None) -> None:
    assert causes(shifted(sample(), field, by)) == ({expected} if expected else set())


@pytest.mark.parametrize("axis", ["x", "y"])
def test_tilt_from_both_sides(axis: str) -> None:
    assert causes(sample(root_quat=[about(axis, 0.89)])) == set()
    assert causes(sample(root_quat=[about(axis, 0.91)])) == {"tilted"}
    assert causes(sample(root_quat=[about(axis, np.pi)])) == {"tilted"}
    both = sample(root_quat=[about(axis, 1.2)], ref_root_quat=[about(axis, 0.6)])
    assert causes(both) == set(), "a reference that lies down is followed lying down"


def test_facing_another_way_is_no_tilt() -> None:
    assert causes(sample(root_quat=[about("z", 3.0)])) == set()


def test_the_first_of_several_causes_counts() -> None:
    """Fallen robots are far off, too low, tilted and on wrong feet at once; the number is the first one's."""
    s = sample(5)
    s.root_pos[1:3, 0] += 1.0
    s.root_pos[2:4, 2] -= 0.5
    s.root_quat[2:4] = about("x", 1.5)
    s.foot_pos[2:, 0, 2] += 0.5
    found = cause(s, C)
    assert found.dtype == np.int64
    names = [None if k == 0 else NAMES[k - 1] for k in found]
    assert names == [None, "far_from_reference", "far_from_reference", "wrong_height", "foot_wrong_height"]


def test_torch_gives_the_same_causes() -> None:
    s = sample(4)
    s.root_pos[1, 0] += 1.0
    s.root_quat[2] = about("y", 1.0)
    s.foot_pos[3, 1, 2] -= 0.4
    tensors = TrackingSample(**{name: torch.as_tensor(array) for name, array in vars(s).items()})
    assert cause(tensors, C).tolist() == cause(s, C).tolist() == [0, 1, 3, 4]

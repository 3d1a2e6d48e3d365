import numpy as np

from perception.multiview.paths import JointPath, at_times


def straight(times: np.ndarray) -> np.ndarray:
    return np.stack([2 * times, 1 - times, 0.5 * times], axis=-1)[:, None]


def test_a_straight_way_stays_straight_under_dropped_and_irregular_frames():
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 5, 120))
    path = JointPath(times, straight(times), rng.uniform(0.01, 0.05, (120, 1)))
    asked = np.linspace(0.3, 4.7, 50)
    found = at_times(path, asked, 0.15)
    known = np.isfinite(found).all(axis=(1, 2))
    assert known.mean() > 0.9
    assert np.abs(found[known] - straight(asked)[known]).max() < 1e-9


def test_gaps_and_ends_are_not_filled():
    times = np.concatenate([np.arange(0, 2, 0.05), np.arange(4, 6, 0.05)])
    path = JointPath(times, straight(times), np.full((len(times), 1), 0.02))
    found = at_times(path, np.array([-0.5, 1.0, 3.0, 5.0, 6.5]), 0.08)
    assert np.isfinite(found).all(axis=(1, 2)).tolist() == [False, True, False, True, False]

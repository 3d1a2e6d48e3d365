import numpy as np

from bodydouble.control import action_to_target


def test_target_is_reference_plus_scaled_action_inside_limits():
    target = action_to_target(
        action=np.array([[1.0, -4.0, 4.0]]),
        ref_joint_pos=np.array([[0.1, 0.0, 0.0]]),
        scale=np.array([0.5, 0.5, 0.5]),
        lower=np.array([-1.0, -1.0, -1.0]),
        upper=np.array([1.0, 1.0, 1.5]),
    )
    np.testing.assert_allclose(target, [[0.6, -1.0, 1.5]])

"""What parts of a robot shall do over a motion: the targets that inverse kinematics follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.frames import quat_from_axis_angle, quat_mul, quat_rotate, quat_rotate_inv
from bodydouble.motion import RobotMotion
from sim.retarget.footsteps import FootPlan
from sim.retarget.kinematics import BodyPoint, RobotKinematics
from sim.retarget.targets import BodyTargets
from sim.robots.follow import SIDES, Follow

_FOOT_POSITION, _FOOT_ROTATION = 60.0, 25.0
_PELVIS_POSITION, _PELVIS_ROTATION = (0.8, 0.8, 3.0), 0.6
_TORSO_ROTATION = 1.0
_ARM_POSITION = 1.0
_HAND_POSITION = 5.0
_POSTURE = 0.03
_ARM_POSTURE = 0.2
# A robot's own motion: its joints are what is wanted, the base gives way where feet must stay.
_OWN_POSTURE, _OWN_BASE_POSITION, _OWN_BASE_ROTATION = 1.0, 1.0, 3.0
_SMOOTH_BASE_POSITION = 20.0


@dataclass(frozen=True, eq=False)
class PointGoal:
    """Where a point of the robot shall be."""

    point: BodyPoint
    """The point."""
    target: np.ndarray
    """Positions (T, 3), in the world or in the base point's frame, m."""
    weight: np.ndarray
    """Weights (T, 3), 1/m."""


@dataclass(frozen=True, eq=False)
class TurnGoal:
    """How a body of the robot shall be turned."""

    body: int
    """The body."""
    target: np.ndarray
    """Orientations of the body in the world (T, 4), wxyz."""
    weight: np.ndarray
    """Weights (T,), 1/rad."""


@dataclass(frozen=True, eq=False)
class Goals:
    """All targets over T frames."""

    points: list[PointGoal]
    """Goals in the world."""
    turns: list[TurnGoal]
    """Orientations."""
    base: int
    """Body in whose frame the relative goals are."""
    relative: list[PointGoal]
    """Goals in the frame of the base body."""
    posture: np.ndarray
    """Joint positions (T, J) that are preferred, rad."""
    posture_weight: np.ndarray
    """Weights (J,), 1/rad."""
    com: np.ndarray | None = None
    """Horizontal centre-of-mass positions (T, 2), m; None leaves it free."""

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.posture)


def person_goals(
    model: RobotKinematics,
    targets: BodyTargets,
    feet: FootPlan,
    com: np.ndarray | None = None,
    swing_share: float = 1.0,
) -> Goals:
    """Return the goals of a robot that follows a person.

    Args:
        model: The robot's kinematics.
        targets: What its pelvis, torso and arms shall do at T frames.
        feet: Its foot plan.
        com: Wanted horizontal centre-of-mass positions (T, 2), m.
        swing_share: Factor on the weights of feet that swing: below 1 they give way to what stands in their path.
    """
    follow = _follow(model)
    frames = len(feet.yaw)
    pelvis, torso = model.point(follow.parts["pelvis"]), model.point(follow.parts["torso"])
    level = model.level_quats([pelvis.body, torso.body])
    weight = follow.weight("pelvis")
    points = [_point(pelvis, targets.pelvis_pos, np.multiply(weight, _PELVIS_POSITION))]
    turns = [
        TurnGoal(pelvis.body, quat_mul(targets.pelvis_quat, level[0]), np.full(frames, weight * _PELVIS_ROTATION)),
        TurnGoal(
            torso.body,
            quat_mul(targets.torso_quat, level[1]),
            np.full(frames, follow.weight("torso") * _TORSO_ROTATION),
        ),
    ]
    foot_points, foot_turns = _foot_goals(model, feet, follow, swing_share)
    relative = []
    if follow.arms:
        for i, side in enumerate(SIDES):
            for part, places in (("elbow", targets.elbow), ("wrist", targets.wrist)):
                name = f"{side}_{part}"
                place = quat_rotate_inv(level[1], places[:, i])
                relative.append(_point(model.point(follow.parts[name]), place, follow.weight(name) * _ARM_POSITION))
        hand = _HAND_POSITION * targets.hand_contact
        points += [
            PointGoal(model.point(follow.parts[f"{side}_wrist"]), targets.hand[:, i], np.tile(hand[:, i, None], 3))
            for i, side in enumerate(SIDES)
        ]
    return Goals(
        [*points, *foot_points],
        [*turns, *foot_turns],
        torso.body,
        relative,
        np.tile(model.robot.default_joint_pos, (frames, 1)),
        _posture_weights(model, follow),
        com,
    )


def own_goals(
    model: RobotKinematics, motion: RobotMotion, feet: FootPlan | None, base_path: np.ndarray | None = None
) -> Goals:
    """Return the goals of a robot that repeats a motion of its own with feet that stay where they stand.

    Args:
        model: The robot's kinematics.
        motion: The motion.
        feet: Foot plan at its T frames; None leaves the feet free.
        base_path: Base positions (T, 3) to hold to, m; None takes the motion's own, loosely.
    """
    frames = motion.num_frames
    base = model.point(model.robot.base_body)
    points, turns = [], []
    if model.robot.floating_base:
        if base_path is None:
            points.append(_point(base, motion.root_pos, _OWN_BASE_POSITION))
        else:
            points.append(_point(base, base_path, _SMOOTH_BASE_POSITION))
        turns.append(TurnGoal(base.body, motion.root_quat, np.full(frames, _OWN_BASE_ROTATION)))
    if feet is not None:
        foot_points, foot_turns = _foot_goals(model, feet, None)
        points, turns = [*points, *foot_points], [*turns, *foot_turns]
    weights = np.full(model.robot.num_joints, _OWN_POSTURE)
    return Goals(points, turns, base.body, [], motion.joint_pos, weights)


def _follow(model: RobotKinematics) -> Follow:
    assert model.robot.follow is not None
    return model.robot.follow


def _point(point: BodyPoint, target: np.ndarray, weight: float | np.ndarray) -> PointGoal:
    return PointGoal(point, target, np.broadcast_to(weight, target.shape))


def _foot_goals(
    model: RobotKinematics, feet: FootPlan, follow: Follow | None, swing_share: float = 1.0
) -> tuple[list[PointGoal], list[TurnGoal]]:
    quats, positions = foot_poses(model, feet)
    points, turns = [], []
    for i, body in enumerate(model.foot_ids):
        factor = follow.weight(f"{SIDES[i]}_ankle") if follow else 1.0
        # A foot that is fixed to its shin turns with the leg: where its sole is counts, not the body's origin.
        offset = np.zeros(3) if model.foot_turns[i] else model.sole_centre(i)
        point = BodyPoint(int(body), offset, np.array([1.0, 0.0, 0.0, 0.0]))
        target = positions[:, i] + quat_rotate(quats[:, i], np.broadcast_to(offset, positions[:, i].shape))
        share = factor * np.where(feet.contact[:, i], 1.0, swing_share)
        points.append(_point(point, target, _FOOT_POSITION * share[:, None]))
        rotation = _FOOT_ROTATION if model.foot_turns[i] else 0.0
        turns.append(TurnGoal(int(body), quats[:, i], share * rotation))
    return points, turns


def foot_poses(model: RobotKinematics, feet: FootPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return orientations (T, 2, 4), wxyz, and positions (T, 2, 3), m, of the foot bodies of a plan."""
    shape = (*feet.yaw.shape, 3)
    if feet.quat is None:
        turn = quat_from_axis_angle(np.broadcast_to([0.0, 0.0, 1.0], shape), feet.yaw)
        quats = quat_mul(turn, quat_from_axis_angle(np.broadcast_to([0.0, 1.0, 0.0], shape), feet.pitch))
    else:
        quats = feet.quat
    quats = quat_mul(quats, model.flat_quats)
    positions = feet.position.copy()
    positions[..., 2] -= model.sole_heights(np.zeros(shape), quats)
    return quats, positions


def _posture_weights(model: RobotKinematics, follow: Follow) -> np.ndarray:
    """Return weights (J,): more where positions of elbow and wrist leave a joint free."""
    weights = np.full(model.robot.num_joints, _POSTURE)
    if not follow.arms:
        return weights
    for side in SIDES:
        wrist = model.point(follow.parts[f"{side}_wrist"])
        elbow = model.point(follow.parts[f"{side}_elbow"])
        free = model.joints_of(model.chain(elbow.body, wrist.body))
        free |= model.twists(model.point(follow.parts[f"{side}_shoulder"]).body, elbow.body)
        weights[free] = _ARM_POSTURE
    return weights

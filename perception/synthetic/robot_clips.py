"""Random clips that a robot acts itself, on flat floor, on seats and on platforms, for training and for judging.

All clips of a library share one model: a floor and a few boxes far from each other. A clip that needs a box is planned
where that box stands, so no simulation needs boxes of its own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bodydouble.motion import RobotMotion
from perception.synthetic.gaits import GAITS, SEAT_BACK
from perception.synthetic.motions import MotionConfig, Segment, plan, random_segments
from perception.synthetic.robot_acting import Block, act_robot, planning_proportions
from sim.retarget.kinematics import kinematics
from sim.retarget.targets import proportions
from sim.robots.spec import RobotSpec

FPS = 50.0
"""Control rate of the clips, Hz."""
SPEEDS = (0.3, 1.3)
"""Range of walking speeds, m/s."""
SEAT_HEIGHTS, STEP_HEIGHTS = (0.29, 0.45), (0.09, 0.20)
"""Ranges of the boxes' heights, m."""
_SEATS, _PLATFORMS = 5, 5
_FIRST_M, _APART_M = 20.0, 8.0
_SEAT_SIZE, _PLATFORM_SIZE = (0.5, 0.5), (1.0, 1.0)
_SEAT_EDGE_M = 0.02
_TOE_M = 0.20


def blocks(seed: int) -> tuple[Block, ...]:
    """Return the boxes of a library: seats, then platforms, of heights and headings drawn from a seed."""
    rng = np.random.default_rng(seed)
    out = []
    for kind, (count, heights, size) in enumerate(
        ((_SEATS, SEAT_HEIGHTS, _SEAT_SIZE), (_PLATFORMS, STEP_HEIGHTS, _PLATFORM_SIZE))
    ):
        # Spread over the range, so that few boxes cover it.
        shares = (np.arange(count) + rng.uniform(0, 1, count)) / count
        for index, share in enumerate(shares):
            centre = (_FIRST_M + _APART_M * index, _APART_M * (2 * kind - 1))
            height = heights[0] + float(share) * (heights[1] - heights[0])
            out.append(Block(centre, float(rng.uniform(-np.pi, np.pi)), (*size, round(height, 4))))
    return tuple(out)


def draw_robot_clip(
    seed: int, index: int, robot: RobotSpec, boxes: tuple[Block, ...]
) -> tuple[MotionConfig, Block | None, bool]:
    """Return a random clip, the box it needs, and whether it is mirrored. Of ten clips four walk, two sit, two climb.

    Args:
        seed: Seed of the library.
        index: Which clip.
        robot: The robot that acts.
        boxes: The library's boxes.
    """
    rng = np.random.default_rng((seed, index))
    kind = index % 10
    if kind in (0, 1, 2, 3):
        return _free(rng, _walks(rng)), None, False
    if kind in (4, 5):
        return _free(rng, random_segments(rng, actions=int(rng.integers(2, 4)))), None, False
    mirror = bool(rng.random() < 0.5)
    if kind in (6, 7):
        box = boxes[int(rng.integers(_SEATS))]
        return _on_seat(rng, robot, box), box, mirror
    box = boxes[_SEATS + int(rng.integers(_PLATFORMS))]
    return _on_platform(rng, robot, box), box, mirror


def act_robot_clip(seed: int, index: int, robot: RobotSpec, boxes: tuple[Block, ...]) -> RobotMotion:
    """Return the motion of a random clip; see `draw_robot_clip`.

    Raises:
        InputError: The robot cannot do it.
    """
    config, box, mirror = draw_robot_clip(seed, index, robot, boxes)
    return act_robot(config, robot, box, mirror=mirror)


def _free(rng: np.random.Generator, segments: tuple[Segment, ...]) -> MotionConfig:
    return MotionConfig(segments=segments, start_xy=(0, 0), heading=float(rng.uniform(-np.pi, np.pi)), fps=FPS)


def _stand(rng: np.random.Generator, low: float = 0.8, high: float = 1.6) -> Segment:
    return Segment("stand", float(rng.uniform(low, high)))


def walk(rng: np.random.Generator, seconds: float, speed: float | None = None) -> Segment:
    """Return a gait of random speed (a tenth of them backwards), arc and pace."""
    backwards = speed is None and rng.random() < 0.1
    if speed is None:
        speed = float(rng.uniform(*SPEEDS))
    if backwards:
        speed = -float(rng.uniform(0.2, 0.5))
    turn = float(rng.normal(0.0, 0.15)) * seconds if rng.random() < 0.6 else 0.0
    side = str(rng.choice(["left", "right"]))
    return Segment("gait", seconds, speed * seconds, side, turn, float(rng.uniform(0.88, 1.15)))


def _walks(rng: np.random.Generator) -> tuple[Segment, ...]:
    out = [_stand(rng)]
    for _ in range(int(rng.integers(1, 4))):
        out.append(walk(rng, float(rng.uniform(1.8, 4.5))))
        if rng.random() < 0.3:
            out.append(_action(rng, ("turn", "reach", "raise", "look", "squat", "bow", "pick_up")))
        elif rng.random() < 0.5:
            out.append(_stand(rng, 0.2, 0.8))
    return (*out, _stand(rng, 1.0, 1.6))


def _action(rng: np.random.Generator, kinds: tuple[str, ...]) -> Segment:
    kind, side = str(rng.choice(kinds)), str(rng.choice(["left", "right", "both"]))
    seconds, amount = float(rng.uniform(1.8, 3.4)), float(rng.uniform(0.4, 1.0))
    if kind == "turn":
        amount = float(rng.uniform(0.4, 2.4)) * float(rng.choice([-1, 1]))
        seconds = 2 * float(np.ceil(abs(amount) / 0.5)) * float(rng.uniform(0.5, 0.8))
    elif kind == "look":
        amount *= float(rng.choice([-1, 1]))
    return Segment(kind, seconds, amount, side)


def _on_seat(rng: np.random.Generator, robot: RobotSpec, box: Block) -> MotionConfig:
    leg = proportions(kinematics(robot)).leg_length
    before = (_stand(rng),)
    if rng.random() < 0.5:
        before = (_stand(rng), walk(rng, float(rng.uniform(1.5, 3.0))), *_about_face(rng))
    after: list[Segment] = [Segment("sit_on", float(rng.uniform(1.5, 2.8)), box.size[2]), _stand(rng, 0.3, 1.5)]
    if rng.random() < 0.4:
        after.append(_action(rng, ("look",)))
    after.append(Segment("rise", float(rng.uniform(1.6, 2.8))))
    if rng.random() < 0.6:
        after += [_stand(rng, 0.2, 0.6), walk(rng, float(rng.uniform(1.5, 3.0)), float(rng.uniform(0.3, 1.1)))]
    elif rng.random() < 0.5:
        after.append(_action(rng, ("reach", "raise", "look")))
    after.append(_stand(rng, 1.0, 1.5))
    away = SEAT_BACK * leg + 0.5 * box.size[0] - _SEAT_EDGE_M
    return _at(robot, box, away, before, tuple(after))


def _about_face(rng: np.random.Generator) -> tuple[Segment, ...]:
    turn = float(rng.choice([-1, 1])) * float(rng.uniform(1.4, 3.1))
    steps = 2 * float(np.ceil(abs(turn) / 0.5))
    return (Segment("turn", steps * float(rng.uniform(0.5, 0.75)), turn), _stand(rng, 0.2, 0.6))


def _on_platform(rng: np.random.Generator, robot: RobotSpec, box: Block) -> MotionConfig:
    before = (_stand(rng),)
    if rng.random() < 0.5:
        speed = float(rng.uniform(0.3, 1.0))
        before = (_stand(rng), walk(rng, float(rng.uniform(1.5, 3.0)), speed), _stand(rng, 0.2, 0.6))
    rise, seconds = box.size[2], float(rng.uniform(2.2, 3.4))
    after: list[Segment] = [Segment("climb", seconds, rise), _stand(rng, 0.3, 1.0)]
    if rng.random() < 0.6:
        after.append(_action(rng, ("reach", "raise", "look", "squat", "bow")))
    if rng.random() < 0.7:
        after += [Segment("climb", float(rng.uniform(2.2, 3.4)), -rise), _stand(rng, 0.2, 0.6)]
        if rng.random() < 0.4:
            after.append(_action(rng, ("turn", "reach", "raise", "look")))
    after.append(_stand(rng, 1.0, 1.5))
    # The toes stop short of the edge, the heel lands behind it.
    away = -(0.5 * box.size[0] + _TOE_M)
    return _at(robot, box, away, before, tuple(after))


def _at(
    robot: RobotSpec, box: Block, away: float, before: tuple[Segment, ...], after: tuple[Segment, ...]
) -> MotionConfig:
    """Return the clip whose first part ends `away` m ahead of a box's middle, facing as the box does."""
    model = kinematics(robot)
    free = MotionConfig(segments=before, start_xy=(0, 0), heading=0.0, fps=FPS)
    last = plan(free, planning_proportions(proportions(model), model), more=GAITS)
    end, heading = last.feet[-1, :, :2].mean(axis=0), float(last.heading[-1])
    start = box.yaw - heading
    c, s = np.cos(start), np.sin(start)
    target = np.array(box.centre) + away * np.array([np.cos(box.yaw), np.sin(box.yaw)])
    xy = target - np.array([c * end[0] - s * end[1], s * end[0] + c * end[1]])
    return dataclasses.replace(free, segments=(*before, *after), start_xy=(float(xy[0]), float(xy[1])), heading=start)

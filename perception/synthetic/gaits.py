"""Segments that move the weight as a walking body does: steps without a stop between them, sitting down, getting up.

`plan(..., more=GAITS)` knows them. What they plan is kinematic; `sim.retarget.balance` makes it dynamically possible.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from perception.synthetic.motions import Array, Planner, Segment, min_jerk

PELVIS_TO_SEAT_M = 0.15
"""Height of a sitting robot's pelvis over the seat, m, before it is measured on its geometry."""
SEAT_BACK = 0.40
"""How far behind the feet a robot sits, in lengths of the leg."""
_SWING_SHARE = 0.78
_CLEARANCE = 0.09
_BEND = 0.06


def steps_per_second(speed: float, leg: float) -> float:
    """Return how many steps a second a body with legs of a length, m, makes at a speed, m/s: shorter legs make more."""
    return (1.1 + 0.75 * abs(speed) / np.sqrt(leg / 0.85)) * np.sqrt(0.85 / leg) ** 0.5


def _along(begin: Array, heading: float, amount: float, turn: float, travelled: Array) -> tuple[Array, Array]:
    """Return places (T, 2) and headings (T,) on an arc after distances (T,)."""
    yaw = heading + turn * travelled / amount
    if abs(turn) < 1e-6:
        ahead = np.array([np.cos(heading), np.sin(heading)])
        return begin + travelled[:, None] * ahead, yaw
    radius = amount / turn
    return begin + radius * np.stack([np.sin(yaw) - np.sin(heading), np.cos(heading) - np.cos(yaw)], -1), yaw


def gait(p: Planner, s: Segment) -> None:
    """Walk `amount` m (negative: backwards) along an arc, with arms that swing against the legs; feet end together."""
    now = p.rows[-1]
    speed = abs(s.amount) / s.seconds
    count = max(2, round(s.seconds * steps_per_second(speed, p.body.leg) * s.pace))
    # Half a step's time to shift the weight before the first swing, and after the last one.
    step_s = s.seconds / (count + 1)
    length = s.amount / (count - 0.5)
    landings = np.array([*(length * (np.arange(count - 1) + 0.5)), s.amount, s.amount])
    swings = len(landings)
    half = 1.1 * p.body.hip_width
    first = 1 if s.side == "right" else 0
    frames = p.frames(s.seconds + step_s)
    times = np.arange(1, frames + 1) / p.fps
    centre, heading = now["feet"][:, :2].mean(axis=0), float(now["heading"])
    lift_off = step_s * (0.5 + np.arange(swings) + 0.5 * (1 - _SWING_SHARE))
    landing = lift_off + _SWING_SHARE * step_s
    # The pelvis is half-way between the feet in the middle of each double support.
    middles = np.concatenate([[0.0], 0.5 * (landings[1:-1] + landings[:-2]), [s.amount]])
    knots = np.concatenate([[0.25 * step_s], 0.5 * (landing[1:-1] + lift_off[2:]), [landing[-1] + 0.2 * step_s]])
    travelled = PchipInterpolator(knots, middles, extrapolate=False)(np.clip(times, knots[0], knots[-1]))
    place, yaw = _along(centre, heading, s.amount, s.turn, travelled)
    feet, foot_yaw = np.tile(now["feet"], (frames, 1, 1)), np.tile(now["foot_yaw"], (frames, 1))
    foot_pitch, contact = np.zeros((frames, 2)), np.ones((frames, 2), bool)
    ends, end_yaws = _along(centre, heading, s.amount, s.turn, landings)
    for index in range(swings):
        foot = (first + index) % 2
        left = np.array([-np.sin(end_yaws[index]), np.cos(end_yaws[index])])
        target = ends[index] + (half if foot == 0 else -half) * left
        start = int(np.searchsorted(times, lift_off[index]))
        stop = max(start + 2, int(np.searchsorted(times, landing[index])))
        swing = np.arange(1, stop - start + 1) / (stop - start)
        # A minimum-jerk course alone would be too fast in its middle for short legs.
        share = 0.5 * min_jerk(stop - start) + 0.5 * swing**2 * (3 - 2 * swing)
        origin, origin_yaw = feet[start - 1, foot, :2].copy(), foot_yaw[start - 1, foot]
        feet[start:stop, foot, :2] = origin + share[:, None] * (target - origin)
        feet[stop:, foot, :2] = target
        height = p.body.ankle_height + p.ground
        feet[start:stop, foot, 2] = height + _CLEARANCE * p.body.leg * np.sin(np.pi * swing) ** 2
        foot_yaw[start:stop, foot] = origin_yaw + share * (end_yaws[index] - origin_yaw)
        foot_yaw[stop:, foot] = end_yaws[index]
        # Toes push off and the heel lands first, the more the faster.
        early, late = np.clip(swing / 0.6, 0, 1), np.clip(swing / 0.6 - 0.67, 0, 1)
        push = np.sin(np.pi * early) ** 2 - 0.4 * np.sin(np.pi * late) ** 2
        foot_pitch[start:stop, foot] = np.sign(s.amount) * min(0.35, 0.4 * speed) * push
        contact[start : stop - 1, foot] = False
    ahead = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    swung = np.einsum("tfc,tc->tf", feet[:, :, :2] - place[:, None], ahead)
    hands = np.tile(now["hands"], (frames, 1, 1))
    hands[:, :, 0] -= 0.45 * swung
    hands[:, :, 2] += 0.25 * np.maximum(-swung, 0)
    # Who walks faster leans and bends the knees more; both come and go within a step.
    begun = np.minimum(times, times[-1] - times) / step_s
    moving = np.clip(begun, 0, 1) ** 2 * (3 - 2 * np.clip(begun, 0, 1))
    lean, lower = min(0.12, 0.07 * speed) * moving, _BEND * p.body.leg * speed * moving
    for t in range(frames):
        p.rows.append(
            {
                **now,
                "pelvis": np.array([*place[t], now["pelvis"][2] - lower[t]]),
                "heading": np.array(yaw[t]),
                "torso": np.array([0.0, lean[t], 0.0]),
                "feet": feet[t],
                "foot_yaw": foot_yaw[t],
                "foot_pitch": foot_pitch[t],
                "hands": hands[t],
                "contact": contact[t],
            }
        )
    p.blend(0.2, pelvis=p.stance(), hands=p.rest_hands(), torso=np.zeros(3))


def sit_on(p: Planner, s: Segment) -> None:
    """Sit down on a seat `amount` m high behind the feet: bent forward until it carries, then upright."""
    seat = p.stance() - [*p.forward(SEAT_BACK * p.body.leg), 0.0]
    seat[2] = p.ground + s.amount + PELVIS_TO_SEAT_M
    drop = np.clip((p.body.pelvis_height - s.amount - PELVIS_TO_SEAT_M) / (0.4 * p.body.leg), 0.2, 1.0)
    ahead = p.hands_to("both", np.array([0.75 * p.body.arm, p.body.shoulder[1] + 0.04, 0.02]))
    p.blend(0.70 * s.seconds, pelvis=seat, torso=[0.25 + 0.30 * drop, 0.40 * drop, 0.0], hands=ahead)
    p.rows[-1]["seat"] = np.array(True)
    lap = p.hands_to("both", np.array([0.55 * p.body.arm, p.body.shoulder[1] + 0.02, 0.05]))
    p.blend(0.30 * s.seconds, torso=[0.0, 0.05, 0.0], hands=lap)


def rise(p: Planner, s: Segment) -> None:
    """Stand up from a seat: bend forward until the feet carry, then straighten."""
    drop = np.clip((p.stance() - p.rows[-1]["pelvis"])[2] / (0.4 * p.body.leg), 0.2, 1.0)
    ahead = p.hands_to("both", np.array([0.80 * p.body.arm, p.body.shoulder[1] + 0.04, 0.05]))
    p.blend(0.35 * s.seconds, torso=[0.25 + 0.35 * drop, 0.45 * drop, 0.0], hands=ahead)
    p.rows[-1] = {**p.rows[-1], "seat": np.array(False)}
    p.blend(0.65 * s.seconds, pelvis=p.stance(), torso=np.zeros(3), hands=p.rest_hands())


GAITS = {"gait": gait, "sit_on": sit_on, "rise": rise}
"""The segments, for `plan`."""

"""Acting: clips of named segments, as a person's motion with feet that stand still when they should.

A clip is planned as a few tracks (pelvis, feet, hands, torso angles) and then solved for the body by inverse
kinematics. Lengths are those of the person given, so a small person takes small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bodydouble.errors import InputError

Array = np.ndarray


SIT_BACK = 0.42
"""How far behind the feet one sits, in lengths of the leg."""
CLIMB_STEP = 0.48
"""Length of the step up on a platform, in lengths of the leg."""


@dataclass(frozen=True)
class Segment:
    """One thing the person does."""

    kind: str
    """One of SEGMENTS."""
    seconds: float
    """How long it takes, s."""
    amount: float = 1.0
    """How much: depth of a squat or bow (1 is deep), metres walked, radians turned to the left, metres climbed (a
    negative amount steps down backwards)."""
    side: str = "right"
    """Which hand: left, right or both; of a gait, the foot that goes first."""
    turn: float = 0.0
    """Radians turned to the left on the way of a gait."""
    pace: float = 1.0
    """Steps per second of a gait, relative to the usual ones at its speed."""


DEMO_SEGMENTS = (
    Segment("stand", 1.3),
    Segment("reach", 2.6, 1.0, "right"),
    Segment("squat", 2.8, 0.6),
    Segment("walk", 3.6, 0.9),
    Segment("raise", 2.2, 1.0, "both"),
    Segment("stand", 1.3),
)
"""What the person does in the demo: 13.8 s."""


@dataclass(frozen=True)
class MotionConfig:
    """A clip."""

    segments: tuple[Segment, ...] = DEMO_SEGMENTS
    """What the person does, in order."""
    start_xy: tuple[float, float] = (-0.45, 0.0)
    """Where the person starts, m."""
    heading: float = 0.0
    """Direction the person faces at the start, rad about z."""
    fps: float = 30.0
    """Frames per second."""


@dataclass(frozen=True)
class Tracks:
    """What a clip plans, T frames. Hands are relative to the pelvis in its heading frame."""

    pelvis: Array
    """Pelvis position (T, 3), world, m."""
    heading: Array
    """Heading (T,), rad."""
    torso: Array
    """Pitch of pelvis and of spine, and yaw of the chest (T, 3), rad."""
    feet: Array
    """Ankle positions (T, 2, 3), left before right, world, m."""
    foot_yaw: Array
    """Foot headings (T, 2), rad."""
    foot_pitch: Array
    """Foot pitch (T, 2), rad, positive with the toes down."""
    hands: Array
    """Wrist positions (T, 2, 3), m."""
    contact: Array
    """Whether each foot stands (T, 2), bool."""
    seat: Array
    """Whether the pelvis rests on something (T,), bool."""
    rest: Array
    """How far the trunk's height is given by what it rests on (T,), in [0, 1]; 1 is at rest."""


@dataclass(frozen=True)
class Proportions:
    """The lengths that planning needs, m."""

    pelvis_height: float
    """Pelvis over the floor when standing with slightly bent knees."""
    ankle_height: float
    """Ankle over the sole."""
    hip_width: float
    """Distance of a hip from the middle."""
    leg: float
    """Length of thigh and shin."""
    arm: float
    """Length of upper arm and forearm."""
    shoulder: tuple[float, float]
    """Height over the pelvis, and distance from the middle, of a shoulder."""
    rest_hand: tuple[float, float, float] | None = None
    """Where the left wrist hangs, from the pelvis in its heading frame; None lets the arms hang almost straight."""


def min_jerk(frames: int) -> Array:
    """Return a share (frames,) that goes smoothly from just above 0 to 1 (Flash and Hogan 1985)."""
    t = np.arange(1, frames + 1) / frames
    return t**3 * (10 - 15 * t + 6 * t**2)


@dataclass
class Planner:
    """Appends segments to the tracks; the last row is the present posture."""

    body: Proportions
    fps: float
    on_scene: bool = False
    ground: float = 0.0
    rows: list[dict[str, Array]] = field(default_factory=list)

    def start(self, xy: tuple[float, float], heading: float) -> None:
        """Stand at a place, the weight on both feet."""
        across = np.array([-np.sin(heading), np.cos(heading)])
        feet = np.zeros((2, 3))
        for foot, sign in enumerate((1, -1)):
            feet[foot, :2] = np.asarray(xy) + sign * 1.1 * self.body.hip_width * across
        feet[:, 2] = self.body.ankle_height
        self.rows.append(
            {
                "pelvis": np.array([*xy, self.body.pelvis_height]),
                "heading": np.array(heading),
                "torso": np.zeros(3),
                "feet": feet,
                "foot_yaw": np.full(2, heading),
                "foot_pitch": np.zeros(2),
                "hands": self.rest_hands(),
                "contact": np.array([True, True]),
                "seat": np.array(False),
                "rest": np.array(0.0),
            }
        )

    def rest_hands(self) -> Array:
        """Return where both hands hang (2, 3), from the pelvis in its heading frame, m."""
        height, width = self.body.shoulder
        hand = np.array(self.body.rest_hand or [0.06, width + 0.12, height - 0.88 * self.body.arm])
        return np.stack([hand, hand * [1, -1, 1]])

    def frames(self, seconds: float) -> int:
        """Return how many frames a time takes."""
        return max(2, round(seconds * self.fps))

    def blend(self, seconds: float, **targets: Array | list[float] | float) -> None:
        """Move smoothly to the targets; what is not named stays."""
        begin = self.rows[-1]
        for share in min_jerk(self.frames(seconds)):
            row = dict(begin)
            for name, target in targets.items():
                row[name] = begin[name] + share * (np.asarray(target) - begin[name])
            self.rows.append(row)

    def forward(self, distance: float, across: float = 0.0) -> Array:
        """Return the way (2,) ahead and to the left, world, m."""
        yaw = float(self.rows[-1]["heading"])
        ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        return distance * ahead + across * left

    def stance(self) -> Array:
        """Return the pelvis position over the middle of the feet."""
        return np.array([*self.rows[-1]["feet"][:, :2].mean(axis=0), self.body.pelvis_height + self.ground])

    def hands_to(self, side: str, target: Array) -> Array:
        """Return both hands with the chosen ones at a target given for the left hand."""
        hands = self.rest_hands()
        if side in ("left", "both"):
            hands[0] = target
        if side in ("right", "both"):
            hands[1] = target * [1, -1, 1]
        return hands

    def lap(self, share: float) -> dict[str, Array]:
        """Return the target of hands some way from hanging to over the thighs; none without a scene."""
        if not self.on_scene:
            return {}
        over = self.hands_to("both", np.array([0.30, self.body.shoulder[1] - 0.02, 0.16]))
        return {"hands": self.rest_hands() + share * (over - self.rest_hands())}

    def swing(self, foot: int, place: Array, seconds: float, **targets: Array | list[float] | float) -> None:
        """Lift one foot, then move it over to a place (3,) while the rest goes to the targets."""
        first = len(self.rows)
        begin = self.rows[-1]["feet"][foot]
        self.blend(seconds, **targets)
        frames = len(self.rows) - first
        up, on = min_jerk(round(0.6 * frames)), min_jerk(frames - round(0.2 * frames))
        top = max(begin[2], place[2]) + 0.05 * self.body.leg
        for index, row in enumerate(self.rows[first:]):
            feet = row["feet"].copy()
            late = index - (frames - len(on))
            feet[foot, :2] = begin[:2] + (on[late] if late >= 0 else 0.0) * (place - begin)[:2]
            down = index - len(up)
            if down < 0:
                feet[foot, 2] = begin[2] + up[index] * (top - begin[2])
            else:
                feet[foot, 2] = top + min_jerk(frames - len(up))[down] * (place[2] - top)
            row["feet"] = feet
            contact = np.array([True, True])
            contact[foot] = index == frames - 1
            row["contact"] = contact

    def step(self, foot: int, xy: Array, yaw: float, seconds: float, pelvis_xy: Array, heading: float) -> None:
        """Swing one foot to a place while the pelvis moves on over the other."""
        begin = self.rows[-1]
        frames = self.frames(seconds)
        shift, swing = round(0.35 * frames), frames - round(0.35 * frames)
        other = begin["feet"][1 - foot, :2]
        over = 0.72 * other + 0.28 * begin["feet"][foot, :2]
        # First the weight goes over the standing foot, then the other one swings.
        for share in min_jerk(shift):
            row = dict(begin)
            row["pelvis"] = np.array(
                [*(begin["pelvis"][:2] + share * (over - begin["pelvis"][:2])), begin["pelvis"][2]]
            )
            self.rows.append(row)
        begin = self.rows[-1]
        for index, share in enumerate(min_jerk(swing)):
            row = dict(begin)
            feet = begin["feet"].copy()
            feet[foot, :2] += share * (xy - feet[foot, :2])
            standing = self.body.ankle_height + self.ground
            feet[foot, 2] = standing + 0.09 * self.body.leg * np.sin(np.pi * (index + 1) / swing) ** 2
            row["feet"] = feet
            yaws = begin["foot_yaw"].copy()
            yaws[foot] += share * (yaw - yaws[foot])
            row["foot_yaw"] = yaws
            row["pelvis"] = np.array(
                [*(begin["pelvis"][:2] + share * (pelvis_xy - begin["pelvis"][:2])), begin["pelvis"][2]]
            )
            row["heading"] = begin["heading"] + share * (heading - begin["heading"])
            contact = np.array([True, True])
            contact[foot] = index == swing - 1
            row["contact"] = contact
            self.rows.append(row)


def _stand(p: Planner, s: Segment) -> None:
    p.blend(s.seconds)


def _reach(p: Planner, s: Segment) -> None:
    height, width = p.body.shoulder
    target = np.array([0.80 * p.body.arm * s.amount, 0.7 * width, height - 0.10])
    lean = p.stance() + np.array([*p.forward(0.02), -0.01])
    p.blend(0.4 * s.seconds, hands=p.hands_to(s.side, target), torso=[0.06, 0.10, 0.0], pelvis=lean)
    p.blend(0.2 * s.seconds)
    p.blend(0.4 * s.seconds, hands=p.rest_hands(), torso=np.zeros(3), pelvis=p.stance())


def _raise(p: Planner, s: Segment) -> None:
    height, width = p.body.shoulder
    target = np.array([0.30, width + 0.22, height + 0.35 * s.amount * p.body.arm])
    p.blend(0.4 * s.seconds, hands=p.hands_to(s.side, target))
    p.blend(0.2 * s.seconds)
    p.blend(0.4 * s.seconds, hands=p.rest_hands())


def _squat(p: Planner, s: Segment) -> None:
    drop = 0.36 * p.body.leg * s.amount
    height, width = p.body.shoulder
    hands = p.hands_to("both", np.array([0.55 * p.body.arm, width + 0.04, height - 0.30]))
    down = p.stance() - [*p.forward(0.10 * s.amount), drop]
    p.blend(0.42 * s.seconds, pelvis=down, torso=[0.35 * s.amount, 0.25 * s.amount, 0.0], hands=hands)
    p.blend(0.16 * s.seconds)
    p.blend(0.42 * s.seconds, pelvis=p.stance(), torso=np.zeros(3), hands=p.rest_hands())


def _bow(p: Planner, s: Segment) -> None:
    down = p.stance() - [*p.forward(0.07 * s.amount), 0.02 * s.amount]
    p.blend(0.42 * s.seconds, pelvis=down, torso=[0.35 * s.amount, 0.45 * s.amount, 0.0])
    p.blend(0.16 * s.seconds)
    p.blend(0.42 * s.seconds, pelvis=p.stance(), torso=np.zeros(3))


def _pick_up(p: Planner, s: Segment) -> None:
    drop = 0.42 * p.body.leg * s.amount
    down = p.stance() - [*p.forward(0.10 * s.amount), drop]
    hands = p.hands_to(s.side, np.array([0.62 * p.body.arm, 0.5 * p.body.shoulder[1], -0.12]))
    p.blend(0.42 * s.seconds, pelvis=down, torso=[0.5 * s.amount, 0.45 * s.amount, 0.0], hands=hands)
    p.blend(0.16 * s.seconds)
    p.blend(0.42 * s.seconds, pelvis=p.stance(), torso=np.zeros(3), hands=p.rest_hands())


def _look(p: Planner, s: Segment) -> None:
    p.blend(0.4 * s.seconds, torso=[0.0, 0.0, 0.5 * s.amount])
    p.blend(0.2 * s.seconds)
    p.blend(0.4 * s.seconds, torso=np.zeros(3))


def _walk(p: Planner, s: Segment) -> None:
    """Walk straight; the step length and time follow from distance and duration."""
    count = max(2, round(s.seconds / 0.72))
    length = s.amount / (count - 0.5)
    seconds = s.seconds / (count + 0.35)
    half = 1.1 * p.body.hip_width
    origin = p.rows[-1]["feet"][:, :2].mean(axis=0)
    yaw = float(p.rows[-1]["heading"])
    for index in range(count):
        foot = index % 2
        travelled = min((index + 0.5) * length if index < count - 1 else s.amount, s.amount)
        place = origin + p.forward(travelled, half if foot == 0 else -half)
        standing = p.rows[-1]["feet"][1 - foot, :2]
        p.step(foot, place, yaw, seconds, 0.5 * (place + standing), yaw)
    last = count % 2
    place = origin + p.forward(s.amount, half if last == 0 else -half)
    p.step(last, place, yaw, seconds, origin + p.forward(s.amount), yaw)
    p.blend(0.35 * seconds, pelvis=p.stance())


def _turn(p: Planner, s: Segment) -> None:
    count = 2 * max(1, int(np.ceil(abs(s.amount) / 0.5)))
    begin = float(p.rows[-1]["heading"])
    centre = p.rows[-1]["feet"][:, :2].mean(axis=0)
    first = 0 if s.amount > 0 else 1
    half = 1.1 * p.body.hip_width
    for index in range(count):
        foot = (first + index) % 2
        yaw = begin + s.amount * (index // 2 + 1) / (count // 2)
        left = np.array([-np.sin(yaw), np.cos(yaw)])
        heading = begin + s.amount * (index + 1) / count
        p.step(foot, centre + (half if foot == 0 else -half) * left, yaw, s.seconds / (count + 0.35), centre, heading)
    p.blend(0.35 * s.seconds / (count + 0.35), pelvis=p.stance())


def _sit(p: Planner, s: Segment) -> None:
    """Sit down on a seat of 0.45 m behind the person, and stay; on a scene, on what stands there."""
    seat = p.stance() - [*p.forward(SIT_BACK * p.body.leg), 0.0]
    seat[2] = 0.45 + 0.10
    rest = float(p.on_scene)
    p.blend(0.5 * s.seconds, pelvis=0.5 * (seat + p.stance()), torso=[0.5, 0.35, 0.0], **p.lap(0.5))
    p.blend(0.5 * s.seconds, pelvis=seat, torso=[0.0, 0.10, 0.0], rest=rest, **p.lap(1.0))
    p.rows[-1]["seat"] = np.array(True)


def _stand_up(p: Planner, s: Segment) -> None:
    begin = p.rows[-1]["pelvis"]
    p.rows[-1] = {**p.rows[-1], "seat": np.array(False)}
    p.blend(0.5 * s.seconds, pelvis=0.5 * (begin + p.stance()), torso=[0.55, 0.35, 0.0], rest=0.0, **p.lap(0.5))
    p.blend(0.5 * s.seconds, pelvis=p.stance(), torso=np.zeros(3), **p.lap(0.0))


def _climb(p: Planner, s: Segment) -> None:
    """Step up on a platform ahead with both feet, one after the other; down again backwards, the same way."""
    length = CLIMB_STEP * p.body.leg
    if s.amount >= 0:
        _step_up(p, s.seconds, s.amount, length)
        return
    below = Planner(p.body, p.fps, p.on_scene, p.ground + s.amount)
    lower = np.array([*p.forward(-length), s.amount])
    now = p.rows[-1]
    below.rows.append({**now, "pelvis": now["pelvis"] + lower, "feet": now["feet"] + lower})
    _step_up(below, s.seconds, -s.amount, length)
    p.rows.extend(below.rows[-2::-1])
    p.ground += s.amount


def _step_up(p: Planner, seconds: float, rise: float, length: float) -> None:
    begin = p.rows[-1]
    lead, trail = begin["feet"][0], begin["feet"][1]
    onto = np.array([*p.forward(length), rise])
    # The weight goes over the trailing foot, the other one goes up and on the platform.
    p.blend(0.15 * seconds, pelvis=[*(0.25 * lead + 0.75 * trail)[:2], begin["pelvis"][2]])
    p.swing(0, lead + onto, 0.25 * seconds, pelvis=p.rows[-1]["pelvis"] + [*p.forward(0.2 * length), 0.0])
    # Then it goes over the leading foot, as far and as high as the leg behind allows.
    over = 0.50 * (lead + onto)[:2] + 0.50 * trail[:2]
    p.blend(0.22 * seconds, pelvis=[*over, begin["pelvis"][2] - 0.02 * p.body.leg], torso=[0.25, 0.20, 0.0])
    p.ground += rise
    high = [*(0.8 * (lead + onto) + 0.2 * (trail + onto))[:2], begin["pelvis"][2] + rise]
    p.swing(1, trail + onto, 0.28 * seconds, pelvis=high, torso=np.zeros(3))
    p.blend(0.10 * seconds, pelvis=p.stance())


def _lie(p: Planner, s: Segment) -> None:
    """Squat, sit down on the floor with the hands behind, lie back. The feet stand all the time."""
    stance, leg = p.stance(), p.body.leg
    height, width = p.body.shoulder
    ahead = p.hands_to("both", np.array([0.45 * p.body.arm, width + 0.06, height - 0.5 * p.body.arm]))
    squat = stance - [*p.forward(0.26 * leg), 0.0]
    squat[2] = p.ground + 0.48 * leg
    p.blend(0.26 * s.seconds, pelvis=squat, torso=[0.55, 0.45, 0.0], hands=ahead)
    seat = stance - [*p.forward(0.46 * leg), 0.0]
    seat[2] = p.ground + 0.12
    behind = p.hands_to("both", np.array([-0.16, width + 0.18, 0.03]))
    p.blend(0.24 * s.seconds, pelvis=seat, torso=[-0.45, 0.35, 0.0], hands=behind, rest=1.0)
    p.blend(0.06 * s.seconds)
    # The hands come forward first, then the back goes down.
    free = p.hands_to("both", np.array([0.05, width + 0.22, 0.10]))
    p.blend(0.10 * s.seconds, torso=[-0.50, 0.35, 0.0], hands=free)
    flat = seat - [*p.forward(0.08), 0.0]
    beside = p.hands_to("both", np.array([0.88 * p.body.arm - height, width + 0.20, -0.05]))
    p.blend(0.26 * s.seconds, pelvis=flat, torso=[-1.62, 0.0, 0.0], hands=beside)
    p.rows[-1]["seat"] = np.array(True)
    p.blend(0.08 * s.seconds)


def _get_up(p: Planner, s: Segment) -> None:
    """Get up from the floor the way one lay down."""
    now = p.rows[-1]
    up = Planner(p.body, p.fps, p.on_scene, p.ground)
    standing = {"pelvis": p.stance(), "torso": np.zeros(3), "hands": p.rest_hands(), "rest": np.array(0.0)}
    up.rows.append({**now, **standing, "seat": np.array(False)})
    _lie(up, s)
    p.rows.extend({**row, "seat": np.array(False)} for row in up.rows[-2::-1])


SEGMENTS = {
    "stand": _stand,
    "reach": _reach,
    "raise": _raise,
    "squat": _squat,
    "bow": _bow,
    "pick_up": _pick_up,
    "look": _look,
    "walk": _walk,
    "turn": _turn,
    "sit": _sit,
    "stand_up": _stand_up,
    "climb": _climb,
    "lie": _lie,
    "get_up": _get_up,
}
"""Everything a person can do in a clip."""


def plan(
    config: MotionConfig,
    body: Proportions,
    *,
    on_scene: bool = False,
    more: Mapping[str, Callable[[Planner, Segment], None]] | None = None,
) -> Tracks:
    """Return the tracks of a clip.

    Args:
        config: The clip.
        body: The person's lengths.
        on_scene: Whether who sits is to rest on a scene's surface; otherwise the seat is thought to be there.
        more: Segments beside SEGMENTS.

    Raises:
        InputError: A segment is unknown or has no duration.
    """
    planner = Planner(body, config.fps, on_scene)
    planner.start(config.start_xy, config.heading)
    segments = {**SEGMENTS, **(more or {})}
    for segment in config.segments:
        if segment.kind not in segments or segment.seconds <= 0 or segment.side not in ("left", "right", "both"):
            raise InputError(
                f"segment {segment} is not possible; kinds: {', '.join(segments)}; seconds must be positive"
            )
        segments[segment.kind](planner, segment)
    rows = planner.rows
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Tracks(**stacked)


def random_segments(rng: np.random.Generator, actions: int = 4) -> tuple[Segment, ...]:
    """Return a random clip: standing, then some actions of random size and speed, then standing."""
    segments = [Segment("stand", float(rng.uniform(1.1, 1.8)))]
    for _ in range(actions):
        kind = str(rng.choice(["reach", "raise", "squat", "bow", "pick_up", "look", "walk", "walk", "turn"]))
        side = str(rng.choice(["left", "right", "both"]))
        seconds, amount = float(rng.uniform(2.0, 3.6)), float(rng.uniform(0.4, 1.0))
        if kind == "walk":
            steps = int(rng.integers(3, 8))
            seconds, amount = steps * float(rng.uniform(0.62, 0.85)), steps * float(rng.uniform(0.10, 0.30))
        elif kind == "turn":
            amount = float(rng.uniform(0.3, 1.6)) * float(rng.choice([-1, 1]))
            seconds = 2 * np.ceil(abs(amount) / 0.5) * float(rng.uniform(0.6, 0.85))
        elif kind == "look":
            amount *= float(rng.choice([-1, 1]))
        segments.append(Segment(kind, float(seconds), amount, side))
        if rng.random() < 0.4:
            segments.append(Segment("stand", float(rng.uniform(0.2, 0.8))))
    segments.append(Segment("stand", float(rng.uniform(1.1, 1.6))))
    return tuple(segments)


def with_segments(config: MotionConfig, segments: Sequence[Segment]) -> MotionConfig:
    """Return the clip with other segments."""
    return replace(config, segments=tuple(segments))

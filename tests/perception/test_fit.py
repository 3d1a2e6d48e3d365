from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec
from bodydouble.motion import HumanMotion
from perception import clip_fit
from perception.body.anny_body import JOINT_NAMES, BodyState
from perception.body.jacobian import JOINT_INFLUENCE, SIZE, Motions, stepped
from perception.clip_fit import skin_of
from perception.clip_solver import ClipEquations
from perception.fit import FitConfig, FittedBody, fit_body
from perception.initial_pose import InitialPose
from perception.scene_field import SceneField, flat_field, scene_field
from perception.scene_terms import SOLES, add_flat_feet, add_scene, planted_soles
from perception.segment import PersonPoints
from perception.sight import Sight
from perception.skin import Skin, eyes_of, match
from perception.static_scene import StaticScene
from perception.synthetic.acting import DEFAULT_SHAPE, act
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import Mesh, box, merge

_LEG = ("_hip", "_knee", "_ankle", "_toe")
FPS = 15.0
EYES = np.array([[2.2, -0.6, 1.4], [0.9, 2.1, 1.5]])
FAST = FitConfig(vertices=300, points=300, coarse_hz=7.5, coarse_iterations=8, iterations=5)


def static(mesh: Mesh) -> StaticScene:
    return StaticScene(mesh.vertices, mesh.triangles.astype(np.int64), np.zeros((len(mesh.vertices), 3)))


def seen_by(motion: HumanMotion, eyes: np.ndarray, noise_m: float = 0.003, count: int = 400) -> PersonPoints:
    """Points on the skin that faces the cameras: of each frame `count`, of all cameras together."""
    rng = np.random.default_rng(0)
    skin = Skin(3000)
    state, normals = skin.pose(*(torch.as_tensor(x).float() for x in (motion.pose, motion.root_pos, motion.shape)))
    vertices, normals = skin_of(state).numpy(), normals.numpy()
    frames = len(vertices)
    points, origin = np.zeros((frames, count, 3)), np.zeros((frames, count, 3))
    for frame in range(frames):
        way = eyes[:, None] - vertices[frame]
        facing = (way * normals[frame]).sum(-1) > 0.2 * np.linalg.norm(way, axis=-1)
        # What stands on the floor is cut away with it.
        camera, vertex = np.nonzero(facing & (vertices[frame, :, 2] > 0.04))
        pick = rng.choice(len(camera), count)
        points[frame] = vertices[frame, vertex[pick]] + rng.normal(0, noise_m, (count, 3))
        origin[frame] = eyes[camera[pick]]
    everybody = np.full(frames, count)
    return PersonPoints(motion.times_ns, points, origin, everybody, np.full(frames, len(eyes)))


def guess(motion: HumanMotion, away_m: float = 0.06) -> tuple[np.ndarray, InitialPose]:
    """Key frames with the body beside the true one, all bones turned a little."""
    keys = np.unique(np.append(np.arange(0, len(motion.pose), 4), len(motion.pose) - 1))
    generator = torch.Generator().manual_seed(0)
    pose = torch.as_tensor(motion.pose[keys]).float()
    pose = torch.nn.functional.normalize(pose + 0.04 * torch.randn(pose.shape, generator=generator), dim=-1)
    root = torch.as_tensor(motion.root_pos[keys]).float() + away_m * torch.tensor([0.6, -0.6, 0.5])
    return keys, InitialPose(pose, root, torch.full((5,), 0.5), torch.ones(len(keys)))


def joint_error(body: FittedBody, motion: HumanMotion) -> np.ndarray:
    """Distances (T, 22) of the joints, m."""
    return np.linalg.norm(body.joint_pos - motion.joint_pos, axis=-1)[:, :22]


def slip_cm_s(body: FittedBody, motion: HumanMotion) -> float:
    ankles = body.joint_pos[:, [JOINT_NAMES.index("left_ankle"), JOINT_NAMES.index("right_ankle")], :2]
    planted = motion.contact[1:, :2].astype(bool) & motion.contact[:-1, :2].astype(bool)
    return float(100 * FPS * np.linalg.norm(np.diff(ankles, axis=0), axis=-1)[planted].mean())


@pytest.fixture(scope="module")
def walker() -> HumanMotion:
    return act(MotionConfig((Segment("walk", 2.0, 0.8), Segment("stand", 0.4)), fps=FPS), (0.4, 0.5, 0.6, 0.55, 0.5))


@pytest.fixture(scope="module")
def walked(walker) -> FittedBody:
    return fit_body(seen_by(walker, EYES), 0.0, FAST, initial=guess(walker))


def test_a_walk_is_found(walker, walked):
    error = joint_error(walked, walker)
    assert error.mean() < 0.02
    assert np.median(error[:, 0]) < 0.02
    assert walked.residual_m.max() < 0.02
    assert walked.pose.shape == walker.pose.shape
    np.testing.assert_allclose(np.linalg.norm(walked.pose, axis=-1), 1.0, atol=1e-5)


def test_more_skin_in_the_last_steps_finds_the_joints_better(walker, walked):
    """Few vertices stand for round limbs: what is between them lies below their tangent planes."""
    few = fit_body(seen_by(walker, EYES), 0.0, dataclasses.replace(FAST, fine_steps=0), initial=guess(walker))
    assert joint_error(walked, walker).mean() < 0.9 * joint_error(few, walker).mean()
    assert walked.residual_m.mean() < few.residual_m.mean()


def test_standing_feet_do_not_slip(walker, walked):
    assert slip_cm_s(walked, walker) <= 1.0


def test_feet_swing_all_the_same(walker, walked):
    for side in ("left", "right"):
        ankle = JOINT_NAMES.index(f"{side}_ankle")
        way = np.linalg.norm(np.diff(walked.joint_pos[:, ankle], axis=0), axis=1).sum()
        true = np.linalg.norm(np.diff(walker.joint_pos[:, ankle], axis=0), axis=1).sum()
        assert way == pytest.approx(true, rel=0.2)


def test_feet_are_free_before_they_are_held(walker, monkeypatch):
    """At the coarse rate a short step looks like standing: the last pass looks at the points before it holds a foot."""
    held: list[float] = []
    monkeypatch.setattr(clip_fit, "_add_planted", lambda *rest: held.append(rest[4]))
    fit_body(seen_by(walker, EYES), 0.0, dataclasses.replace(FAST, free_steps=2), initial=guess(walker))
    assert len(held) == FAST.coarse_iterations + FAST.iterations - 2
    last = np.linspace(clip_fit.COARSE_SHARE, 1, FAST.iterations)
    np.testing.assert_allclose(held[FAST.coarse_iterations :], last[2:])


def test_a_foot_that_lifts_for_a_short_step_is_not_planted():
    """Ten centimetres in 0.3 s, four centimetres high: the middle of it."""
    share = torch.linspace(0, 1, 10)
    soles = torch.zeros(10, 4, 3)
    soles[..., 0], soles[..., 2] = 0.10 * share[:, None], 0.04 * torch.sin(torch.pi * share)[:, None]
    assert planted_soles(soles[..., 2], soles, 30.0, 0.0)[3:6].max() < 0.05


def test_frames_that_nobody_is_seen_in_are_bridged(walker):
    person = seen_by(walker, EYES)
    person.count[12:16] = 0
    person.points[12:16], person.origin[12:16] = 0.0, 0.0
    body = fit_body(person, 0.0, FAST, initial=guess(walker))
    assert not body.residual_m[12:16].any()
    assert joint_error(body, walker)[12:16].mean() < 0.08


def test_who_stands_on_a_step_stands_on_it():
    step = merge([box((0, 0, -0.05), (6, 6, 0.1), (0, 0, 0)), box((0.45, 0.0, 0.1), (0.9, 1.2, 0.2), (0, 0, 0))])
    acted = act(MotionConfig((Segment("stand", 1.6),), start_xy=(0.4, 0.0), fps=FPS), DEFAULT_SHAPE, step)
    up = np.array([0.0, 0.0, 0.2])
    acted = dataclasses.replace(acted, root_pos=acted.root_pos + up, joint_pos=acted.joint_pos + up)
    body = fit_body(seen_by(acted, EYES), 0.0, FAST, scene=static(step), initial=guess(acted))
    assert joint_error(body, acted).mean() < 0.03
    heels = body.joint_pos[:, [JOINT_NAMES.index("left_heel"), JOINT_NAMES.index("right_heel")], 2]
    np.testing.assert_allclose(heels, 0.2, atol=0.02)


class Pull:
    """A term that pulls the left wrist to a place."""

    def __init__(self, target: np.ndarray) -> None:
        self.target, self.frames = torch.as_tensor(target, dtype=torch.float32), set[int]()

    def add(self, equations, motions, state, frames, start):
        self.frames.update(int(frame) for frame in frames)
        wrist = [JOINT_NAMES.index("left_wrist")]
        rows = motions.point_rows(state.joint_pos[:, wrist], JOINT_INFLUENCE[wrist]).flatten(1, 2)
        residual = (state.joint_pos[:, wrist] - self.target[frames][:, None]).flatten(1)
        equations.add(rows, residual, torch.full_like(residual, 400.0), start=start)


def test_a_further_term_adds_to_the_fit(walker, walked):
    wrist = JOINT_NAMES.index("left_wrist")
    target = walked.joint_pos[:, wrist] + [0.0, 0.0, 0.05]
    term = Pull(target)
    body = fit_body(seen_by(walker, EYES), 0.0, FAST, initial=guess(walker), terms=[term])
    assert term.frames == set(range(len(walker.pose)))
    left = np.linalg.norm(body.joint_pos[:, wrist] - target, axis=1)
    assert np.median(left) < 0.025


def test_too_few_frames_are_refused(walker):
    person = seen_by(walker, EYES)
    person.count[9:] = 0
    with pytest.raises(InputError, match="9 frames"):
        fit_body(person, 0.0, FAST)


def placed(height: float) -> tuple[Skin, torch.Tensor, torch.Tensor]:
    """The body with its heels at a height: skin, pose, root."""
    skin = Skin(300)
    pose = torch.tensor([1.0, 0, 0, 0]).repeat(1, 22, 1)
    state, _ = skin.pose(pose, torch.zeros(1, 3), torch.full((5,), 0.5))
    heel = state.joint_pos[0, JOINT_NAMES.index("left_heel"), 2]
    return skin, pose, torch.tensor([[0.0, 0.0, float(height - heel)]])


def lift(height: float, field: SceneField, damping: float = 0.02) -> float:
    skin, pose, root = placed(height)
    state, _ = skin.pose(pose, root, torch.full((5,), 0.5))
    equations = ClipEquations(1, SIZE, 0)
    cost = add_scene(equations, Motions(state), skin, state, field, FitConfig())
    assert float(cost) >= 0
    return float(equations.solve_frames(damping)[0, 2])


def test_sunk_feet_are_lifted_and_feet_in_the_air_put_down():
    assert lift(-0.05, flat_field(0.0)) == pytest.approx(0.05, abs=0.03)
    assert lift(0.04, flat_field(0.0)) < -0.005
    # Who sits or hangs is not pulled to the floor: not against a hundredth of what a frame's points weigh.
    assert abs(lift(0.6, flat_field(0.0), damping=4.0)) < 0.005
    assert lift(0.04, flat_field(0.0), damping=4.0) < -0.01


def test_a_platform_holds_feet_as_the_floor_does():
    mesh = merge([box((0, 0, -0.05), (4, 4, 0.1), (0, 0, 0)), box((0, 0, 0.15), (1, 1, 0.3), (0, 0, 0))])
    field = scene_field(static(mesh), 0.0, np.array([-0.6, -0.6, -0.2]), np.array([0.6, 0.6, 2.2]), 0.03)
    assert lift(0.26, field) > 0.01
    assert lift(0.34, field) < -0.005


def test_planted_soles_are_low_and_slow():
    time = torch.arange(30) / 30
    soles = torch.zeros(30, 4, 3)
    soles[:, 1, 2] = 0.3
    soles[:, 2, 0] = 1.5 * time
    planted = planted_soles(soles[..., 2], soles, 30.0, 0.0)
    assert planted.shape == (29, 4)
    assert planted[:, [0, 3]].min() > 0.99
    assert planted[:, [1, 2]].max() < 0.01


@pytest.mark.parametrize(
    ("up", "standing", "moves"), [((0, 0, 1), 1, True), ((0, 0, 1), 0, False), ((1, 0, 0), 1, False)]
)
def test_the_ball_of_a_foot_whose_heel_stands_comes_to_its_height(up, standing: int, moves: bool):
    """Toes that hang into a hole are lifted; not while the heel is in the air, not beside the side of a step."""
    skin, pose, root = placed(0.0)
    pose[0, JOINT_NAMES.index("left_ankle")] = quat_from_rotvec(torch.tensor([0.0, 0.3, 0.0]))
    shape = torch.full((5,), 0.5)

    def hangs(pose: torch.Tensor, root: torch.Tensor) -> tuple[float, BodyState]:
        state, _ = skin.pose(pose, root, shape)
        soles = state.joint_pos[0, SOLES, 2]
        return float(soles[0] - soles[2]), state

    before, state = hangs(pose, root)
    assert before > 0.03
    equations = ClipEquations(1, SIZE, 0)
    rows = Motions(state).point_rows(state.joint_pos[:, SOLES], JOINT_INFLUENCE[SOLES])
    normal = torch.tensor(up, dtype=torch.float32).expand(1, 4, 3)
    add_flat_feet(equations, state.joint_pos[:, SOLES], rows, normal, torch.full((1, 2), float(standing)), FitConfig())
    after, _ = hangs(*stepped(pose, root, equations.solve_frames(0.02)))
    assert abs(after) < 0.2 * before if moves else after == pytest.approx(before, abs=1e-5)


def test_skin_in_free_space_is_pulled_back_and_hidden_skin_is_not_pulled():
    from perception.clip_fit import Clip, expected
    from perception.fit_terms import add_free_space

    skin, pose, root = placed(0.0)
    state, normals = skin.pose(pose, root, torch.full((5,), 0.5))
    points = skin_of(state)[:, skin_of(state)[0, :, 2] > 0.5].clone()
    eye = torch.tensor([3.0, 0.0, 1.2])
    origin = eye.expand_as(points)
    # A camera that looks along -x and measured a wall: far behind the body, then before it.
    T_world_camera = torch.tensor([[0.0, 0, -1, 3.0], [1, 0, 0, 0], [0, -1, 0, 1.2], [0, 0, 0, 1]])
    K = torch.tensor([[[40.0, 0, 31.5], [0, 40.0, 31.5], [0, 0, 1]]])

    def clip(depth_mm: int) -> Clip:
        depth = torch.full((1, 1, 64, 64), depth_mm, dtype=torch.int16)
        sight = Sight(depth, depth, torch.linalg.inv(T_world_camera)[None, None], K)
        eyes = eyes_of(origin)
        seen = torch.ones(1, dtype=torch.bool)
        return Clip(skin, skin, points, eyes, seen, flat_field(0.0), 30.0, np.arange(1), sight)

    found = match(skin_of(state), normals, points, eyes_of(origin))
    visible, floating = expected(clip(5000), state, normals, found, FitConfig(), 0.05, 0)
    assert floating.min() > 1.0 and visible.any()
    behind, nothing = expected(clip(1500), state, normals, found, FitConfig(), 0.05, 0)
    assert not behind.any() and nothing.max() < 0

    moved = points - torch.tensor([0.1, 0.0, 0.0])
    found = match(skin_of(state), normals, moved, eyes_of(origin))
    equations = ClipEquations(1, SIZE, 0)
    seen = torch.ones(1, dtype=torch.bool)
    add_free_space(equations, Motions(state), skin, state, moved, found, floating, FitConfig(), seen)
    assert float(equations.solve_frames(0.02)[0, 0]) < -0.01


def test_a_key_frame_with_a_limb_gone_astray_is_begun_again(walker):
    keys, first = guess(walker)
    pose = first.pose.clone()
    # Both legs are exchanged: each lies on the other one's points.
    legs = [[i for i, name in enumerate(JOINT_NAMES[:22]) if name.startswith(side) and name[len(side) :] in _LEG]
            for side in ("left", "right")]  # fmt: skip
    at = len(keys) // 2
    turned = torch.tensor([0.0, 0.0, 0.0, 1.0])
    pose[at, 0] = turned
    pose[at, legs[0] + legs[1]] = pose[at, legs[1] + legs[0]]
    body = fit_body(seen_by(walker, EYES), 0.0, FAST, initial=(keys, dataclasses.replace(first, pose=pose)))
    assert joint_error(body, walker).max(axis=1)[keys[at]] < 0.1

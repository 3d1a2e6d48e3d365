"""The fit with a body in SMPL's format: the Anny body, stood up in a T-pose and written as such a file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bodydouble.artifacts import write_json
from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from perception.body.anny_body import AnnyBody
from perception.body.smpl_body import SmplBody
from perception.contacts import ContactConfig, skin_contacts
from perception.fit import FitConfig, FittedBody, fit_body
from perception.initial_pose import InitialPose
from perception.reconstruct import ReconstructConfig, reconstruct
from perception.show import load_shown
from perception.skin import Skin
from perception.synthetic.acting import act
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.room import box
from tests.perception.smpl_samples import write_smpl
from tests.perception.test_fit import EYES, guess, joint_error, seen_by, static

FAST = FitConfig(vertices=300, points=300, coarse_hz=7.5, coarse_iterations=8, iterations=5)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_smpl(tmp_path_factory.mktemp("smpl") / "body.npz")


@pytest.fixture(scope="module")
def body(file) -> SmplBody:
    return SmplBody.load(file)


@pytest.fixture(scope="module")
def walker() -> HumanMotion:
    return act(MotionConfig((Segment("walk", 1.6, 0.8), Segment("stand", 0.4)), fps=15.0), (0.4, 0.5, 0.6, 0.55, 0.5))


@pytest.fixture(scope="module")
def walked(body, walker) -> FittedBody:
    keys, first = guess(walker)
    begin = InitialPose(first.pose, first.root, body.shape_mean, first.confidence)
    return fit_body(seen_by(walker, EYES), 0.0, FAST, initial=(keys, begin), model=body)


def test_the_rest_pose_is_annys_again(body):
    """What the T-pose was straightened by is taken back: the same skin, and poses that mean the same."""
    anny = AnnyBody.load()
    generator = torch.Generator().manual_seed(0)
    pose = torch.nn.functional.normalize(
        torch.tensor([1.0, 0, 0, 0]) + 0.2 * torch.randn(4, 22, 4, generator=generator), dim=-1
    )
    a, b = (x.forward(pose, torch.zeros(4, 3), x.shape_mean) for x in (anny, body))
    assert a.vertices is not None and b.vertices is not None
    assert (a.joint_pos[:, :22] - b.joint_pos[:, :22]).norm(dim=-1).max() < 0.025
    assert (a.vertices - b.vertices).norm(dim=-1).mean() < 0.01


def test_a_walk_is_found(walked, walker, body):
    assert joint_error(walked, walker).mean() < 0.025
    assert walked.residual_m.max() < 0.02
    assert walked.shape.shape == (5,) and np.abs(walked.shape).max() < 5
    angle = 2 * np.arccos(np.clip(np.abs((walked.pose * walker.pose).sum(-1)), 0, 1))
    assert np.median(angle) < 0.2


def test_standing_feet_touch(walked, body, walker):
    floor = static(box((0, 0, -0.05), (8, 8, 0.1), (0, 0, 0)))
    found = skin_contacts(walked.pose, walked.root_pos, walked.shape, 15.0, floor, 0.0, ContactConfig(), None, body)
    assert found.probability[-4:, :2].min() > 0.5
    assert found.probability[:, 2:].max() < 0.3


def test_shape_rows_are_the_derivatives_along_the_normals(body):
    skin = Skin(120, body)
    generator = torch.Generator().manual_seed(1)
    pose = torch.nn.functional.normalize(
        torch.tensor([1.0, 0, 0, 0]) + 0.15 * torch.randn(3, 22, 4, generator=generator), dim=-1
    )
    root, shape = torch.randn(3, 3, generator=generator), torch.tensor([0.4, -0.6, 0.3, 0.5, 0.5])
    state, normals = skin.pose(pose, root, shape)
    rows = skin.shape_rows(state, normals, skin.rest_by_shape(shape))
    for k in range(5):
        change = 0.1 * torch.eye(5)[k]
        ahead, behind = (skin.pose(pose, root, shape + s * change)[0].vertices for s in (1, -1))
        assert ahead is not None and behind is not None
        expected = ((ahead - behind) * normals).sum(-1) / 0.2
        # Where a vertex hangs on two bones the blend is taken twice, which is off by little.
        assert (rows[..., k] - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_body_file_that_cannot_be_used_stops_a_reconstruction_at_once(tmp_path):
    (tmp_path / "recording.mcap").write_bytes(b"")
    with pytest.raises(InputError, match=r"a pickle can run any code"):
        reconstruct(
            tmp_path / "recording.mcap", tmp_path / "out", ReconstructConfig(body=tmp_path / "SMPL_NEUTRAL.pkl")
        )


def test_a_shown_body_is_that_of_the_file(body, file, walker, tmp_path):
    frames = walker.num_frames
    motion = dataclasses.replace(walker, body_model="smpl", shape_names=body.shape_names, shape=np.zeros(5))
    mesh = box((0, 0, -0.05), (4, 4, 0.1), (0, 0, 0))
    static(mesh).save(str(tmp_path / "scene.ply"))
    motion.save(tmp_path / "human.npz")
    np.savez(tmp_path / "cameras.npz", names=np.array(["one"]), one_T_world_camera=np.eye(4)[None])
    write_json(tmp_path / "reconstruction.json", {"provenance": {"config": {"body": str(file)}}})
    shown = load_shown(tmp_path).bodies(np.array([0, frames - 1]))
    assert shown[0].vertices.shape == (body.num_vertices, 3)
    write_json(tmp_path / "reconstruction.json", {"provenance": {"config": {"body": str(tmp_path / "gone.npz")}}})
    with pytest.raises(InputError, match=r"a body of smpl, whose file .*gone"):
        load_shown(tmp_path)

"""A made-up body in SMPL's file format: rest pose, kinematics by hand, SMPL's own equations, damaged files refused."""

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec
from bodydouble.motion import HumanMotion
from perception.body.anny_body import CONTACT_NAMES, JOINT_NAMES, AnnyBody
from perception.body.anny_data import BONE_NAMES
from perception.body.body_model import BodyModel
from perception.body.carry import carry
from perception.body.smpl_body import SmplBody, poses_to_smpl
from perception.body.smpl_file import SMPL_NAMES, read_smpl

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
# SMPL's axes: x to the left, y up, z forward. A person in a T-pose, left half; the last joint is the hand.
_MIDDLE = {"pelvis": (0, -0.2, 0), "spine1": (0, -0.1, -0.02), "spine2": (0, 0.05, -0.02), "spine3": (0, 0.1, 0.0),
           "neck": (0, 0.3, -0.03), "head": (0, 0.4, 0.02)}  # fmt: skip
_LEFT = {"hip": (0.07, -0.3, 0), "knee": (0.1, -0.7, 0.01), "ankle": (0.09, -1.1, -0.03), "foot": (0.12, -1.16, 0.09),
         "collar": (0.08, 0.2, -0.02), "shoulder": (0.18, 0.24, -0.03), "elbow": (0.44, 0.23, -0.05),
         "wrist": (0.69, 0.24, -0.05), "hand": (0.77, 0.235, -0.06)}  # fmt: skip


def joints_of_smpl() -> np.ndarray:
    out = []
    for name in (*SMPL_NAMES, "left_hand", "right_hand"):
        side, _, part = name.partition("_")
        out.append(np.array(_LEFT[part]) * ((-1, 1, 1) if side == "right" else 1) if part else _MIDDLE[name])
    return np.array(out)


def made_up(joints: int = 24, posed: bool = True) -> dict[str, np.ndarray]:
    """A box of eight vertices around each joint, all joined to one skin; a joint is the middle of its box."""
    rng = np.random.default_rng(0)
    places, parents = joints_of_smpl()[:22], list(PARENTS[:22])
    if joints == 24:
        places, parents = joints_of_smpl(), list(PARENTS)
    else:
        fingers = 15
        extra = [(15, (0, 0.02, 0.05))] * (joints - 22 - 2 * fingers)
        for wrist, side in ((20, 1), (21, -1)):
            extra += [(wrist, (0.08 * side, 0, 0.01 * finger)) for finger in range(fingers)]
        places = np.concatenate([places, [places[parent] + offset for parent, offset in extra]])
        parents += [parent for parent, _ in extra]
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * (0.02, 0.025, 0.03)
    vertices = (places[:, None] + corner).reshape(-1, 3)
    box = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                    [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
    faces = [box + 8 * joint for joint in range(joints)]
    faces.append(np.array([[8 * joint, 8 * parents[joint], 8 * parents[joint] + 1] for joint in range(1, joints)]))
    weights = np.zeros((8 * joints, joints))
    for joint in range(joints):
        weights[8 * joint : 8 * joint + 8, joint] = 1.0
        if joint and joint not in (7, 8, 10, 11, 15):  # Soles and crown stay with their bones.
            weights[8 * joint : 8 * joint + 3, [joint, parents[joint]]] = (0.7, 0.3)
    table = np.array([[2**32 - 1, *parents[1:]], list(range(joints))], dtype=np.uint32)
    model = {
        "v_template": vertices,
        "shapedirs": 0.01 * rng.normal(size=(len(vertices), 3, 12)),
        "J_regressor": np.kron(np.eye(joints), np.full((1, 8), 1 / 8)),
        "weights": weights,
        "kintree_table": table,
        "f": np.concatenate(faces).astype(np.uint32),
    }
    return model | ({"posedirs": 0.01 * rng.normal(size=(len(vertices), 3, 9 * (joints - 1)))} if posed else {})


def written(folder: Path, model: dict[str, Any], name: str = "model.npz") -> Path:
    np.savez(folder / name, **model)
    return folder / name


@pytest.fixture(scope="module")
def model() -> dict[str, np.ndarray]:
    return made_up()


@pytest.fixture(scope="module")
def body(model, tmp_path_factory) -> SmplBody:
    return SmplBody.load(written(tmp_path_factory.mktemp("smpl"), model), dtype=torch.float64)


def identity(frames: int = 1) -> torch.Tensor:
    return torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).repeat(frames, len(BONE_NAMES), 1)


def random_pose(frames: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return quat_from_rotvec(0.5 * torch.randn(frames, len(BONE_NAMES), 3, generator=generator, dtype=torch.float64))


def joint(state, name: str) -> np.ndarray:
    return state.joint_pos[0, JOINT_NAMES.index(name)].numpy()


def zeros(frames: int = 1) -> torch.Tensor:
    return torch.zeros(frames, 3, dtype=torch.float64)


def direction(state, start: str, end: str) -> np.ndarray:
    way = joint(state, end) - joint(state, start)
    return way / np.linalg.norm(way)


def rotation(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula, for the oracle below."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / max(angle, 1e-12)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def smpl(model: dict, betas: np.ndarray, orient: np.ndarray, pose: np.ndarray, transl: np.ndarray):
    """Vertices and joints of one frame by SMPL's published equations, joint by joint, in the file's own order."""
    shaped = model["v_template"] + model["shapedirs"][:, :, : len(betas)] @ betas
    places, parents = model["J_regressor"] @ shaped, model["kintree_table"][0].astype(np.int64)
    turns = np.tile(np.eye(3), (len(places), 1, 1))
    turns[0] = rotation(orient)
    for k, vector in enumerate(pose.reshape(-1, 3)):
        turns[k + 1] = rotation(vector)
    if "posedirs" in model:
        shaped = shaped + model["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    world = np.tile(np.eye(4), (len(places), 1, 1))
    for k in range(len(places)):
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = turns[k], places[k] - (places[parents[k]] if k else 0)
        world[k] = world[parents[k]] @ step if k else step
    skinned = world.copy()
    skinned[:, :3, 3] -= (world[:, :3, :3] @ places[..., None])[..., 0]
    blend = np.einsum("vk,kij->vij", model["weights"], skinned)
    vertices = (blend[:, :3, :3] @ shaped[..., None])[..., 0] + blend[:, :3, 3]
    return vertices + transl, world[:, :3, 3] + transl


def motion_of(body: SmplBody, pose: torch.Tensor, root: torch.Tensor, shape: torch.Tensor) -> HumanMotion:
    state = body.forward(pose, root, shape, with_vertices=False)
    frames, parts = len(pose), len(CONTACT_NAMES)
    return HumanMotion(
        times_ns=np.arange(frames, dtype=np.int64) * 10**8,
        joint_names=JOINT_NAMES,
        joint_pos=state.joint_pos.numpy(),
        joint_quat=state.joint_quat.numpy(),
        contact_names=CONTACT_NAMES,
        contact=np.zeros((frames, parts)),
        contact_pos=np.zeros((frames, parts, 3)),
        body_model=body.name,
        shape_names=body.shape_names,
        shape=shape.numpy(),
        pose=pose.numpy(),
        root_pos=root.numpy(),
    )


def test_both_bodies_give_what_the_fit_needs(body):
    anny = AnnyBody.load()
    models: list[BodyModel] = [anny, body]
    for one in models:
        size = len(one.shape_names)
        assert one.shape_mean.shape == one.shape_low.shape == one.shape_high.shape == (size,)
        assert (one.shape_low < one.shape_mean).all() and (one.shape_mean < one.shape_high).all()
        state = one.forward(identity(2).to(one.dtype), zeros(2).to(one.dtype), one.shape_mean)
        assert state.vertices is not None and state.vertices.shape == (2, one.num_vertices, 3)
        assert state.joint_pos.shape == (2, len(JOINT_NAMES), 3) and state.joint_pos.dtype == one.dtype
    assert body.name == "smpl" and body.shape_names == tuple(f"beta{i}" for i in range(10))


def test_zero_pose_lays_the_limbs_along_annys(body):
    anny = AnnyBody.load(dtype=torch.float64)
    rested, wanted = (b.forward(identity(), zeros(), b.shape_mean) for b in (body, anny))
    assert rested.vertices is not None
    limbs = [("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"), ("hip", "knee"), ("knee", "ankle")]
    for side in ("left", "right"):
        for start, end in limbs:
            pair = f"{side}_{start}", f"{side}_{end}"
            np.testing.assert_allclose(direction(rested, *pair), direction(wanted, *pair), atol=1e-6)
    assert joint(rested, "head_top")[2] > joint(rested, "head")[2] > joint(rested, "left_ankle")[2]
    assert joint(rested, "left_wrist")[1] > joint(rested, "right_wrist")[1]
    assert joint(rested, "left_toe")[0] > joint(rested, "left_heel")[0]
    rest = body.rest(body.shape_mean)
    pelvis = rest.joint_pos[0]
    np.testing.assert_allclose(rested.vertices[0], rest.vertices - pelvis, atol=1e-9)
    np.testing.assert_allclose(rested.joint_pos[0], rest.joint_pos - pelvis, atol=1e-9)


def test_trunk_and_soles_keep_smpls_stance(body):
    rest = body.rest(body.shape_mean)
    own = joints_of_smpl()[:, [2, 0, 1]]
    for name in ("spine1", "spine2", "spine3", "neck", "head", "left_collar", "right_shoulder"):
        offset = rest.joint_pos[BONE_NAMES.index(name)] - rest.joint_pos[0]
        np.testing.assert_allclose(offset, own[SMPL_NAMES.index(name)] - own[0], atol=1e-9, err_msg=name)
    ankle, toe = (rest.joint_pos[BONE_NAMES.index(f"left_{part}")] for part in ("ankle", "toe"))
    assert float(toe[2] - ankle[2]) == pytest.approx(-0.06)


def test_an_elbow_turns_the_forearm_by_hand(body):
    pose = identity()
    pose[0, BONE_NAMES.index("left_elbow")] = quat_from_rotvec(torch.tensor([0.0, 0.0, math.pi / 2])).double()
    straight, bent = (body.forward(p, zeros(), body.shape_mean) for p in (identity(), pose))
    x, y, z = joint(straight, "left_wrist") - joint(straight, "left_elbow")
    np.testing.assert_allclose(
        joint(bent, "left_wrist"), joint(straight, "left_elbow") + np.array([-y, x, z]), atol=1e-6
    )
    x, y, z = joint(straight, "left_hand") - joint(straight, "left_elbow")
    np.testing.assert_allclose(
        joint(bent, "left_hand"), joint(straight, "left_elbow") + np.array([-y, x, z]), atol=1e-6
    )
    forearm = [JOINT_NAMES.index(name) for name in ("left_wrist", "left_hand")]
    others = np.setdiff1d(np.arange(len(JOINT_NAMES)), forearm)
    np.testing.assert_allclose(bent.joint_pos[0, others], straight.joint_pos[0, others], atol=1e-9)


def test_a_turned_pelvis_turns_everything(body):
    pose = identity()
    pose[0, 0] = quat_from_rotvec(torch.tensor([0.0, 0.0, math.pi / 2])).double()
    root = torch.tensor([[1.0, 2.0, 0.9]], dtype=torch.float64)
    straight, turned = body.forward(identity(), zeros(), body.shape_mean), body.forward(pose, root, body.shape_mean)
    x, y, z = straight.vertices[0].T
    np.testing.assert_allclose(turned.vertices[0], torch.stack([-y, x, z], 1) + root, atol=1e-6)


@pytest.mark.parametrize(("joints", "posed"), [(24, True), (24, False), (52, True), (55, True)])
def test_smpls_own_equations_give_the_same_body(tmp_path, joints, posed):
    model = made_up(joints, posed)
    body = SmplBody.load(written(tmp_path, model), dtype=torch.float64)
    assert body.name == {24: "smpl", 52: "smplh", 55: "smplx"}[joints]
    pose, root = random_pose(3, 1), torch.tensor([[1.0, -2.0, 0.9]] * 3, dtype=torch.float64)
    shape = torch.linspace(-1, 2, 10, dtype=torch.float64)
    state = body.forward(pose, root, shape)
    assert state.vertices is not None
    out = poses_to_smpl(motion_of(body, pose, root, shape), body)
    assert out["body_pose"].shape == (3, 69 if joints == 24 else 63)
    for frame in range(3):
        vertices, places = smpl(
            model, out["betas"], out["global_orient"][frame], out["body_pose"][frame], out["transl"][frame]
        )
        np.testing.assert_allclose(state.vertices[frame], vertices, atol=1e-9)
        for k, name in enumerate(SMPL_NAMES):
            bone = BONE_NAMES.index(name.replace("foot", "toe"))
            np.testing.assert_allclose(state.joint_pos[frame, bone], places[k], atol=1e-9, err_msg=name)
        hand = places[{24: 22, 52: 25, 55: 28}[joints]]
        np.testing.assert_allclose(state.joint_pos[frame, JOINT_NAMES.index("left_hand")], hand, atol=1e-9)


def test_subset_rest_and_shapes_per_frame_agree(body):
    index = body.sample_vertices(60, seed=3)
    pose, root = random_pose(3, 2), zeros(3)
    shapes = torch.randn(3, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole, part = body.forward(pose, root, shapes), body.subset(index).forward(pose, root, shapes)
    torch.testing.assert_close(whole.vertices[:, index], part.vertices)
    torch.testing.assert_close(whole.joint_pos, part.joint_pos)
    for frame in range(3):
        alone = body.forward(pose[frame : frame + 1], root[:1], rest=body.rest(shapes[frame]))
        torch.testing.assert_close(whole.vertices[frame], alone.vertices[0])
    with pytest.raises(InputError, match="no faces"):
        body.subset(index).outer_vertices()
    assert len(body.outer_vertices()) == body.num_vertices


def test_wrong_arguments_are_refused(body):
    anny = AnnyBody.load(dtype=torch.float64)
    with pytest.raises(InputError, match="another body"):
        body.forward(identity(), zeros(), rest=anny.rest(anny.shape_mean))
    with pytest.raises(InputError, match="another body"):
        body.forward(identity(), zeros(), rest=body.subset(np.arange(5)).rest(body.shape_mean))
    with pytest.raises(InputError, match="either shape or rest"):
        body.forward(identity(), zeros())
    with pytest.raises(InputError, match="expected \\(B, 22, 4\\)"):
        body.forward(identity()[:, :5], zeros(), body.shape_mean)
    with pytest.raises(InputError, match="expected 10"):
        body.rest(torch.zeros(5))


def test_a_body_is_carried_to_another_model(body):
    anny = AnnyBody.load(dtype=torch.float64)
    pose, root = random_pose(3, 4), torch.ones(3, 3, dtype=torch.float64)
    placed, shape = carry(pose, root, anny.shape_mean, anny, body)
    a, b = anny.forward(pose, root, anny.shape_mean), body.forward(pose, placed, shape)
    hips = [JOINT_NAMES.index("left_hip"), JOINT_NAMES.index("right_hip")]
    torch.testing.assert_close(a.joint_pos[:, hips].mean(1), b.joint_pos[:, hips].mean(1))

    def error(of: torch.Tensor) -> float:
        pairs = [("left_hip", "left_knee"), ("right_knee", "right_ankle"), ("left_shoulder", "left_elbow")]
        ends = [[JOINT_NAMES.index(name) for name in side] for side in zip(*pairs, strict=True)]
        one, other = (
            (j[ends[0]] - j[ends[1]]).norm(dim=-1)
            for j in (anny.rest(anny.shape_mean).joint_pos, body.rest(of).joint_pos)
        )
        return float((one - other).abs().mean())

    assert error(shape) < 0.6 * error(body.shape_mean)
    same_root, same_shape = carry(pose, root, body.shape_mean, body, body)
    torch.testing.assert_close(same_root, root)
    torch.testing.assert_close(same_shape, body.shape_mean)


def test_a_motion_of_another_body_is_not_exported(body):
    motion = motion_of(body, identity(), zeros(), body.shape_mean)
    object.__setattr__(motion, "body_model", "anny")
    with pytest.raises(InputError, match="of body anny"):
        poses_to_smpl(motion, body)


def test_pickles_are_refused_with_the_way_to_convert(tmp_path, model):
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({"v_template": model["v_template"]}))
    with pytest.raises(InputError, match=r"np\.savez.*toarray") as error:
        read_smpl(path)
    assert "\n" not in str(error.value)
    path.rename(tmp_path / "renamed.npz")
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        read_smpl(tmp_path / "renamed.npz")


def changed(model: dict, name: str, value: Any) -> dict:
    return model | {name: value}


def with_entry(array: np.ndarray, index: tuple, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {k: v for k, v in m.items() if k != "weights"}, "lacks weights"),
        (lambda m: changed(m, "v_template", with_entry(m["v_template"], (3, 1), np.nan)), "v_template holds NaN"),
        (lambda m: changed(m, "posedirs", with_entry(m["posedirs"], (0, 0, 0), np.inf)), "posedirs holds NaN"),
        (lambda m: changed(m, "weights", m["weights"][:, :20]), r"weights has shape \(192, 20\), expected \(192, 24\)"),
        (lambda m: changed(m, "posedirs", m["posedirs"][..., :9]), r"posedirs has shape"),
        (lambda m: changed(m, "v_template", np.float64(1.0)), "v_template has 0 vertices"),
        (lambda m: changed(m, "J_regressor", m["J_regressor"][:20]), r"20 rows, expected 24 \(smpl\), 52"),
        (lambda m: changed(m, "J_regressor", 2 * m["J_regressor"]), "do not add up to 1"),
        (lambda m: changed(m, "J_regressor", np.array({"sparse": 1}, dtype=object)), r"pickled object.*toarray"),
        (lambda m: changed(m, "shapedirs", np.array([None, 1], dtype=object)), "pickled object"),
        (lambda m: changed(m, "shapedirs", m["shapedirs"][..., :0]), "no shape directions"),
        (lambda m: changed(m, "weights", 0.5 * m["weights"]), "add up to 0.5"),
        (lambda m: changed(m, "weights", np.tile(np.eye(24)[0], (192, 1))), "no vertex belongs to"),
        (lambda m: changed(m, "f", m["f"] + 7), "f names vertices 7 to 198, there are 192"),
        (lambda m: changed(m, "f", m["f"].astype(float)), "f holds float64, expected whole numbers"),
        (lambda m: changed(m, "weights", np.full((192, 24), "a")), "weights holds"),
        (lambda m: changed(m, "v_template", 1000 * m["v_template"]), "metres"),
        (lambda m: changed(m, "v_template", 0.2 * m["v_template"]), "metres"),
        (lambda m: changed(m, "v_template", m["v_template"][:, [0, 2, 1]]), "y up, z forward"),
        (lambda m: changed(m, "kintree_table", with_entry(m["kintree_table"], (0, 18), 4)),
         "left_elbow .joint 18. hangs off left_knee, expected left_shoulder"),
        (lambda m: changed(m, "kintree_table", with_entry(m["kintree_table"], (0, 23), 999)), "joint 23 hangs off"),
        (lambda m: changed(m, "kintree_table", m["kintree_table"][:, ::-1]), "another order"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_smpl_model_is_refused(tmp_path, model, change, message):
    with pytest.raises(InputError, match=message) as error:
        read_smpl(written(tmp_path, change(model)))
    assert "\n" not in str(error.value)


def test_a_header_that_claims_more_than_the_file_has_takes_no_memory(tmp_path, model):
    path = written(tmp_path, {k: v for k, v in model.items() if k != "v_template"})
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("v_template.npy", header.getvalue())
    with pytest.raises(InputError, match="v_template claims 24000000000000 bytes"):
        read_smpl(path)


def test_a_cut_file_and_a_missing_one_are_refused(tmp_path, model):
    path = written(tmp_path, model)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        read_smpl(path)
    with pytest.raises(InputError, match="no such file"):
        read_smpl(tmp_path / "none.npz")


def test_other_pickled_members_are_not_touched(tmp_path, model):
    extra = np.array({"joint": 1}, dtype=object)
    assert read_smpl(written(tmp_path, model | {"joint2num": extra})).name == "smpl"

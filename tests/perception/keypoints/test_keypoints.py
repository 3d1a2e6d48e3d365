"""Keypoints from outside: the file, the ONNX detector, and what they do to a body."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bodydouble.errors import InputError
from bodydouble.frames import quat_from_rotvec, quat_mul
from bodydouble.recording import RecordingWriter
from perception.body.anny_body import JOINT_NAMES, AnnyBody
from perception.body.jacobian import SIZE, Motions, stepped
from perception.body.limits import REST_POSTURE
from perception.clip_solver import ClipEquations
from perception.keypoints.detector import KeypointDetector, detect_recording
from perception.keypoints.file import ARRAYS, COCO_FACE, Keypoints, load_keypoints
from perception.keypoints.term import KeypointConfig, ReprojectionTerm, read_keypoints
from perception.views import View

K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
LIMBS = tuple(
    f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
STEP = 33_333_333
T = 8


def look(eye: tuple[float, float, float], at: tuple[float, float, float] = (0, 0, 1)) -> np.ndarray:
    """Return T_world_camera (4, 4) of a camera that looks at a place, z up."""
    forward = np.subtract(at, eye) / np.linalg.norm(np.subtract(at, eye))
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    out[:3, 3] = eye
    return out


def view(name: str, eye: tuple[float, float, float], frames: int = T) -> View:
    times = np.arange(frames, dtype=np.int64) * STEP
    poses = np.tile(look(eye), (frames, 1, 1))
    return View(name, K, times, poses, np.zeros((frames, 2, 2), np.uint16), [None] * frames)


def project(points: np.ndarray, camera: View) -> np.ndarray:
    """Return pixels (T, J, 2) of points (T, J, 3)."""
    local = np.einsum("tij,tkj->tki", np.linalg.inv(camera.T_world_camera)[:, :3, :3], points)
    local = local + np.linalg.inv(camera.T_world_camera)[:, None, :3, 3]
    return local[..., :2] / local[..., 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]


@torch.no_grad()
def test_two_noisy_views_pull_a_displaced_body_back() -> None:
    rng = np.random.default_rng(0)
    body = AnnyBody.load()
    shape = torch.full((5,), 0.5)
    pose = torch.as_tensor(REST_POSTURE, dtype=torch.float32).repeat(T, 1, 1)
    root = torch.tensor([0.0, 0.0, 0.95]).repeat(T, 1) + torch.arange(T)[:, None] * torch.tensor([0.02, 0.0, 0.0])
    true = body.forward(pose, root, shape, with_vertices=False).joint_pos
    views = [view("one", (3.0, 0.5, 1.4)), view("two", (0.5, 3.0, 1.4))]
    index = [JOINT_NAMES.index(name) for name in LIMBS]
    offset = {"one": 0, "two": 213_000_000}
    found = []
    for camera in views:
        pixels = project(true[:, index].double().numpy(), camera) + rng.normal(0, 2, (T, len(index), 2))
        confidence = np.ones((T, len(index)))
        pixels[2, 1], confidence[2, 1] = np.nan, 0.0  # not seen
        pixels[3, 4] += 300.0  # seen wrongly: the robust weight has to hold it
        found.append(Keypoints(camera.name, camera.times_ns + offset[camera.name], LIMBS, pixels, confidence))
    term = ReprojectionTerm(found, views, views[0].times_ns, offset, KeypointConfig(reach_m=0.3))
    turn = quat_from_rotvec(torch.as_tensor(rng.normal(0, 0.15, (T, 22, 3)), dtype=torch.float32))
    moved, at = quat_mul(turn, pose), root + torch.tensor([0.15, -0.1, 0.08])
    errors = []
    for _ in range(12):
        state = body.forward(moved, at, shape, with_vertices=False)
        errors.append(float((state.joint_pos - true)[:, index].norm(dim=-1).mean()))
        equations = ClipEquations(T, SIZE, 0)
        term.add(equations, Motions(state), state, np.arange(T), 0)
        moved, at = stepped(moved, at, equations.solve_frames(0.5).clamp(-0.2, 0.2))
    assert errors[0] > 0.15
    # 2 px at 3 m and f = 500 px are 12 mm in each of two directions of each view.
    assert errors[-1] < 0.025
    assert float((state.joint_pos - true)[3, index[4]].norm()) < 0.12


def test_derivatives_are_those_of_the_residual() -> None:
    body = AnnyBody.load()
    views = [view("one", (3.0, 0.5, 1.4))]
    pixels = np.full((T, 2, 2), 300.0)
    keypoints = Keypoints("one", views[0].times_ns, ("left_wrist", "right_knee"), pixels, np.ones((T, 2)))
    # Almost square: the robust weight does not bend what is compared.
    term = ReprojectionTerm([keypoints], views, views[0].times_ns, None, KeypointConfig(reach_m=1e3))
    taken: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Taken(ClipEquations):
        def add(self, rows: torch.Tensor, residual: torch.Tensor, *_: object, **__: object) -> None:
            taken.append((rows, residual))

    pose, root = torch.as_tensor(REST_POSTURE)[None].double(), torch.tensor([[0.1, 0.0, 0.9]], dtype=torch.float64)
    body = AnnyBody.load(dtype=torch.float64)
    shape = torch.full((5,), 0.5, dtype=torch.float64)
    term._sightings = [
        type(s)(s.joints, *(t.double() for t in (s.rays, s.confidence, s.rotation, s.shift))) for s in term._sightings
    ]

    def evaluate(step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        state = body.forward(*stepped(pose, root, step), shape, with_vertices=False)
        term.add(Taken(1, SIZE, 0), Motions(state), state, np.arange(1), 0)
        depth = (state.joint_pos[:, term._sightings[0].joints] - torch.as_tensor(views[0].T_world_camera[0, :3, 3])) @ (
            torch.as_tensor(views[0].T_world_camera[0, :3, 2])
        )
        return *taken.pop(), depth

    rows, residual, depth = evaluate(torch.zeros(1, SIZE, dtype=torch.float64))
    step = 1e-6 * torch.as_tensor(np.random.default_rng(1).normal(size=(1, SIZE)))
    _, after, new_depth = evaluate(step)
    # The depth is held: compare the rays, at the first depth.
    change = after / new_depth.repeat_interleave(2, dim=1) - residual / depth.repeat_interleave(2, dim=1)
    torch.testing.assert_close(
        change * depth.repeat_interleave(2, dim=1), (rows @ step[0])[:, :], rtol=1e-4, atol=1e-11
    )


def sample(**changes: object) -> dict:
    base = {
        "camera": np.array("one"),
        "times_ns": np.arange(3, dtype=np.int64),
        "joint_names": np.array([*COCO_FACE, "left_knee"]),
        "pixels": np.zeros((3, 6, 2), np.float32),
        "confidence": np.ones((3, 6), np.float32),
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def test_file_round_trip(tmp_path: Path) -> None:
    keypoints = Keypoints(**{**sample(), "camera": "one", "joint_names": (*COCO_FACE, "left_knee")})
    keypoints.save(tmp_path / "one.npz")
    got = load_keypoints(tmp_path / "one.npz")
    assert (got.camera, got.joint_names) == ("one", (*COCO_FACE, "left_knee"))
    assert got.body_joints() == ([5], [JOINT_NAMES.index("left_knee")])
    np.testing.assert_array_equal(got.times_ns, keypoints.times_ns)
    assert len(read_keypoints(tmp_path, tmp_path)) == 1
    keypoints.save(tmp_path / "two.npz")
    with pytest.raises(InputError, match="two files are of the same camera"):
        read_keypoints(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"joint_names": np.array([*COCO_FACE, "left_nee"])}, "joint 'left_nee' is not known.*left_knee"),
        ({"joint_names": np.array(["nose"] * 5 + ["left_knee"])}, "twice"),
        ({"joint_names": np.array(COCO_FACE), "pixels": np.zeros((3, 5, 2))}, "no joint of the body"),
        ({"pixels": np.zeros((3, 6, 3))}, r"pixels is float64 \(3, 6, 3\), expected float \(3, 6, 2\)"),
        ({"pixels": np.full((3, 6, 2), np.nan)}, "no finite pixel"),
        ({"confidence": np.full((3, 6), 2.0)}, "confidence lies outside 0 to 1"),
        ({"confidence": np.full((3, 6), np.nan)}, "confidence lies outside 0 to 1"),
        ({"times_ns": np.zeros(3, np.int64)}, "rise"),
        ({"times_ns": np.zeros((3, 1), np.int64)}, "expected \\(F,\\)"),
        ({"confidence": None}, "holds no array 'confidence'; expected camera"),
        ({"camera": np.array(3)}, "camera must be a text"),
        ({"camera": np.array([{"a": 1}], dtype=object)}, "array 'camera' is damaged"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, changes: dict, match: str) -> None:
    np.savez(tmp_path / "one.npz", **sample(**changes), allow_pickle=True)
    with pytest.raises(InputError, match=f"one.npz: .*{match}"):
        load_keypoints(tmp_path / "one.npz")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_keypoints(tmp_path / "none.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(InputError, match="no complete zip"):
        load_keypoints(tmp_path / "x.npz")
    assert len(ARRAYS) == 5


def test_camera_or_time_that_is_not_there() -> None:
    base = sample()
    keypoints = Keypoints("moon", base["times_ns"], (*COCO_FACE, "left_knee"), base["pixels"], base["confidence"])
    one = view("one", (3, 0, 1))
    with pytest.raises(InputError, match="keypoints of camera 'moon': the recording's cameras are one"):
        ReprojectionTerm([keypoints], [one], one.times_ns)
    late = Keypoints("one", base["times_ns"] + 10**12, (*COCO_FACE, "left_knee"), base["pixels"], base["confidence"])
    with pytest.raises(InputError, match="none falls on a time of the person"):
        ReprojectionTerm([late], [one], one.times_ns)


def brightest(names: object, height: int = 24, width: int = 32, output: str = "keypoints") -> onnx.ModelProto:
    """A detector of one keypoint: the centre of mass of the red channel, its score the mean red."""
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), (1, 1, height, width))
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (1, 1, height, width))
    constants = {
        "columns": columns, "rows": rows, "axes": np.array([1, 2, 3]), "tiny": np.array(1e-9, np.float32),
        "begin": np.array([0]), "end": np.array([1]), "one": np.array([1]), "shape": np.array([1, 1, 3]),
        "share": np.array(0.01, np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Slice", ["image", "begin", "end", "one"], ["red"]),
        node("ReduceSum", ["red", "axes"], ["sum"], keepdims=0),
        node("Add", ["sum", "tiny"], ["safe"]),
        node("Mul", ["red", "columns"], ["xs"]),
        node("ReduceSum", ["xs", "axes"], ["x_sum"], keepdims=0),
        node("Div", ["x_sum", "safe"], ["x"]),
        node("Mul", ["red", "rows"], ["ys"]),
        node("ReduceSum", ["ys", "axes"], ["y_sum"], keepdims=0),
        node("Div", ["y_sum", "safe"], ["y"]),
        node("Mul", ["sum", "share"], ["score"]),
        node("Concat", ["x", "y", "score"], ["flat"], axis=0),
        node("Reshape", ["flat", "shape"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 1, 3])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names is not None:
        helper.set_model_props(model, {"joint_names": names if isinstance(names, str) else json.dumps(names)})
    return model


def test_detector_finds_pixels_of_the_image(tmp_path: Path) -> None:
    onnx.save(brightest(["left_wrist"]), tmp_path / "detector.onnx")
    detector = KeypointDetector(tmp_path / "detector.onnx")
    image = np.zeros((96, 64, 3), np.uint8)  # tall: padded at the right
    image[40:56, 16:24, 0] = 255
    pixels, score = detector.detect(image)
    np.testing.assert_allclose(pixels, [[19.5, 47.5]], atol=0.6)
    assert 0 < score[0] <= 1
    _, score = detector.detect(np.zeros_like(image))
    assert score[0] == 0


def test_detector_on_a_recording(tmp_path: Path) -> None:
    onnx.save(brightest(["left_wrist"]), tmp_path / "detector.onnx")
    with RecordingWriter(tmp_path / "r.mcap") as writer:
        writer.write_camera_info("cam", K, 64, 48, 0)
        for i in range(3):
            image = np.zeros((48, 64, 3), np.uint8)
            image[16:32, 8 + 8 * i : 16 + 8 * i, 0] = 255
            writer.write_color("cam", image, i * STEP)
            writer.write_depth("cam", np.full((48, 64), 1000, np.uint16), i * STEP)
    (found,) = read_keypoints(tmp_path / "detector.onnx", tmp_path / "r.mcap")
    assert found.camera == "cam" and found.times_ns.tolist() == [0, STEP, 2 * STEP]
    np.testing.assert_allclose(found.pixels[:, 0, 0], [11.5, 19.5, 27.5], atol=1.5)
    with RecordingWriter(tmp_path / "gray.mcap") as writer:
        writer.write_camera_info("cam", K, 64, 48, 0)
        writer.write_depth("cam", np.full((48, 64), 1000, np.uint16), 0)
    with pytest.raises(InputError, match="no camera has colour"):
        list(detect_recording(tmp_path / "gray.mcap", KeypointDetector(tmp_path / "detector.onnx")))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (brightest(None), "joint_names is ''"),
        (brightest("[1]"), "expected a JSON list of names"),
        (brightest(["left_nee"]), "joint 'left_nee' is not known"),
        (brightest(["left_knee"], output="points"), "outputs are points, expected keypoints"),
    ],
)
def test_models_that_are_no_detector(tmp_path: Path, model: onnx.ModelProto, match: str) -> None:
    onnx.save(model, tmp_path / "d.onnx")
    with pytest.raises(InputError, match=match):
        KeypointDetector(tmp_path / "d.onnx")


def test_detector_of_another_shape(tmp_path: Path) -> None:
    onnx.save(brightest(["left_knee", "right_knee"]), tmp_path / "d.onnx")
    with pytest.raises(InputError, match=r"keypoints of \(1, 1, 3\), expected \(1, 2, 3\)"):
        KeypointDetector(tmp_path / "d.onnx").detect(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "bad.onnx").write_bytes(b"hello")
    with pytest.raises(InputError, match="is no ONNX model"):
        KeypointDetector(tmp_path / "bad.onnx")

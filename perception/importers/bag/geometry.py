"""What has to be done to a camera's images so that depth and colour share one ideal pinhole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from bodydouble.frames import make_se3, quat_to_matrix, wxyz_from_xyzw
from bodydouble.recording.transforms import TransformTree
from perception.importers.bag.cameras import CameraChoice, says_registered
from perception.importers.bag.distortion import Undistortion
from perception.importers.bag.poses import relative
from perception.importers.bag.registration import Registration
from perception.importers.bag.survey import ImageTopic, InfoTopic
from perception.importers.color_image import scale_intrinsics
from perception.importers.source_files import check_intrinsics

DISTORTION_CHOICES = ("undistort", "ignore")
_DISTORTION_TOLERANCE = 1e-6
_SAME_K = 0.004
"""Focal lengths and centres that differ by less than this share of the focal length belong to one camera."""
_MAX_ASPECT_ERROR = 0.02


@dataclass(frozen=True)
class GeometryOptions:
    """What the user said of the cameras' geometry."""

    intrinsics: tuple[float, float, float, float] | None = None
    registered: bool = False
    extrinsic: tuple[float, ...] | None = None
    distortion: str = ""


@dataclass(frozen=True, eq=False)
class CameraGeometry:
    """How one camera's images become those of one pinhole."""

    K: np.ndarray
    """(3, 3) of the recording's images."""
    size: tuple[int, int]
    """Their width and height, pixels."""
    frame_id: str
    """Frame whose pose is the camera's."""
    undistort_depth: Undistortion | None
    undistort_color: Undistortion | None
    registration: Registration | None
    """Moves depth into the colour camera; None where it is there already."""
    notes: tuple[str, ...]


def plan_geometry(choice: CameraChoice, tree: TransformTree, options: GeometryOptions) -> CameraGeometry:
    """Return what a camera's images need.

    Args:
        choice: The camera's topics.
        tree: The bag's transforms.
        options: What the user said.

    Raises:
        InputError: Intrinsics or the transform between the two cameras are missing, or images are distorted and the
            user did not say what to do.
    """
    notes: list[str] = []
    depth, color = choice.depth, choice.color
    info = choice.info
    one_view = color is not None and (color.frame_id == depth.frame_id or options.registered)
    if info is None and options.intrinsics is None and color is not None and one_view and color.size == depth.size:
        info = choice.color_info
        if info is not None:
            notes.append(f"{depth.name} has no camera_info; that of the colour images is taken")
    K, bend = _pinhole(depth, info, options, notes)
    if color is None:
        return CameraGeometry(K, depth.size, depth.frame_id, bend, None, None, tuple(notes))
    color_K, color_bend = None, None
    if choice.color_info is not None:
        color_K, color_bend = _pinhole(color, choice.color_info, GeometryOptions(distortion=options.distortion), notes)
    if _is_registered(choice, K, color_K, options, notes):
        _check_aspect(depth, color)
        if color.size != depth.size:
            notes.append(
                "{}: colour is brought to the size of the depth images, {} x {}".format(color.name, *depth.size)
            )
        return CameraGeometry(K, depth.size, depth.frame_id, bend, color_bend, None, tuple(notes))
    if color_K is None:
        raise InputError(
            f"{depth.name} is not registered to {color.name}, which has no camera_info: name it with "
            "--config.color-info, or say --config.registered if both show the same view"
        )
    T_color_depth = _extrinsic(depth, color, tree, options)
    # No finer than the depth images: a finer grid would be full of holes.
    share = min(1.0, K[0, 0] / color_K[0, 0])
    size = max(1, round(color.size[0] * share)), max(1, round(color.size[1] * share))
    new_K = scale_intrinsics(color_K, color.size, size)
    notes.append(f"{depth.name} is moved into the camera of {color.name}, {size[0]} x {size[1]} pixels")
    moved = Registration(K, depth.size, T_color_depth, new_K, size)
    return CameraGeometry(new_K, size, color.frame_id, bend, color_bend, moved, tuple(notes))


def _pinhole(
    image: ImageTopic, info: InfoTopic | None, options: GeometryOptions, notes: list[str]
) -> tuple[np.ndarray, Undistortion | None]:
    """Return K of an image topic and, where it is to be done, what removes its distortion."""
    if options.intrinsics is not None:
        return check_intrinsics(options.intrinsics, "--config.intrinsics"), None
    if info is None:
        raise InputError(
            f"{image.name}: no calibrated camera_info of {image.size[0]} x {image.size[1]} pixels belongs to it; name "
            "one with --config.info, or give --config.intrinsics fx fy cx cy"
        )
    if info.size != image.size:
        raise InputError(
            f"{image.name}: images of {image.size[0]} x {image.size[1]}, {info.name} is for {info.size[0]} x "
            f"{info.size[1]} pixels; name the right one with --config.info"
        )
    # REP 104: images called rect have lost their distortion, and P holds their intrinsics.
    rectified = "rect" in image.name.split("/")[-1] or "/image_rect" in image.name
    K = info.P[:, :3] if rectified and info.P[0, 0] > 0 else info.K
    if not np.isfinite(K).all() or np.abs([K[0, 1], K[1, 0], *K[2, :2], K[2, 2] - 1]).max() > 1e-9:
        raise InputError(f"{info.name}: K = {K.tolist()}, expected a pinhole without skew; calibrate it")
    K = check_intrinsics((K[0, 0], K[1, 1], K[0, 2], K[1, 2]), info.name)
    if rectified or (np.abs(info.D) <= _DISTORTION_TOLERANCE).all():
        return K, None
    said = f"{image.name}: {info.name} says distorted ({info.model}, D = {np.round(info.D[:8], 5).tolist()})"
    if options.distortion == "undistort":
        notes.append(f"{said}; removed")
        return K, Undistortion(info.K, info.D, info.model, image.size, info.name)
    if options.distortion == "ignore":
        notes.append(f"{said}; ignored, as told")
        return K, None
    raise InputError(
        f"{said}; give --config.distortion undistort to remove it, or ignore if the images are rectified already"
    )


def _is_registered(
    choice: CameraChoice, K: np.ndarray, color_K: np.ndarray | None, options: GeometryOptions, notes: list[str]
) -> bool:
    depth, color = choice.depth, choice.color
    assert color is not None
    if options.registered:
        return True
    if options.extrinsic is not None:
        return False
    same_frame = depth.frame_id == color.frame_id
    if color_K is None:
        if not (same_frame or says_registered(depth.name)):
            return False
        notes.append(f"{color.name} has no camera_info; depth has its frame or is called registered, and is taken so")
        return True
    scaled = scale_intrinsics(color_K, color.size, depth.size)
    same_view = bool(np.abs(scaled - K).max() < _SAME_K * K[0, 0])
    if same_view and not same_frame and says_registered(depth.name):
        notes.append(f"{depth.name} is in frame {depth.frame_id} but is called registered, and is taken so")
        return True
    return same_frame and same_view


def _extrinsic(depth: ImageTopic, color: ImageTopic, tree: TransformTree, options: GeometryOptions) -> np.ndarray:
    """Return T_color_depth (4, 4)."""
    if options.extrinsic is not None:
        values = np.array(options.extrinsic, np.float64)
        norm = float(np.linalg.norm(values[3:])) if values.size == 7 else 0.0
        if not np.isfinite(values).all() or abs(norm - 1) > 0.02:
            raise InputError(f"--config.extrinsic {options.extrinsic}: expected x y z qx qy qz qw, a unit quaternion")
        return make_se3(quat_to_matrix(wxyz_from_xyzw(values[3:] / norm)), values[:3])
    if depth.frame_id == color.frame_id:
        return np.eye(4)
    found = relative(tree, color.frame_id, depth.frame_id)
    if found is None:
        raise InputError(
            f"{depth.name} (frame {depth.frame_id!r}) is not registered to {color.name} (frame {color.frame_id!r}) and "
            "no static transform joins the frames; give --config.extrinsic x y z qx qy qz qw (depth camera in the "
            "colour camera's axes), or --config.registered if both show the same view"
        )
    return found


def _check_aspect(depth: ImageTopic, color: ImageTopic) -> None:
    if abs(color.size[0] * depth.size[1] / (color.size[1] * depth.size[0]) - 1) > _MAX_ASPECT_ERROR:
        raise InputError(
            f"{color.name} has {color.size[0]} x {color.size[1]} pixels, {depth.name} {depth.size[0]} x "
            f"{depth.size[1]}: the aspects differ, so they are not registered; leave --config.registered out"
        )

"""Pictures of recordings and reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from bodydouble.recording import RecordingReader
from perception.body.body_model import BodyModel
from perception.body.smpl_body import SmplBody
from perception.picture import Surface, picture
from perception.skin import whole_body
from sim.stage.scene_mesh import load_scene

BODY_COLOR = np.array([0.90, 0.55, 0.25])
"""Colour of the fitted body."""
PLAIN_COLOR = np.array([0.78, 0.79, 0.82])
"""Colour of a scene that is shown without its own."""
FAR_M = 5.0
"""Depth that is shown darkest, m."""


@dataclass(frozen=True)
class Shown:
    """A reconstruction, ready to be drawn."""

    scene: Surface
    """The static scene."""
    human: HumanMotion | None
    """The person's motion, where there is a person."""
    eyes: np.ndarray
    """First position of each camera (N, 3), world, m."""
    looks: np.ndarray
    """First viewing direction of each camera (N, 3), world."""
    model: BodyModel
    """The body that was fitted."""

    def bodies(self, frames: np.ndarray) -> list[Surface]:
        """Return the fitted body at frames (N,) of the motion."""
        if self.human is None:
            return []
        body = self.model
        with torch.no_grad():
            state = body.forward(
                torch.as_tensor(self.human.pose[frames], dtype=body.dtype),
                torch.as_tensor(self.human.root_pos[frames], dtype=body.dtype),
                torch.as_tensor(self.human.shape, dtype=body.dtype),
            )
        assert state.vertices is not None and body.faces is not None
        return [Surface(vertices, triangles(body.faces), BODY_COLOR) for vertices in state.vertices.numpy()]


def triangles(faces: np.ndarray) -> np.ndarray:
    """Return triangles (F, 3) of triangles or quadrilaterals (F, 3 or 4)."""
    return faces if faces.shape[1] == 3 else np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])


def load_shown(reconstruction: Path, plain: bool = False) -> Shown:
    """Read a reconstruction to draw it.

    Args:
        reconstruction: Its folder.
        plain: Leave out the scene's colours: geometry only.

    Raises:
        InputError: A file is missing or damaged.
    """
    mesh = load_scene(reconstruction / "scene.ply")
    human = reconstruction / "human.npz"
    try:
        with np.load(reconstruction / "cameras.npz", allow_pickle=False) as data:
            poses = np.array([data[f"{name}_T_world_camera"][0] for name in data["names"]])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{reconstruction / 'cameras.npz'}: cannot be read ({error}); reconstruct again") from None
    scene = Surface(mesh.vertices, mesh.faces, PLAIN_COLOR if plain else mesh.colors)
    motion = HumanMotion.load(human) if human.is_file() else None
    model = whole_body() if motion is None else _fitted(reconstruction, motion)
    return Shown(scene, motion, poses[:, :3, 3], poses[:, :3, 2], model)


def _fitted(reconstruction: Path, motion: HumanMotion) -> BodyModel:
    """Return the body of a motion: Anny's, or that of the file which the reconstruction was made with."""
    if motion.body_model == "anny":
        return whole_body()
    given = read_json(reconstruction / "reconstruction.json")["provenance"]["config"].get("body")
    if not given or not Path(given).is_file():
        raise InputError(
            f"{reconstruction}: the person is a body of {motion.body_model}, whose file {given} is not there; put it "
            "back, or reconstruct without --config.body"
        )
    return SmplBody.load(Path(given))


def reconstruction_picture(
    reconstruction: Path, camera: int = 0, size: tuple[int, int] = (960, 720), plain: bool = False
) -> np.ndarray:
    """Return a picture (H, W, 3), uint8, of the scene and the body at four moments, from behind and above a camera.

    Args:
        reconstruction: Its folder.
        camera: Index of the camera.
        size: Width and height, pixels.
        plain: Leave out the scene's colours.

    Raises:
        InputError: A file is missing or damaged.
    """
    shown = load_shown(reconstruction, plain)
    eye, look = shown.eyes[camera], shown.looks[camera]
    if shown.human is None:
        target, bodies = eye + 2.0 * look, []
        eye = eye - 0.6 * look
    else:
        frames = np.linspace(0.05, 0.95, 4) * (shown.human.num_frames - 1)
        bodies = shown.bodies(frames.astype(int))
        target = shown.human.root_pos.mean(axis=0)
        eye = target + 1.15 * (eye - target) + (0, 0, 0.9)
    return picture([shown.scene, *bodies], eye, target, size)


def recording_picture(recording: Path, moments: int = 4, width: int = 320) -> np.ndarray:
    """Return colour and depth of every camera at some moments, as one picture (H, W, 3), uint8.

    Raises:
        RecordingError: The recording is damaged or has no camera.
    """
    with RecordingReader(recording) as reader:
        reader.check_rgbd()
        rows = []
        for name in reader.cameras:
            every = max(1, reader.frame_count(name) // moments)
            frames = list(reader.frames(name, every=every))[:moments]
            height = round(width * frames[0].depth.shape[0] / frames[0].depth.shape[1])
            blank = np.full((height, width, 3), 255, dtype=np.uint8)
            pairs = [(_resized(f.color, width, height), _resized(_depth_image(f.depth), width, height)) for f in frames]
            pairs += [(blank, blank)] * (moments - len(pairs))
            rows += [np.concatenate([pair[0] for pair in pairs], axis=1)]
            rows += [np.concatenate([pair[1] for pair in pairs], axis=1)]
    return np.concatenate(rows)


def _depth_image(depth_m: np.ndarray) -> np.ndarray:
    near = np.where(depth_m > 0, 1 - np.clip(depth_m / FAR_M, 0, 0.95), 0)
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, axis=2)


def _resized(image: np.ndarray | None, width: int, height: int) -> np.ndarray:
    if image is None:
        return np.zeros((height, width, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(image).resize((width, height)))

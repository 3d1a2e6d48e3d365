"""Motion libraries: many reference motions in one small file, for training on another machine.

Only poses and contacts are stored, as float32; velocities and body poses are computed again on loading.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from bodydouble.artifacts import atomic_file
from bodydouble.errors import InputError
from bodydouble.frames import quat_normalize
from bodydouble.motion import RobotMotion
from sim.retarget.kinematics import body_angular_velocity, central_difference


def save_library(motions: Sequence[RobotMotion], path: Path) -> None:
    """Write motions of one robot at one rate into a file.

    Raises:
        InputError: There is no motion, or joints, bodies, contacts or rates differ.
    """
    if not motions:
        raise InputError(f"{path}: a motion library needs at least one motion")
    first = motions[0]
    for motion in motions:
        if (motion.joint_names, motion.body_names, motion.fps) != (first.joint_names, first.body_names, first.fps):
            raise InputError(f"{path}: the motions of a library must be of one robot and rate")
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            fps=np.float64(first.fps),
            joint_names=np.array(first.joint_names),
            body_names=np.array(first.body_names),
            contact_names=np.array(first.contact_names),
            length=np.array([motion.num_frames for motion in motions]),
            root_pos=np.concatenate([motion.root_pos for motion in motions]).astype(np.float32),
            root_quat=np.concatenate([motion.root_quat for motion in motions]).astype(np.float32),
            joint_pos=np.concatenate([motion.joint_pos for motion in motions]).astype(np.float32),
            contact=np.concatenate([motion.contact for motion in motions]),
        )


def load_library(path: Path, model: mujoco.MjModel) -> list[RobotMotion]:
    """Read the motions of a library.

    Args:
        path: The file.
        model: A model that begins with the robot's free joint and joints and has the tracked bodies.

    Raises:
        InputError: The file is missing or no library, or the model is of another robot.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            stored = {name: data[name] for name in data.files}
        fps, lengths = float(stored["fps"]), stored["length"]
        joint_names, body_names, contact_names = (
            tuple(str(name) for name in stored[key]) for key in ("joint_names", "body_names", "contact_names")
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such motion library") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: is no motion library ({error}); write it again") from None
    if tuple(model.joint(i + 1).name for i in range(len(joint_names))) != joint_names:
        raise InputError(f"{path}: its joints are not those of the model; use the robot's own library")
    bodies = [model.body(name).id for name in body_names]
    data = mujoco.MjData(model)
    motions, start = [], 0
    for length in lengths:
        part = slice(start, start + int(length))
        start += int(length)
        root_pos = stored["root_pos"][part].astype(np.float64)
        root_quat = quat_normalize(stored["root_quat"][part].astype(np.float64))
        joint_pos = stored["joint_pos"][part].astype(np.float64)
        body_pos = np.empty((len(root_pos), len(bodies), 3))
        body_quat = np.empty((len(root_pos), len(bodies), 4))
        for t in range(len(root_pos)):
            data.qpos[:7] = (*root_pos[t], *root_quat[t])
            data.qpos[7 : 7 + len(joint_names)] = joint_pos[t]
            mujoco.mj_kinematics(model, data)
            body_pos[t], body_quat[t] = data.xpos[bodies], data.xquat[bodies]
        motions.append(
            RobotMotion(
                fps=fps,
                joint_names=joint_names,
                root_pos=root_pos,
                root_quat=root_quat,
                joint_pos=joint_pos,
                root_lin_vel=central_difference(root_pos, fps),
                root_ang_vel=body_angular_velocity(root_quat, fps),
                joint_vel=central_difference(joint_pos, fps),
                body_names=body_names,
                body_pos=body_pos,
                body_quat=body_quat,
                contact_names=contact_names,
                contact=stored["contact"][part],
            )
        )
    return motions

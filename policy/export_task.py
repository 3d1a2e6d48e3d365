"""Export of a policy for a task without a stage: one ONNX file with its contract, commands and randomisation inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from bodydouble.artifacts import provenance, read_json, sha256_file, versions, write_json
from bodydouble.contract import PolicyContract
from bodydouble.errors import InputError
from policy.checkpoint import load_policy
from policy.export import MANIFEST_FILE, Exported, checked_model, write_model
from policy.golden import Steps
from policy.nets.policy_net import MeanPolicy, PolicyNet
from policy.train_task import check_task
from policy.training_run import CHECKPOINT_FILE
from policy.training_run import MANIFEST_FILE as TRAINED_FILE
from robot.policy_file import weights_sha256
from sim.backend.cpu_batch import CpuBatch
from sim.env.task import Task
from sim.env.task_env import TaskEnv
from sim.tasks.registry import make_task, settings_from_plain

_ENVS, _STEPS = 16, 40


def trained_task(policy: Path) -> Task:
    """Return the task that a training's folder was made for, with the settings it was trained with.

    Raises:
        InputError: The folder holds no training of a task.
    """
    manifest = policy / TRAINED_FILE
    raw: Any = read_json(manifest)
    try:
        name, robot, setup = raw["task"], raw["robot"], raw["setup"]
    except (KeyError, TypeError):
        raise InputError(f"{manifest}: is no training of a task; give its stage with --stage") from None
    return make_task(name, robot, settings_from_plain(name, setup))


def export_task(policy: Path, out: Path) -> Exported:
    """Write a task's policy as ONNX with contract and golden vectors.

    Args:
        policy: Folder of a training (`bodydouble train --task`).
        out: The ONNX file to write; export.json is written beside it.

    Raises:
        InputError: The folder holds no training of a task.
        GateError: onnxruntime and torch disagree; nothing is written.
    """
    task = trained_task(policy)
    checkpoint = policy / CHECKPOINT_FILE
    net, info, _ = load_policy(checkpoint)
    check_task(checkpoint, info, task, task.name)
    net.eval()
    observations = visited_observations(task, net)
    model, steps, difference = checked_model(net, observations, out)
    contract = task_contract(task, checkpoint, model, steps)
    figures = {
        "onnx_max_abs_diff": difference,
        "onnx_bytes": float(write_model(model, contract, out)),
        "onnx_checked_observations": float(observations.shape[0] * observations.shape[1]),
    }
    manifest = {
        "provenance": provenance({"task": task.name}, {"policy": checkpoint}),
        "figures": figures,
        "sha256": sha256_file(out),
    }
    write_json(out.with_name(MANIFEST_FILE), manifest)
    return Exported(out, figures)


def task_contract(task: Task, checkpoint: Path, model: onnx.ModelProto, steps: Steps) -> PolicyContract:
    """Return the contract of a task's policy, validated.

    Args:
        task: The task.
        checkpoint: File of the network's weights.
        model: The ONNX model.
        steps: What the policy did; the golden vectors are taken from it.
    """
    robot = task.robot
    contract = PolicyContract(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_joint_pos=robot.default_joint_pos,
        kp=robot.kp,
        kd=robot.kd,
        effort_limit=robot.effort_limit,
        joint_lower=robot.joint_lower,
        joint_upper=robot.joint_upper,
        joint_velocity_limit=robot.velocity_limit,
        action_mode="residual_default",
        action_scale=robot.action_scale,
        observation=task.observation.terms,
        reference_offsets=(),
        control_hz=task.control_hz,
        physics_dt=float(task.model.opt.timestep),
        quaternion_order="wxyz",
        versions=versions(),
        hashes={"checkpoint": sha256_file(checkpoint), "weights": weights_sha256(model)},
        command_names=task.command.names,
        command_low=task.command.low,
        command_high=task.command.high,
        randomisation=task.randomisation,
        **steps.contract_fields(),
    )
    contract.validate()
    return contract


def visited_observations(task: Task, net: PolicyNet) -> np.ndarray:
    """Return observations (T, B, P) that the policy meets at its task, under the task's randomisation."""
    env = TaskEnv(CpuBatch(task.model, _ENVS, seed=0), task)
    act, obs = MeanPolicy(net), env.reset()["policy"]
    seen = [obs]
    for _ in range(_STEPS):
        obs = env.step(act(torch.as_tensor(obs)).numpy()).obs["policy"]
        seen.append(obs)
    return np.stack(seen)

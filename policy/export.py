"""Export: a trained policy as one ONNX file that carries its whole contract."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from bodydouble.artifacts import (
    atomic_file,
    inputs_hash,
    is_current,
    provenance,
    read_json,
    sha256_file,
    versions,
    write_json,
)
from bodydouble.contract import METADATA_KEY, PolicyContract, exact_floats
from bodydouble.contract import SCHEMA_VERSION as CONTRACT_SCHEMA
from bodydouble.errors import GateError, InputError
from bodydouble.observation import TRACKING_OFFSETS, tracking_spec
from bodydouble.randomisation import Randomisation
from policy.checkpoint import load_policy
from policy.golden import Steps, onnx_steps, torch_steps
from policy.interface import check_interface
from policy.nets.policy_net import MeanPolicy, PolicyNet
from policy.quantise import quantised
from policy.train import check_fits
from policy.training_run import CHECKPOINT_FILE
from policy.training_run import MANIFEST_FILE as TRAINED_FILE
from robot.policy_file import weights_sha256
from sim.backend.cpu_batch import CpuBatch
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.stage.stage import REFERENCE_FILE, Stage
from sim.tasks.tracking.config import RandomisationConfig, TrackingConfig
from sim.tasks.tracking.declared import declared

MANIFEST_FILE = "export.json"
"""Written beside the ONNX file: its hash and figures."""
MAX_ABS_DIFF = 1e-5
"""Largest difference between the actions of torch and of onnxruntime."""
_ENVS, _STEPS = 16, 40


@dataclass(frozen=True)
class Exported:
    """An exported policy."""

    path: Path
    """The ONNX file."""
    figures: dict[str, float]
    """Figures of export.json."""

    def __str__(self) -> str:
        """One line with the outcome."""
        diff, size = self.figures["onnx_max_abs_diff"], self.figures["onnx_bytes"]
        coarse = self.figures.get("int8_max_abs_diff")
        more = "" if coarse is None else f"; with 8-bit weights within {coarse:.2g}"
        return f"{self.path}: {size / 1e6:.2f} MB, actions within {diff:.2g} of torch's{more}"


def export(policy: Path, stage_path: Path, out: Path, *, int8: bool = False) -> Exported:
    """Write a trained policy as ONNX with contract and golden vectors; an up-to-date file is left as it is.

    Args:
        policy: Folder of a training, or a checkpoint (.safetensors).
        stage_path: Folder of the stage that the policy runs on.
        out: The ONNX file to write; export.json is written beside it.
        int8: Whether its weights have 8 bits; the largest difference that this makes is then among the figures. Judge
            such a policy with `bodydouble verify`, as any other.

    Raises:
        InputError: The checkpoint is for another robot or a file is missing.
        GateError: onnxruntime and torch disagree by more than MAX_ABS_DIFF; nothing is written.
    """
    checkpoint = policy / CHECKPOINT_FILE if policy.is_dir() else policy
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; make one with `bodydouble train`")
    stage = Stage.load(stage_path)
    inputs = {"checkpoint": checkpoint, "stage": stage.path}
    manifest_path = out.with_name(MANIFEST_FILE)
    settings = {"contract_schema": CONTRACT_SCHEMA, "int8": int8}
    if out.is_file() and is_current(manifest_path, inputs_hash(settings, inputs)):
        manifest = read_json(manifest_path)
        if manifest["sha256"] == sha256_file(out):
            return Exported(out, manifest["figures"])
    net, info, _ = load_policy(checkpoint)
    robot = TrackedRobot.from_spec(stage.robot)
    spec = tracking_spec(len(robot.joint_names))
    check_fits(checkpoint, info, robot.name, robot.joint_names, spec.size)
    check_interface(checkpoint, info, stage)
    net.eval()
    observations = visited_observations(stage, robot, net)
    model, steps, difference = checked_model(net, observations, out)
    figures = {"onnx_max_abs_diff": difference}
    if int8:
        model = quantised(model)
        # The golden vectors are those of the file itself; how far it is from the network is a figure.
        coarse = onnx_steps(model.SerializeToString(), observations, net.config.memory)
        figures["int8_max_abs_diff"] = coarse.max_abs_diff(steps)
        steps = coarse
    contract = make_contract(stage, checkpoint, model, steps, trained_randomisation(policy))
    figures |= {
        "onnx_bytes": float(write_model(model, contract, out)),
        "onnx_checked_observations": float(observations.shape[0] * observations.shape[1]),
    }
    manifest = {"provenance": provenance(settings, inputs), "figures": figures, "sha256": sha256_file(out)}
    write_json(manifest_path, manifest)
    return Exported(out, figures)


def checked_model(net: PolicyNet, observations: np.ndarray, out: Path) -> tuple[onnx.ModelProto, Steps, float]:
    """Return a policy as ONNX, what it does for observations (T, B, P), and how far onnxruntime is from torch.

    Raises:
        GateError: They differ by more than MAX_ABS_DIFF; `out` is the file that is not written.
    """
    steps = torch_steps(net, observations)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "policy.onnx"
        net.actor.as_onnx(bare)
        model = onnx.load(str(bare))
    difference = onnx_steps(model.SerializeToString(), observations, net.config.memory).max_abs_diff(steps)
    if not difference <= MAX_ABS_DIFF:
        raise GateError(
            f"{out}: onnxruntime's actions differ from torch's by {difference:.3g}, at most {MAX_ABS_DIFF:g} is allowed"
        )
    return model, steps, difference


def write_model(model: onnx.ModelProto, contract: PolicyContract, out: Path) -> int:
    """Put the contract into a model, write it in one step, and return its size in bytes."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, contract.to_json()
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    with atomic_file(out) as temporary:
        temporary.write_bytes(data)
    return len(data)


def trained_randomisation(policy: Path) -> Randomisation:
    """Return what a policy was trained to bear: as the training's manifest says, else as pretraining does by default.

    Args:
        policy: Folder of a training, or a checkpoint.

    Raises:
        InputError: The manifest is not one of this version.
    """
    manifest = policy / TRAINED_FILE
    if not policy.is_dir() or not manifest.is_file():
        return declared(RandomisationConfig())
    try:
        raw = read_json(manifest)["provenance"]["config"]["task"]["randomisation"]
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        config = RandomisationConfig(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{manifest}: does not say how the policy was trained ({error}); train again") from None
    return declared(config)


def make_contract(
    stage: Stage,
    checkpoint: Path,
    model: onnx.ModelProto,
    steps: Steps,
    randomisation: Randomisation,
) -> PolicyContract:
    """Return the contract of a tracking policy for the robot and the rates of a stage, validated.

    Args:
        stage: The stage.
        checkpoint: File of the network's weights.
        model: The ONNX model.
        steps: What the policy did; the golden vectors are taken from it.
        randomisation: What the policy was trained to bear.
    """
    robot = stage.robot
    contract = PolicyContract(
        robot=robot.name,
        joint_names=robot.joint_names,
        default_joint_pos=exact_floats(robot.default_joint_pos),
        kp=exact_floats(robot.kp),
        kd=exact_floats(robot.kd),
        effort_limit=exact_floats(robot.effort_limit),
        joint_lower=exact_floats(robot.joint_lower),
        joint_upper=exact_floats(robot.joint_upper),
        joint_velocity_limit=exact_floats(robot.velocity_limit),
        action_mode="residual_reference",
        action_scale=exact_floats(robot.action_scale),
        observation=tracking_spec(robot.num_joints).terms,
        reference_offsets=TRACKING_OFFSETS,
        control_hz=stage.control_hz,
        physics_dt=stage.physics_dt,
        quaternion_order="wxyz",
        versions=versions(),
        hashes={
            "stage": stage.sha256,
            "reference": sha256_file(stage.path / REFERENCE_FILE),
            "checkpoint": sha256_file(checkpoint),
            "weights": weights_sha256(model),
        },
        randomisation=randomisation,
        **steps.contract_fields(),
    )
    contract.validate()
    return contract


def visited_observations(stage: Stage, robot: TrackedRobot, net: PolicyNet) -> np.ndarray:
    """Return observations (T, B, P) that the policy meets on the stage, under the task's randomisation."""
    backend = CpuBatch(stage.compile(visuals=False), _ENVS, seed=0)
    env = TrackingEnv(backend, robot, stage.motions, TrackingConfig(control_hz=stage.control_hz))
    act, obs = MeanPolicy(net), env.reset()["policy"]
    seen = [obs]
    for _ in range(_STEPS):
        obs = env.step(act(torch.as_tensor(obs)).numpy()).obs["policy"]
        seen.append(obs)
    return np.stack(seen)

"""Training of the joint network on synthetic depth.

    python -m perception.joints.train --postures postures.npz --out out/ --minutes 8

It needs no package beyond torch, numpy, array-api-compat and safetensors; a GPU is used where there is one. Each batch
is drawn anew. Every checkpoint holds the averaged weights, and training goes on from one with --resume.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from perception.joints.canonical import DEPTH_REACH_M
from perception.joints.network import NETWORK_JOINTS, JointNetwork, laplace_loss
from perception.joints.synthetic_depth import DepthConfig, DepthSampler, TrainingViews

SAVE_EVERY_S = 60.0
"""Time between checkpoints, s."""
HELD_OUT_BATCHES = 8
"""Batches of held-out postures that are measured."""
WEIGHTS_FILE = "depth_joints.safetensors"
"""The weights."""
LOG_FILE = "depth_joints.log.jsonl"
"""One line per checkpoint."""


def main(argv: list[str] | None = None) -> int:
    """Train for so many minutes."""
    args = _parse(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    with np.load(args.postures, allow_pickle=False) as data:
        poses, held_out = data["pose"], data["held_out"]
    sampler = DepthSampler(poses[~held_out], DepthConfig(), device, args.seed)
    # Held-out postures as they are, with the sensor's faults.
    plain = DepthConfig(mixed=0.0, loosened=0.0, free_arms=0.0, free_legs=0.0, tilted=0.0)
    judge = DepthSampler(poses[held_out], plain, device, args.seed + 1)
    exam = [judge.draw(args.batch) for _ in range(HELD_OUT_BATCHES)]
    net = JointNetwork().to(device)
    if args.resume:
        net.load_state_dict(load_file(args.resume, device=str(device)))
    average = copy.deepcopy(net).eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.01)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    begun = saved = time.monotonic()
    step, loss = 0, math.nan
    while True:
        spent = time.monotonic() - begun
        share = spent / (60 * args.minutes)
        if share >= 1 or (args.steps and step >= args.steps):
            break
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        loss = _step(net, optimizer, sampler.draw(args.batch), device)
        if not math.isfinite(loss):
            raise SystemExit(f"error: the loss is {loss} at step {step}; the last checkpoint in {out} is sound")
        _average(average, net, min(0.999, 1 - 1 / (step + 2)))
        step += 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            _save(out, average, exam, step, args, loss, spent)
    _save(out, average, exam, step, args, loss, time.monotonic() - begun)
    return 0


def _step(net: JointNetwork, optimizer: torch.optim.Optimizer, batch: TrainingViews, device: torch.device) -> float:
    net.train()
    images = batch.views.images.to(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        joints, scales = net(images)
    # A joint outside the image cannot be answered.
    counted = (batch.usable[:, None] & (batch.joints.abs() < DEPTH_REACH_M).all(dim=-1)).float()
    error = (joints - batch.joints).norm(dim=-1)
    # Early on the likelihood alone gives up on hard joints.
    loss = (counted * (laplace_loss(joints, scales, batch.joints) + 10 * error)).sum() / counted.sum().clamp_min(1)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _average(average: JointNetwork, net: JointNetwork, keep: float) -> None:
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


@torch.no_grad()
def held_out_figures(net: JointNetwork, exam: list[TrainingViews]) -> dict[str, float]:
    """Return mean and median joint error, mm, and the share within 10 cm, over usable views."""
    errors = []
    for batch in exam:
        joints, _ = net(batch.views.images)
        errors.append((joints - batch.joints).norm(dim=-1)[batch.usable])
    error = torch.cat(errors)
    return {
        "mean_mm": 1000 * float(error.mean()),
        "median_mm": 1000 * float(error.median()),
        "within_10cm": float((error < 0.1).float().mean()),
    }


def _save(
    out: Path,
    net: JointNetwork,
    exam: list[TrainingViews],
    step: int,
    args: argparse.Namespace,
    loss: float,
    spent: float,
) -> None:
    weights = {name: value.contiguous().cpu() for name, value in net.state_dict().items()}
    save_file(weights, out / WEIGHTS_FILE, metadata={"joints": json.dumps(NETWORK_JOINTS)})
    line: dict[str, Any] = {
        "step": step,
        "views": step * args.batch,
        "seconds": round(spent, 1),
        "loss": round(loss, 4),
    }
    line |= {name: round(value, 3) for name, value in held_out_figures(net, exam).items()}
    if step * args.batch and not (out / LOG_FILE).exists():
        line |= {"arguments": vars(args), "data": asdict(DepthConfig())}
    with open(out / LOG_FILE, "a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postures", required=True, help="file of perception.joints.poses")
    parser.add_argument("--out", required=True, help="folder for weights and log")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long to train")
    parser.add_argument("--steps", type=int, default=0, help="most steps; 0 sets no limit")
    parser.add_argument("--batch", type=int, default=512, help="views per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed")
    parser.add_argument("--resume", default="", help="weights (.safetensors) to go on from")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

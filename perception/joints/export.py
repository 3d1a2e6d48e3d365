"""Weights to ONNX: the network with what its user must know of its input and output.

Run `python -m perception.joints.export --weights depth_joints.safetensors --out depth_joints.onnx`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from safetensors.torch import load_file

from bodydouble.errors import InputError
from perception.joints.canonical import DEPTH_REACH_M, PIXEL_M, SIZE
from perception.joints.network import NETWORK_JOINTS, JointNetwork

MAX_DIFFERENCE_M = 1e-4
"""Most that onnxruntime may differ from torch, m."""


@dataclass(frozen=True)
class ExportConfig:
    """What is exported."""

    weights: Path
    """Weights (.safetensors) of perception.joints.train."""
    out: Path
    """ONNX file to write."""


def metadata() -> dict[str, str]:
    """Return what the ONNX file says of its input and output."""
    return {
        "joints": json.dumps(NETWORK_JOINTS),
        "size": str(SIZE),
        "pixel_m": str(PIXEL_M),
        "depth_reach_m": str(DEPTH_REACH_M),
        "frame": "right, up, away from the camera; m; from the image's centre",
    }


def export(config: ExportConfig) -> float:
    """Write the ONNX file and return its largest difference from torch, m.

    Raises:
        InputError: The weights are another network's, or onnxruntime gives other joints than torch.
    """
    net = JointNetwork()
    try:
        net.load_state_dict(load_file(config.weights))
    except (RuntimeError, OSError) as error:
        raise InputError(f"{config.weights}: no weights of this network ({error})") from None
    net.eval()
    image = torch.rand(3, 2, SIZE, SIZE)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        net,
        (image,),
        input_names=["images"],
        output_names=["joints", "scales"],
        dynamic_shapes={"images": {0: batch}},
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata())
    onnx.save(model, config.out)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(image)
    found = session.run(None, {"images": image.numpy()})
    difference = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(expected, found, strict=True))
    if difference > MAX_DIFFERENCE_M:
        raise InputError(f"{config.out}: onnxruntime differs from torch by {difference:.2e} m")
    return difference


if __name__ == "__main__":
    print(f"largest difference from torch: {export(tyro.cli(ExportConfig)):.1e} m")

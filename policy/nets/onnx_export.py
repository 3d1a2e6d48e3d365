"""A module as an ONNX file: one row in, one row out, opset 18."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn


def write_onnx(module: nn.Module, path: Path, inputs: Mapping[str, int], outputs: Sequence[str]) -> None:
    """Write a module whose inputs are rows (1, size).

    Args:
        module: The module; it is exported in evaluation mode and left in the mode it was in.
        path: The file.
        inputs: Name and size of each input, in the order of the module's arguments.
        outputs: Names of its outputs.
    """
    device = next(module.parameters()).device
    example = tuple(torch.zeros(1, size, device=device) for size in inputs.values())
    training = module.training
    module.eval()
    # The exporter speaks of torchvision's operators, which no policy has.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            module, example, str(path), input_names=list(inputs), output_names=list(outputs), opset_version=18,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    module.train(training)

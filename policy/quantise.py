"""An ONNX policy with 8-bit weights: a quarter of the size, actions that differ by a measured amount."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with int8 weights, one scale per output, and activations quantised as they come.

    Weights use 7 of the 8 bits: processors without VNNI add products in 16 bits, which 8 would overflow, and a robot's
    processor must compute what this one does.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        # It advises to simplify the graph first; there is nothing to simplify in these.
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)
        try:
            quantize_dynamic(str(source), str(target), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
        finally:
            root.setLevel(level)
        return onnx.load(str(target))

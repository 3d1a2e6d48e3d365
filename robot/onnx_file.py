"""An ONNX file from somewhere: read with limits, so that it can neither exhaust memory nor reach for other files.

A tiny file can ask for any amount of memory (an operator that repeats a value 10^12 times, a broadcast of two vectors)
and name weights in other files. So only operators whose results are no larger than their shapes say are allowed, every
result's shape is inferred here and bounded before onnxruntime sees the file, and all weights must lie inside.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from bodydouble.errors import ContractError

MAX_POLICY_BYTES = 512 << 20
"""Largest policy file that is read."""
MAX_NODES = 20_000
"""Most operators of a network."""
MAX_VALUES = 64 << 20
"""Most numbers that a network computes in one step, all operators together."""
OPERATORS = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat",
        "Constant", "Cos", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp",
        "Flatten", "Floor", "GRU", "Gather", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
        "HardSwish", "Identity", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
        "LogSoftmax", "MatMul", "MatMulInteger", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or",
        "PRelu", "Pow", "QLinearMatMul", "QuantizeLinear", "RNN", "Reciprocal", "ReduceL2", "ReduceMax",
        "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Round", "Selu", "Sigmoid", "Sign", "Sin",
        "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
        "ThresholdedRelu", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators of the standard set that a policy may use: none loops, makes a size out of a value, or needs more memory
than its operands and its result."""
_KINDS = frozenset(
    {
        onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8, onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL,
    }
)  # fmt: skip


def read_bounded(path: Path) -> bytes:
    """Return a policy file's bytes.

    Raises:
        ContractError: It is missing, no file, or larger than MAX_POLICY_BYTES.
    """
    try:
        if not path.is_file():
            raise ContractError(f"{path}: cannot be read (no such file); make it with `bodydouble export`")
        # What the file system says spares reading; what is read is bounded all the same.
        limit = MAX_POLICY_BYTES if path.stat().st_size <= MAX_POLICY_BYTES else 0
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ContractError(f"{path}: cannot be read ({error.strerror}); make it with `bodydouble export`") from None
    if len(data) > limit:
        raise ContractError(f"{path}: larger than {MAX_POLICY_BYTES} bytes, the limit of a policy file")
    return data


def parse_model(path: Path, data: bytes) -> onnx.ModelProto:
    """Return the checked model of a file.

    Args:
        path: The file's name, for messages.
        data: Its bytes.

    Raises:
        ContractError: It is no ONNX model, is truncated, keeps weights elsewhere, uses an operator that is not
            allowed, or would compute too much.
    """
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ContractError(f"{path}: is no ONNX model ({short(error)}); export the policy again") from None
    if not model.HasField("graph"):
        raise ContractError(f"{path}: is no ONNX model (it holds no network); export the policy again")
    _check_nodes(path, model)
    _check_tensors(path, model)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's own classes, and those of what it calls
        raise ContractError(f"{path}: is no ONNX model ({short(error)}); export the policy again") from None
    _check_sizes(path, model)
    return model


def weights_sha256(model: onnx.ModelProto) -> str:
    """Return one hash of the network: every initialiser, every operator with its attributes, in the graph's order.

    It is made from what the network means and not from the file's bytes, which differ between writers.
    """
    digest = hashlib.sha256()

    def take(*parts: bytes | str) -> None:
        for part in parts:
            raw = part.encode() if isinstance(part, str) else part
            digest.update(struct.pack("<Q", len(raw)))
            digest.update(raw)

    def take_tensor(tensor: onnx.TensorProto) -> None:
        array = onnx.numpy_helper.to_array(tensor)
        take(tensor.name, array.dtype.str, str(array.shape), np.ascontiguousarray(array).tobytes())

    for imported in sorted(model.opset_import, key=lambda item: item.domain):
        take(imported.domain, str(imported.version))
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        take_tensor(tensor)
    for node in model.graph.node:
        take(node.domain, node.op_type, *node.input, "", *node.output)
        for attribute in sorted(node.attribute, key=lambda item: item.name):
            value = onnx.helper.get_attribute_value(attribute)
            take(attribute.name, str(attribute.type))
            if isinstance(value, onnx.TensorProto):
                take_tensor(value)
            elif isinstance(value, bytes):
                take(value)
            else:
                take(*(item if isinstance(item, bytes) else repr(item) for item in np.atleast_1d(value).tolist()))
    return digest.hexdigest()


def short(error: Exception) -> str:
    """Return an error's text on one line, cut."""
    return " ".join(str(error).split())[:200]


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise ContractError(f"{path}: has {len(graph.node)} operators, the limit is {MAX_NODES}")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise ContractError(f"{path}: holds functions, training or sparse weights; export the policy again")
    for node in graph.node:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise ContractError(f"{path}: uses operator {name[:80]!r}, which a policy may not; see docs/contract.md")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ContractError(f"{path}: operator {name} holds a network of its own; export the policy again")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                # Said as the tensor it holds, which no list of kinds has.
                yield onnx.TensorProto(name=attribute.name, data_type=onnx.TensorProto.UNDEFINED)
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_tensors(path: Path, model: onnx.ModelProto) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ContractError(f"{path}: keeps weights in other files; export the policy again")
        if tensor.data_type not in _KINDS:
            raise ContractError(f"{path}: weights {tensor.name[:80]!r} are of a kind that a policy may not have")
        try:
            onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # sizes that do not agree: numpy's and onnx's own classes
            raise ContractError(
                f"{path}: weights {tensor.name[:80]!r} are damaged ({short(error)}); export the policy again"
            ) from None


def _check_sizes(path: Path, model: onnx.ModelProto) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    # What the file itself says of its sizes is not believed.
    del bare.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:
        raise ContractError(f"{path}: its sizes do not agree ({short(error)}); export the policy again") from None
    sizes: dict[str, int] = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        shape = value.type.tensor_type.shape if value.type.HasField("tensor_type") else None
        if shape is None or not value.type.tensor_type.HasField("shape"):
            continue
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in shape.dim]
        if min(dims, default=0) >= 0:
            sizes[value.name] = math.prod(dims)
    total = 0
    for node in inferred.node:
        for name in filter(None, node.output):
            if name not in sizes:
                raise ContractError(
                    f"{path}: the size of what operator {node.op_type} gives is not known beforehand; export the "
                    "policy for one observation of a fixed size"
                )
            total += sizes[name]
    if total > MAX_VALUES:
        raise ContractError(f"{path}: computes {total} values in one step, the limit is {MAX_VALUES}")

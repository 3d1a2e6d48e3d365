"""Hostile ONNX files: no file reaches for other files, takes memory that it does not hold, or runs what it brings."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bodydouble.errors import ContractError
from robot.onnx_file import OPERATORS, parse_model
from robot.policy_file import PolicyFile
from tests.robot.faults import FaultLog
from tests.robot.samples import toy_policy


def model(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray] | None = None, joints: int = 3
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, joints]) for name in ("obs", "action")]
    weights = [numpy_helper.from_array(array, name) for name, array in (arrays or {}).items()]
    graph = helper.make_graph(nodes, "policy", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def refuse(found: onnx.ModelProto, match: str) -> None:
    with pytest.raises(ContractError, match=match) as error:
        parse_model(Path("p.onnx"), found.SerializeToString())
    assert str(error.value).startswith("p.onnx: ") and "\n" not in str(error.value)


OUTER = [helper.make_node("Add", ["a", "b"], ["big"]), helper.make_node("ReduceMax", ["big"], ["action"])]
HUGE = np.array([1 << 40], dtype=np.int64)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("ConstantOfShape", ["n"], ["big"]), helper.make_node("ReduceMax", ["big"], ["action"])],
        [helper.make_node("Expand", ["obs", "n"], ["action"])],
        [helper.make_node("Tile", ["obs", "n"], ["action"])],
        [helper.make_node("Resize", ["obs", "", "", "n"], ["action"])],
        [helper.make_node("Pad", ["obs", "n"], ["action"])],
        [helper.make_node("RandomNormal", [], ["action"], shape=[1 << 20, 1 << 20])],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_operators_that_make_memory_out_of_a_number(nodes: list[onnx.NodeProto]) -> None:
    refuse(model(nodes, {"n": HUGE}), f"uses operator '{nodes[0].op_type}', which a policy may not")


def test_a_broadcast_of_two_vectors() -> None:
    """Half a megabyte of weights whose sum has 4 * 10^9 values."""
    line = np.zeros((1, 65536), dtype=np.float32)
    bomb = model(OUTER, {"a": line, "b": line.T.copy()}, joints=1)
    refuse(bomb, "computes 4294967297 values in one step, the limit is 67108864")


def test_many_operators_together() -> None:
    names = [f"x{i}" for i in range(300)]
    wide = np.zeros((1, 1 << 18), dtype=np.float32)
    nodes = [helper.make_node("Mul", ["obs", "w"], ["x0"])]
    nodes += [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    nodes.append(helper.make_node("ReduceMax", [names[-1]], ["action"]))
    refuse(model(nodes, {"w": wide}, joints=1), "computes 78643201 values in one step, the limit is")
    refuse(model([helper.make_node("Neg", ["obs"], ["action"])] * 20_001), "has 20001 operators, the limit is 20000")


def test_a_size_that_is_lied_about() -> None:
    """What the file says of its own sizes is not believed."""
    line = np.zeros((1, 65536), dtype=np.float32)
    found = model(OUTER, {"a": line, "b": line.T.copy()}, joints=1)
    found.graph.value_info.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, [1, 1]))
    refuse(found, "values in one step, the limit is")


def test_a_size_that_is_not_known() -> None:
    found = model([helper.make_node("Neg", ["obs"], ["x"]), helper.make_node("Neg", ["x"], ["action"])])
    for value in (found.graph.input[0], found.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_param = "n"
    refuse(found, "is not known beforehand")


def test_weights_in_other_files(tmp_path: Path) -> None:
    """Also in an operator's attribute, and whatever the path."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(12))
    for location in (str(secret), "../../etc/passwd", "secret"):
        found = model([helper.make_node("Add", ["obs", "w"], ["action"])], {"w": np.zeros((1, 3), np.float32)})
        tensor = found.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        refuse(found, "keeps weights in other files")
        node = helper.make_node("Constant", [], ["c"])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        refuse(model([node, helper.make_node("Add", ["obs", "c"], ["action"])]), "keeps weights in other files")


def test_networks_within() -> None:
    """Loops, functions, and anything else that carries a network of its own."""
    inner = model([helper.make_node("Neg", ["obs"], ["action"])]).graph
    refuse(model([helper.make_node("If", ["obs"], ["action"], then_branch=inner, else_branch=inner)]), "operator 'If'")
    node = helper.make_node("Neg", ["obs"], ["action"])
    node.attribute.add(name="g", type=onnx.AttributeProto.GRAPH).g.CopyFrom(inner)
    refuse(model([node]), "operator Neg holds a network of its own")
    found = model([helper.make_node("Neg", ["obs"], ["action"])])
    found.functions.add(name="f", domain="d")
    refuse(found, "holds functions, training or sparse weights")


def test_kinds_and_sizes_of_weights() -> None:
    found = model([helper.make_node("Add", ["obs", "w"], ["action"])], {"w": np.zeros((1, 3), np.float32)})
    tensor = found.graph.initializer[0]
    tensor.dims[:] = [1 << 31, 1 << 31]
    refuse(found, "weights 'w' are damaged")
    tensor.data_type = TensorProto.STRING
    refuse(found, "weights 'w' are of a kind that a policy may not have")


def test_deep_nesting() -> None:
    """A protobuf message nested a hundred thousand times: by hand, graph in attribute in node in graph ..."""
    data = b""
    for field in [0x2A, 0x0A, 0x32] * 30_000:
        size, value = bytearray(), len(data)
        while value > 127:
            size.append(value & 127 | 128)
            value >>= 7
        size.append(value)
        data = bytes([field]) + bytes(size) + data if len(data) < 200_000 else data
    with pytest.raises(ContractError, match="is no ONNX model"):
        parse_model(Path("p.onnx"), bytes([0x3A]) + _varint(len(data)) + data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_truncated(tmp_path: Path, fault_log: FaultLog) -> None:
    path = toy_policy(tmp_path / "p.onnx")
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ContractError) as error:
            PolicyFile(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value), share
    fault_log.passed("onnx_truncated", "refused, the file is named")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    with open(path, "wb") as file:
        file.truncate((512 << 20) + 1)
    with pytest.raises(ContractError, match="larger than 536870912 bytes"):
        PolicyFile(path)


def test_allowed_operators_are_of_the_standard_set() -> None:
    for name in OPERATORS:
        assert onnx.defs.has(name), name


def test_memory_and_files_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Under a limit of 1 GiB beyond its libraries a process refuses a bomb, and it opens no file that it names."""
    line = np.zeros((1, 65536), dtype=np.float32)
    bomb = model(OUTER, {"a": line, "b": line.T.copy()}, joints=1)
    path = tmp_path / "bomb.onnx"
    path.write_bytes(bomb.SerializeToString())
    program = (
        "import os, resource, sys; from robot.policy_file import PolicyFile\n"
        "from bodydouble.errors import ContractError\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (1 << 30),) * 2)\n"
        "try: PolicyFile(sys.argv[1])\n"
        "except ContractError as error: print('refused:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("refused:"), done.stderr

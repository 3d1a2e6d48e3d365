"""What is fuzzed: every parser of foreign bytes, with small sound files to begin from, and mutations of them.

A case is a handful of named files, most often one. A parser may take it or refuse it with one of bodydouble's errors;
anything else it raises is a failure.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bodydouble.contract import METADATA_KEY, PolicyContract, exact_floats
from bodydouble.errors import BodydoubleError
from bodydouble.frames import make_se3
from bodydouble.observation import ObservationTerm
from bodydouble.recording import RecordingReader, RecordingWriter, messages
from bodydouble.recording.recover import recover

Case = dict[str, bytes]
"""Contents of files by name."""
OUT = "out.mcap"
"""What an importer writes; the only file that may be there beside the case's own."""
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 62,
               (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
"""Numbers at which sizes and counts go wrong."""
ODD_VALUES = (None, True, -1, 0, 1e308, -1e308, 1 << 63, 1 << 64, "", "x" * 300, "\x1b[2J", [], {}, [[]], [None], 0.5)
"""What a value in JSON may become."""
W, H = 16, 12
K = np.array([[20.0, 0.0, 7.5], [0.0, 20.0, 5.5], [0.0, 0.0, 1.0]])
T0, STEP = 1_700_000_000_000_000_000, 33_333_333


@dataclass(frozen=True)
class Target:
    """A parser."""

    name: str
    """Its name."""
    share: float
    """Its share of the cases."""
    seeds: Callable[[], list[Case]]
    """Makes sound cases."""
    read: Callable[[Path], None]
    """Reads a case from a folder; raises what the parser raises."""
    mend: Callable[[Case, random.Random], Case] | None = None
    """Makes checksums and hashes right again, so that a mutation reaches what lies behind them."""


def mutate(case: Case, rng: random.Random) -> Case:
    """Return a case with one file changed in one to eight places."""
    name = rng.choice(sorted(case))
    if name.endswith(".json") and rng.random() < 0.5:
        changed = _mutate_json(case[name], rng)
    else:
        data = bytearray(case[name])
        for _ in range(1 << rng.randrange(4)):
            _mutate_bytes(data, rng)
        changed = bytes(data)
    return {**case, name: changed}


def _mutate_bytes(data: bytearray, rng: random.Random) -> None:
    kind = rng.randrange(8)
    at = rng.randrange(len(data) + 1)
    length = 1 << rng.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice(INTERESTING) % (1 << 8 * size)
        data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        data[at:at] = data[at : at + length]
    elif kind == 5:
        data[at:at] = rng.randbytes(min(length, 16))
    elif kind == 6 and rng.random() < 0.2:
        del data[at:]
    else:
        other = rng.randrange(len(data) + 1)
        data[at : at + length] = data[other : other + length]


def _mutate_json(data: bytes, rng: random.Random) -> bytes:
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return data
    whole: dict[str, Any] = {"": root}
    holder: Any = whole
    key: Any = ""
    while True:
        inner: Any = holder[key]
        if not inner or not isinstance(inner, dict | list) or rng.random() < 0.15:
            break
        holder, key = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    kind = rng.randrange(4)
    if kind == 0 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 1 and holder is not whole:
        del holder[key]
    elif kind == 2 and isinstance(holder, dict) and holder is not whole:
        holder[rng.choice(("", "kp", "x", "\x00"))] = holder[key]
    else:
        holder[key] = rng.choice(ODD_VALUES)
    return json.dumps(whole[""]).encode()


def write_case(folder: Path, case: Mapping[str, bytes]) -> None:
    """Write a case's files into a folder."""
    for name, data in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# Recordings


def _color() -> np.ndarray:
    return np.full((H, W, 3), (40, 90, 200), np.uint8)


def _depth(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(800, 4000, (H, W)).astype(np.uint16)


def _read_back(write: Callable[[Path], Any], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _ours(path: Path) -> None:
    with RecordingWriter(path) as writer:
        writer.write_camera_info("cam0", K, W, H, T0)
        for i in range(3):
            writer.write_color("cam0", _color(), T0 + i * STEP)
            writer.write_depth("cam0", _depth(i), T0 + i * STEP)
            writer.write_pose("cam0", make_se3(np.eye(3), np.array([0.1 * i, 0.0, 0.0])), T0 + i * STEP)
        writer.write("/joint_states", "sensor_msgs/msg/JointState", {"name": ["a"], "position": [0.1]}, T0)
        writer.write_metadata("provenance", {"seed": "7"})


def _theirs(path: Path, **options: Any) -> None:
    """Write an MCAP as others do, without checksums: mutations reach what they would protect."""
    from mcap.writer import Writer

    with open(path, "wb") as file:
        writer = Writer(file, chunk_size=2048, enable_crcs=False, **options)
        writer.start(profile="ros2", library="")
        for topic, msgtype, fields in _bag_messages():
            schema = writer.register_schema(msgtype, "ros2msg", messages.definition(msgtype).encode())
            channel = writer.register_channel(topic, "cdr", schema)
            for i in range(2):
                data = messages.serialize(msgtype, fields(i))
                writer.add_message(channel, T0 + i * STEP, data, T0 + i * STEP)
        writer.add_metadata("note", {"key": "value"})
        writer.finish()


def _bag_messages() -> list[tuple[str, str, Callable[[int], dict[str, Any]]]]:
    def header(i: int) -> dict[str, Any]:
        return messages.header(T0 + i * STEP, "cam_color_optical_frame")

    def info(i: int) -> dict[str, Any]:
        base = {"header": header(i), "width": W, "height": H, "distortion_model": "plumb_bob", "d": np.zeros(5)}
        return {**base, "k": K.reshape(-1), "r": np.eye(3).reshape(-1), "p": np.eye(3, 4).reshape(-1)}

    def image(pixels: np.ndarray, encoding: str, i: int) -> dict[str, Any]:
        raw = np.ascontiguousarray(pixels).reshape(H, -1).view(np.uint8)
        size = {"height": H, "width": W, "step": raw.shape[1]}
        return {"header": header(i), **size, "encoding": encoding, "is_bigendian": 0, "data": raw.reshape(-1)}

    def transforms(i: int) -> dict[str, Any]:
        pose = {"translation": {"x": 0.1 * i, "y": 0.0, "z": 1.0}, "rotation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
        head = messages.header(T0 + i * STEP, "map")
        return {"transforms": [{"header": head, "child_frame_id": "cam_color_optical_frame", "transform": pose}]}

    depth, color = "/cam/aligned_depth_to_color", "/cam/color"
    return [
        (f"{depth}/camera_info", messages.CAMERA_INFO, info),
        (f"{color}/camera_info", messages.CAMERA_INFO, info),
        ("/tf", messages.TF_MESSAGE, transforms),
        (f"{depth}/image_raw", messages.IMAGE, lambda i: image(_depth(i), "16UC1", i)),
        (f"{color}/image_raw", messages.IMAGE, lambda i: image(_color(), "rgb8", i)),
        ("/imu", "sensor_msgs/msg/Imu", lambda i: {"header": header(i)}),
    ]


def _mcap_seeds() -> list[Case]:
    from mcap.writer import CompressionType

    kinds: list[Callable[[Path], Any]] = [
        _ours,
        lambda path: _theirs(path, compression=CompressionType.NONE),
        lambda path: _theirs(path, compression=CompressionType.LZ4),
        lambda path: _theirs(path, use_chunking=False),
        lambda path: _theirs(path, compression=CompressionType.NONE, use_statistics=False, use_summary_offsets=False),
    ]
    return [{"r.mcap": _read_back(write, "r.mcap")} for write in kinds]


def _read_mcap(folder: Path) -> None:
    path = folder / "r.mcap"
    with RecordingReader(path) as reader:
        _ = reader.topics, reader.metadata, reader.channels()
        for message in reader.raw_messages():
            bytes(message.data[:1])
    with RecordingReader(path) as reader:
        for topic in reader.topics:
            _tolerate(lambda topic=topic: [None for _ in reader.messages([topic])])
        for camera in reader.cameras:
            _tolerate(lambda camera=camera: [None for _ in reader.frames(camera)])
        _tolerate(reader.check_rgbd)


def _read_damaged(folder: Path) -> None:
    recover(folder / "r.mcap", folder / OUT)
    with RecordingReader(folder / OUT) as reader:
        for message in reader.raw_messages():
            bytes(message.data[:1])


def _tolerate(action: Callable[[], Any]) -> None:
    try:
        action()
    except BodydoubleError:
        return


# Policies


def contract_of(**changes: Any) -> PolicyContract:
    """Return a small contract; its golden vectors are those of no network."""
    values: dict[str, Any] = {
        "robot": "toy",
        "joint_names": ("hip", "knee"),
        "default_joint_pos": (0.1, -0.2),
        "kp": (10.0, 20.0),
        "kd": (1.0, 2.0),
        "effort_limit": (5.0, 6.0),
        "joint_lower": (-1.0, -2.0),
        "joint_upper": (1.0, 2.0),
        "joint_velocity_limit": (10.0, 10.0),
        "action_mode": "residual_default",
        "action_scale": (0.25, 0.5),
        "observation": (
            ObservationTerm("command", 1, 1.0, 10.0, 1, "none"),
            ObservationTerm("joint_pos", 2, 1.0, 10.0, 2, "joint"),
        ),
        "reference_offsets": (),
        "control_hz": 50.0,
        "physics_dt": 0.005,
        "quaternion_order": "wxyz",
        "versions": {"bodydouble": "0"},
        "hashes": {"weights": "0"},
        "golden_inputs": ((0.1,) * 5,),
        "golden_outputs": ((0.3, 0.4),),
        "command_names": ("speed",),
        "command_low": (-1.0,),
        "command_high": (1.0,),
    }
    return PolicyContract(**{**values, **changes})


def _contract_seeds() -> list[Case]:
    from bodydouble.randomisation import LogUniform, Randomisation, RandomisedTerm, Uniform

    terms = (
        RandomisedTerm("mass", "all", LogUniform(0.8, 1.25), "scale", "simulation"),
        RandomisedTerm("push", "base", Uniform(-0.5, 0.5), "add", "interval", interval_s=Uniform(5.0, 10.0)),
    )
    reference = {
        "action_mode": "residual_reference", "reference_offsets": (1, 4), "command_names": (), "command_low": (),
        "command_high": (), "observation": (ObservationTerm("joint_pos", 5, 1.0, 10.0, 1, "joint"),),
    }  # fmt: skip
    found = (
        contract_of(),
        contract_of(randomisation=Randomisation(terms)),
        contract_of(memory_size=1, golden_memory=((0.5,),)),
        contract_of(**reference),
    )
    return [{"contract.json": contract.to_json().encode()} for contract in found]


def _read_contract(folder: Path) -> None:
    text = (folder / "contract.json").read_bytes().decode("utf-8", "replace")
    contract = PolicyContract.from_json(text)
    again = PolicyContract.from_json(contract.to_json())
    if again != contract:
        raise AssertionError("a contract does not read back as it was written")


def policy_bytes(memory: int = 0, **changes: Any) -> bytes:
    """Return a small policy file: one matrix, or a memory that fades."""
    from onnx import TensorProto, helper, numpy_helper

    from robot.policy_file import weights_sha256

    size, joints = 5, 2
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["obs", "weight", "bias"], ["action"])]
    arrays = {"weight": rng.standard_normal((size, joints)), "bias": np.zeros(joints)}
    rows = {"obs": size, "action": joints}
    if memory:
        nodes = [
            helper.make_node("Mul", ["memory", "half"], ["kept"]),
            helper.make_node("MatMul", ["obs", "weight"], ["seen"]),
            helper.make_node("Add", ["kept", "seen"], ["next_memory"]),
            helper.make_node("MatMul", ["next_memory", "head"], ["action"]),
        ]
        arrays = {"half": np.full((), 0.5), "weight": rng.standard_normal((size, memory)),
                  "head": rng.standard_normal((memory, joints))}  # fmt: skip
        rows |= {"memory": memory, "next_memory": memory}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in rows.items()}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    inputs = [values[name] for name in ("obs", "memory") if name in values]
    outputs = [values[name] for name in ("action", "next_memory") if name in values]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    obs = np.linspace(-1, 1, size, dtype=np.float32)
    weight = arrays["weight"].astype(np.float32)
    after = obs @ weight
    action = after @ arrays["head"].astype(np.float32) if memory else after
    contract = contract_of(
        **{"hashes": {"weights": weights_sha256(model)}, "memory_size": memory, **changes},
        golden_inputs=(exact_floats(obs),),
        golden_outputs=(exact_floats(action),),
        golden_memory=(exact_floats(after),) if memory else (),
    )
    model.metadata_props.add(key=METADATA_KEY, value=contract.to_json())
    return model.SerializeToString()


def _policy_seeds() -> list[Case]:
    return [{"p.onnx": policy_bytes()}, {"p.onnx": policy_bytes(memory=3)}]


def _read_policy(folder: Path) -> None:
    from robot.policy_file import PolicyFile

    PolicyFile(folder / "p.onnx")


def _mend_policy(case: Case, rng: random.Random) -> Case:
    """Put the hash of the mutated network into the contract, so that the network itself gets to onnxruntime."""
    import onnx

    from robot.policy_file import weights_sha256

    try:
        model = onnx.ModelProto.FromString(case["p.onnx"])
        entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        contract = json.loads(entry.value)
        contract["hashes"]["weights"] = weights_sha256(model)
        entry.value = json.dumps(contract)
    except Exception:  # the case is beyond mending; it is tried as it is
        return case
    return {"p.onnx": model.SerializeToString()}


# Folders and archives of others


def _png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _bag_seeds() -> list[Case]:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    cases = []
    for plugin, mode in (
        (StoragePlugin.SQLITE3, None),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, None),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bag"
            writer = Writer(path, version=9, storage_plugin=plugin)
            if mode is not None:
                writer.set_compression(mode, CompressionFormat.ZSTD)
            with writer:
                for topic, msgtype, fields in _bag_messages():
                    connection = writer.add_connection(topic, msgtype, typestore=messages.typestore())
                    for i in range(2):
                        writer.write(connection, T0 + i * STEP, messages.serialize(msgtype, fields(i)))
            cases.append({f"bag/{file.name}": file.read_bytes() for file in sorted(path.iterdir())})
    return cases


def _read_bag(folder: Path) -> None:
    from perception.importers.rosbag import import_rosbag

    import_rosbag(folder / "bag", folder / OUT)


def _mend_bag(case: Case, rng: random.Random) -> Case:
    """Change a sqlite bag by its own library: one value of one row, any type, so that the pages stay sound."""
    name = next((name for name in case if name.endswith(".db3")), "")
    if not name:
        return case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.db3"
        path.write_bytes(case[name])
        try:
            database = sqlite3.connect(path)
            table = rng.choice(("topics", "messages"))
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            column = rng.choice(columns)
            value = rng.choice((None, 0, -1, (1 << 63) - 1, "x", 1.5, b"", rng.randbytes(40)))
            database.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, rng.randrange(1, 13)))
            database.commit()
            database.close()
        except sqlite3.Error:
            return case
        return {**case, name: path.read_bytes()}


def _r3d_entries() -> dict[str, bytes]:
    import liblzfse

    pose = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    meta = {"w": 48, "h": 64, "dw": 12, "dh": 16, "K": [100.0, 0, 0, 0, 104.0, 0, 23.5, 31.5, 1], "fps": 10}
    out = {"metadata": json.dumps({**meta, "poses": [pose, pose]}).encode()}
    for i in range(2):
        depth = np.random.default_rng(i).uniform(0.5, 4.0, (16, 12)).astype(np.float32)
        out[f"rgbd/{i}.jpg"] = _png(np.full((64, 48, 3), 90, np.uint8), "JPEG")
        out[f"rgbd/{i}.depth"] = liblzfse.compress(depth.tobytes())
        out[f"rgbd/{i}.conf"] = liblzfse.compress(np.full((16, 12), 2, np.uint8).tobytes())
    return out


def _zipped(entries: Mapping[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


def _r3d_seeds() -> list[Case]:
    return [{"r.r3d": _zipped(_r3d_entries(), kind)} for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]


def _read_r3d(folder: Path) -> None:
    from perception.importers.record3d import import_record3d

    import_record3d(folder / "r.r3d", folder / OUT)


def _mend_r3d(case: Case, rng: random.Random) -> Case:
    """Change one entry and zip again: the archive's checksums are right."""
    entries = _r3d_entries()
    name = rng.choice(sorted(entries))
    named = {"entry.json" if name == "metadata" else "entry": entries[name]}
    entries[name] = next(iter(mutate(named, rng).values()))
    return {"r.r3d": _zipped(entries, zipfile.ZIP_STORED)}


def _tum_seeds() -> list[Case]:
    case: Case = {}
    lists: dict[str, list[str]] = {"rgb": ["# colour"], "depth": ["# depth"], "groundtruth": ["# truth"]}
    for i in range(2):
        stamp = f"1305031102.{175304 + 33333 * i:06d}"
        case[f"tum/rgb/{stamp}.png"] = _png(_color())
        case[f"tum/depth/{stamp}.png"] = _png(_depth(i) * np.uint16(5))
        lists["rgb"].append(f"{stamp} rgb/{stamp}.png")
        lists["depth"].append(f"{stamp} depth/{stamp}.png")
        lists["groundtruth"].append(f"{stamp} 0.1 {0.2 * i} 1.0 0 0 0 1")
    return [case | {f"tum/{name}.txt": ("\n".join(lines) + "\n").encode() for name, lines in lists.items()}]


def _read_tum(folder: Path) -> None:
    from perception.importers.tum import import_tum

    import_tum(folder / "tum", folder / OUT)


def _sevenscenes_seeds() -> list[Case]:
    case: Case = {"seq/camera-intrinsics.txt": b"585 0 8\n0 586 6\n0 0 1\n"}
    for i in range(2):
        case[f"seq/frame-{i:06d}.color.png"] = _png(_color())
        case[f"seq/frame-{i:06d}.depth.png"] = _png(_depth(i))
        case[f"seq/frame-{i:06d}.pose.txt"] = f"1 0 0 {0.1 * i}\n0 1 0 0\n0 0 1 0.3\n0 0 0 1\n".encode()
    return [case]


def _read_sevenscenes(folder: Path) -> None:
    from perception.importers.sevenscenes import import_sevenscenes

    import_sevenscenes(folder / "seq", folder / OUT)


def _folder_seeds() -> list[Case]:
    intrinsics = {"fx": 20.0, "fy": 20.0, "cx": 7.5, "cy": 5.5, "width": W, "height": H}
    case: Case = {"f/intrinsics.json": json.dumps(intrinsics).encode()}
    for i in range(2):
        case[f"f/color/{i:04d}.jpg"] = _png(_color(), "JPEG")
        case[f"f/depth/{i:04d}.png"] = _png(_depth(i))
    return [case]


def _read_folder(folder: Path) -> None:
    from perception.importers.image_folder import ImageFolderConfig, import_image_folder

    import_image_folder(folder / "f", folder / OUT, ImageFolderConfig(fps=10.0))


def _motion_seeds() -> list[Case]:
    from bodydouble.motion import RobotMotion

    zeros = np.zeros((3, 2))
    motion = RobotMotion(
        fps=50.0, joint_names=("a", "b"), root_pos=np.zeros((3, 3)), root_quat=np.tile([1.0, 0, 0, 0], (3, 1)),
        joint_pos=zeros, root_lin_vel=np.zeros((3, 3)), root_ang_vel=np.zeros((3, 3)), joint_vel=zeros,
        body_names=("pelvis",), body_pos=np.zeros((3, 1, 3)), body_quat=np.tile([1.0, 0, 0, 0], (3, 1, 1)),
        contact_names=("foot",), contact=np.ones((3, 1), dtype=bool),
    )  # fmt: skip
    return [{"m.npz": _read_back(motion.save, "m.npz")}]


def _read_motion(folder: Path) -> None:
    from bodydouble.motion import RobotMotion

    RobotMotion.load(folder / "m.npz")


def _mend_motion(case: Case, rng: random.Random) -> Case:
    """Change the bytes of one array and zip again: the archive's checksums are right."""
    with zipfile.ZipFile(io.BytesIO(_motion_seeds_once())) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(entries))
    head = entries[name][: rng.choice((10, 128, len(entries[name])))]
    entries[name] = mutate({"entry": head}, rng)["entry"] + entries[name][len(head) :]
    return {"m.npz": _zipped(entries, zipfile.ZIP_STORED)}


@cache
def _motion_seeds_once() -> bytes:
    return _motion_seeds()[0]["m.npz"]


TARGETS = (
    Target("contract", 0.43, _contract_seeds, _read_contract),
    Target("mcap", 0.27, _mcap_seeds, _read_mcap),
    Target("recover", 0.08, _mcap_seeds, _read_damaged),
    Target("policy", 0.12, _policy_seeds, _read_policy, _mend_policy),
    Target("motion", 0.05, _motion_seeds, _read_motion, _mend_motion),
    Target("rosbag2", 0.01, _bag_seeds, _read_bag, _mend_bag),
    Target("record3d", 0.01, _r3d_seeds, _read_r3d, _mend_r3d),
    Target("tum", 0.01, _tum_seeds, _read_tum),
    Target("sevenscenes", 0.01, _sevenscenes_seeds, _read_sevenscenes),
    Target("images", 0.01, _folder_seeds, _read_folder),
)
"""Every target; the shares add up to one."""


class Runner:
    """Tries cases of one target in a folder of its own.

    Args:
        target: The target.
        folder: An empty folder.
    """

    def __init__(self, target: Target, folder: Path):
        self.target = target
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._seeds = target.seeds()
        self._there: Case = {}

    def case(self, rng: random.Random) -> Case:
        """Return a mutated case."""
        base = rng.choice(self._seeds)
        if self.target.mend is None or rng.random() < 0.5:
            return mutate(base, rng)
        if self.target.name == "policy":
            return self.target.mend(mutate(base, rng), rng)
        return self.target.mend(base, rng)

    def sound(self) -> None:
        """Try the cases that are sound; raises what a parser raises."""
        for case in self._seeds:
            self._write(case)
            self.target.read(self._folder)

    def attempt(self, case: Case) -> bool:
        """Return whether a case was taken; False where it was refused as it should be.

        Raises:
            Exception: Whatever else the parser raised; AssertionError for a file left where none may be.
        """
        self._write(case)
        taken = True
        try:
            self.target.read(self._folder)
        except BodydoubleError as error:
            taken = False
            if not str(error) or "\n" in str(error).strip():
                raise AssertionError(f"a message that is not one line: {str(error)[:200]!r}") from None
        (self._folder / OUT).unlink(missing_ok=True)
        tops = {name.split("/")[0] for name in case}
        left = {path.name for path in self._folder.iterdir()} - tops
        if left:
            raise AssertionError(f"files were left: {sorted(left)}")
        return taken

    def _write(self, case: Case) -> None:
        """Write what differs from the last case."""
        if set(case) != set(self._there):
            shutil.rmtree(self._folder)
            self._folder.mkdir()
            self._there = {}
        write_case(self._folder, {name: data for name, data in case.items() if self._there.get(name) != data})
        self._there = dict(case)


def packed(case: Case) -> bytes:
    """Return a case as one file: a zip archive."""
    return _zipped(case, zipfile.ZIP_DEFLATED)


def unpacked(data: bytes) -> Case:
    """Return the case of such a file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

"""The robot's side: inference, latency through DDS, missed ticks, recorder and reader, replay, the fault table.

    python -m benchmarks.robot --part inference
    python -m benchmarks.robot --part latency --seconds 60
    python -m benchmarks.robot --part latency_normal --seconds 60
    python -m benchmarks.robot --part ticks --seconds 600
    python -m benchmarks.robot --part ticks_normal --seconds 600
    python -m benchmarks.robot --part recording
    python -m benchmarks.robot --part replay [--run RUN --policy POLICY.onnx --stage STAGE]
    BODYDOUBLE_FAULTS=FOLDER pytest tests/robot -m "" && python -m benchmarks.robot --part faults --faults FOLDER

Each part is written by itself beside the others into results/robot.json, and the picture is drawn from what is there.
Policies are networks of random weights with the G1's sizes: 29 joints, the tracking observation. Run it on a machine
that does nothing else. A latency is the time from sending a joint state to the receipt of the command that was computed
from it: the policy's node is a process of its own, both ways go through DDS, and the wait for the next tick is in it.
The node asks for real-time priority, as is its default; the parts `..._normal` are without it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.robot_rig import standing_robot
from bodydouble.contract import METADATA_KEY, PolicyContract, exact_floats
from bodydouble.motion import RobotMotion
from bodydouble.observation import TRACKING_OFFSETS, tracking_spec
from bodydouble.recording import RecordingReader, RecordingWriter, messages
from bodydouble.report.figures import merge_figures
from robot.onnx_file import weights_sha256
from robot.policy_file import PolicyFile

JOINTS = tuple(f"joint_{i}" for i in range(29))
NETWORKS = {"2x128": (128, 128), "3x256": (256, 256, 256), "3x512": (512, 512, 512)}
ASKED = "3x512"
RATES = (50, 500)
SEED = 0
NORMAL = "realtime_priority:=0"
JOINT_STATE = "sensor_msgs/msg/JointState"
RESULTS = Path(__file__).parent / "results" / "robot.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "bench_robot.png"


def network(sizes: tuple[int, ...]) -> onnx.ModelProto:
    """Return an MLP with ELU between its layers and small random weights."""
    rng = np.random.default_rng(SEED)
    nodes, weights, name = [], [], "obs"
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        last = layer == len(sizes) - 2
        weight = rng.standard_normal((rows, columns)) * (0.02 if last else 1.0) / np.sqrt(rows)
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"weight{layer}"),
            numpy_helper.from_array(np.zeros(columns, dtype=np.float32), f"bias{layer}"),
        ]
        out = "action" if last else f"sum{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"weight{layer}", f"bias{layer}"], [out]))
        name = out
        if not last:
            nodes.append(helper.make_node("Elu", [out], [f"hidden{layer}"]))
            name = f"hidden{layer}"
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])
        for n, s in (("obs", sizes[0]), ("action", sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "policy", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def make_policy(path: Path, hidden: tuple[int, ...], hz: float) -> Path:
    """Write a policy with that network and a whole contract."""
    count, spec = len(JOINTS), tracking_spec(len(JOINTS))
    model = network((spec.size, *hidden, count))
    rows = np.random.default_rng(1).standard_normal((2, spec.size)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    actions = [np.asarray(session.run(["action"], {"obs": row[None]})[0])[0] for row in rows]
    contract = PolicyContract(
        robot="benchmark", joint_names=JOINTS, default_joint_pos=(0.0,) * count, kp=(100.0,) * count,
        kd=(2.0,) * count, effort_limit=(100.0,) * count, joint_lower=(-2.0,) * count, joint_upper=(2.0,) * count,
        joint_velocity_limit=(20.0,) * count, action_mode="residual_reference", action_scale=(0.5,) * count,
        observation=spec.terms, reference_offsets=TRACKING_OFFSETS, control_hz=hz, physics_dt=0.002,
        quaternion_order="wxyz", versions={}, hashes={"weights": weights_sha256(model)},
        golden_inputs=tuple(exact_floats(row) for row in rows),
        golden_outputs=tuple(exact_floats(row) for row in actions),
    )  # fmt: skip
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, contract.to_json()
    path.write_bytes(model.SerializeToString())
    return path


def make_reference(path: Path, hz: float, seconds: float = 2.0) -> Path:
    """Write a reference that stands."""
    frames, upright = round(seconds * hz), [1.0, 0.0, 0.0, 0.0]
    zeros = np.zeros((frames, 3))
    RobotMotion(
        fps=hz, joint_names=JOINTS, root_pos=np.tile([0.0, 0.0, 0.8], (frames, 1)),
        root_quat=np.tile(upright, (frames, 1)), joint_pos=np.zeros((frames, len(JOINTS))), root_lin_vel=zeros,
        root_ang_vel=zeros, joint_vel=np.zeros((frames, len(JOINTS))), body_names=("pelvis",),
        body_pos=np.zeros((frames, 1, 3)), body_quat=np.tile(upright, (frames, 1, 1)),
        contact_names=("left_foot",), contact=np.ones((frames, 1), dtype=bool),
    ).save(path)  # fmt: skip
    return path


def spread(name: str, values: np.ndarray) -> dict[str, float]:
    """Return p50, p99 and max of values in ms."""
    p50, p99 = np.percentile(values, [50, 99])
    found = {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": values.max()}
    return {key: round(float(value), 4) for key, value in found.items()}


def inference(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Time `PolicyFile.step`, for args.seconds with each network."""
    figures: dict[str, float] = {}
    for name, hidden in NETWORKS.items():
        policy = PolicyFile(make_policy(folder / f"{name}.onnx", hidden, 50.0))
        rows = np.random.default_rng(SEED).standard_normal((64, policy.contract.spec.size)).astype(np.float32)
        memory, times = policy.empty_memory(), []
        for row in rows:
            policy.step(row, memory)
        end = time.perf_counter() + args.seconds
        while (begun := time.perf_counter()) < end:
            policy.step(rows[len(times) % 64], memory)
            times.append(1000 * (time.perf_counter() - begun))
        figures |= spread(f"inference_{name}", np.array(times))
    figures["inference_p99_ms"] = figures[f"inference_{ASKED}_p99_ms"]
    return figures, {"networks": {name: list(hidden) for name, hidden in NETWORKS.items()}, "threads": 1}


@contextmanager
def policy_process(folder: Path, hz: float, *parameters: str) -> Iterator[None]:
    """Run the policy's node as a process in its own ROS domain, which this process joins; parameters as name:=value."""
    policy, reference = make_policy(folder / f"{hz}.onnx", NETWORKS[ASKED], hz), folder / f"{hz}.npz"
    make_reference(reference, hz)
    os.environ |= {"ROS_DOMAIN_ID": str(1 + os.getpid() % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    words = ["--policy", str(policy), "--reference", str(reference), "--subscribers", "1"]
    words += ["--ros-args"]
    for parameter in ("autostart:=true", *parameters):
        words += ["-p", parameter]
    process = subprocess.Popen([sys.executable, "-m", "robot.nodes.policy_node", *words])
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def latency(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """From a joint state's sending to the receipt of the command that was computed from it, and the hops between."""
    return _latency(folder, args, "")


def latency_normal(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """The same without a real-time priority of the control thread."""
    return _latency(folder, args, "_normal", NORMAL)


def _latency(
    folder: Path, args: argparse.Namespace, suffix: str, *parameters: str
) -> tuple[dict[str, float], dict[str, Any]]:
    with policy_process(folder, 50.0, *parameters), standing_robot(JOINTS, args.sensor_hz) as heard:
        heard.wait_for_run()
        time.sleep(args.seconds)
    spans = heard.latencies_ms()
    total = spans.pop("ros_in_to_out")
    details = {"commands": len(total), "sensor_hz": args.sensor_hz, "control_hz": 50, "seconds": args.seconds}
    hops = {name: spread(name, span) for name, span in spans.items()}
    return spread(f"ros_in_to_out{suffix}", total), details | {"hops": hops, "realtime": _realtime(parameters)}


def ticks(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Missed ticks at each rate, for args.seconds each."""
    return _ticks(folder, args, "")


def ticks_normal(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """The same without a real-time priority of the control thread."""
    return _ticks(folder, args, "_normal", NORMAL)


def _ticks(
    folder: Path, args: argparse.Namespace, suffix: str, *parameters: str
) -> tuple[dict[str, float], dict[str, Any]]:
    figures: dict[str, float] = {}
    for hz in RATES:
        with policy_process(folder, float(hz), *parameters), standing_robot(JOINTS, 200) as heard:
            heard.wait_for_run()
            first = heard.missed
            begun = len(heard.late_ms)
            time.sleep(args.seconds)
            late, missed = np.array(heard.late_ms[begun:]), heard.missed - first
        figures |= {f"ticks_{hz}hz{suffix}": float(len(late)), f"missed_ticks_{hz}hz{suffix}": float(missed)}
        figures[f"missed_ticks_{hz}hz{suffix}_pct"] = round(100 * missed / (len(late) + missed), 4)
        figures |= spread(f"late_{hz}hz{suffix}", late)
    return figures, {"seconds": args.seconds, "realtime": _realtime(parameters)}


def _realtime(parameters: tuple[str, ...]) -> bool:
    """Return whether the control thread had a real-time priority: it was asked for, and this machine grants it."""
    ask = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"
    granted = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=False).returncode == 0
    return granted and NORMAL not in parameters


def best_rate(size_mb: float, count: int, action: Callable[[], object], name: str) -> dict[str, float]:
    """Return MB/s and messages/s of an action, the best of three, by processor time."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return {f"{name}_mb_s": round(size_mb / best, 1), f"{name}_messages_s": round(count / best)}


def recording(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Write and read joint states of 29 joints, beside rosbags and plain mcap, on one core."""
    from mcap.reader import make_reader
    from mcap.writer import CompressionType
    from mcap.writer import Writer as McapWriter
    from mcap_ros2.decoder import DecoderFactory
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as BagWriter

    rng = np.random.default_rng(SEED)
    data = []
    for i in range(args.messages):
        head = messages.header(i * 1_000_000, "base")
        fields = {"header": head, "name": list(JOINTS)} | {
            part: rng.standard_normal(len(JOINTS)) for part in ("position", "velocity", "effort")
        }
        data.append(messages.serialize(JOINT_STATE, fields))
    size_mb, count = sum(map(len, data)) / 1e6, len(data)
    ours, plain, text = folder / "ours.mcap", folder / "plain.mcap", messages.definition(JOINT_STATE)
    number = iter(range(1000))

    def write_ours() -> None:
        with RecordingWriter(ours) as writer:
            for i, cdr in enumerate(data):
                writer.write_cdr("/joint_states", JOINT_STATE, cdr, i, i)

    def write_plain() -> None:
        with open(plain, "wb") as file:
            writer = McapWriter(file, chunk_size=1 << 20, compression=CompressionType.ZSTD)
            writer.start("ros2", "benchmark")
            channel = writer.register_channel(
                "/joint_states", "cdr", writer.register_schema(JOINT_STATE, "ros2msg", text.encode())
            )
            for i, cdr in enumerate(data):
                writer.add_message(channel, i, cdr, i)
            writer.finish()

    def write_bag(storage: StoragePlugin) -> None:
        with BagWriter(folder / f"bag{next(number)}", version=9, storage_plugin=storage) as bag:
            connection = bag.add_connection("/joint_states", JOINT_STATE, typestore=messages.typestore())
            for i, cdr in enumerate(data):
                bag.write(connection, i, cdr)

    def read_ours() -> int:
        with RecordingReader(ours) as reader:
            return sum(1 for _ in reader.messages())

    def read_rosbags() -> int:
        with AnyReader([ours]) as reader:
            return sum(reader.deserialize(raw, c.msgtype) is not None for c, _, raw in reader.messages())

    def read_plain() -> int:
        with open(ours, "rb") as file:
            reader = make_reader(file, decoder_factories=[DecoderFactory()])
            return sum(1 for _ in reader.iter_decoded_messages())

    figures: dict[str, float] = {}
    for name, action in (
        ("recorder", write_ours), ("mcap_write", write_plain),
        ("rosbags_sqlite3_write", lambda: write_bag(StoragePlugin.SQLITE3)),
        ("rosbags_mcap_write", lambda: write_bag(StoragePlugin.MCAP)),
        ("reader", read_ours), ("rosbags_read", read_rosbags), ("mcap_read", read_plain),
    ):  # fmt: skip
        figures |= best_rate(size_mb, count, action, name)
    return figures, {"messages": count, "message_bytes": len(data[0]), "file_mb": round(ours.stat().st_size / 1e6, 1)}


def replay(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Replay a run bit by bit: the given one, or a minute of a standing robot that is made here."""
    from robot.replay import replay as replay_run
    from robot.shadow import ShadowConfig, shadow

    run, policy, stage = args.run, args.policy, args.stage
    if run is None:
        stage, policy = folder / "stage", make_policy(folder / "policy.onnx", NETWORKS[ASKED], 50.0)
        stage.mkdir()
        make_reference(stage / "reference.npz", 50.0)
        shadow(make_recording(folder / "made.mcap", args.seconds), policy, folder / "run", stage, ShadowConfig("track"))
        run = folder / "run" / "shadow.mcap"
    run = run / "run.mcap" if run.is_dir() else run
    reports = [replay_run(run, policy, stage) for _ in range(3)]
    figures = {
        "replay_x_realtime": round(float(np.median([report.x_realtime for report in reports])), 1),
        "replay_diff_bits": float(max(report.diff_bits for report in reports)),
        "replay_ticks": float(reports[0].ticks),
    }
    return figures, {"made": args.run is None}


def make_recording(path: Path, seconds: float) -> Path:
    """Write the sensors of a robot that sways, at 200 Hz."""
    with RecordingWriter(path) as writer:
        for i in range(round(200 * seconds)):
            t = 1_000_000_000 + i * 5_000_000
            head, sway = messages.header(t, "base"), 0.05 * np.sin(0.02 * i + np.arange(len(JOINTS)))
            fields = {"header": head, "name": list(JOINTS), "position": sway, "velocity": np.zeros(len(JOINTS))}
            upright = {"w": 1.0}
            writer.write("/joint_states", JOINT_STATE, fields, t)
            imu = {"header": head, "orientation": upright, "linear_acceleration": {"z": 9.81}}
            writer.write("/imu", "sensor_msgs/msg/Imu", imu, t)
            pose = {"pose": {"position": {"z": 0.8}, "orientation": upright}}
            writer.write("/odom", "nav_msgs/msg/Odometry", {"header": head, "pose": pose}, t)
    return path


def faults(folder: Path, args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Take in what the tests of the fault table measured."""
    from tests.robot.faults import outcomes

    del folder
    if args.faults is None:
        raise SystemExit("--part faults needs --faults FOLDER, which BODYDOUBLE_FAULTS=FOLDER pytest tests/robot wrote")
    found = outcomes(args.faults)
    figures = {name: float(found[name]) for name in ("faults_passed", "faults_total")}
    return figures, {"rows": found["rows"]}


PARTS = {
    "inference": inference, "latency": latency, "latency_normal": latency_normal, "ticks": ticks,
    "ticks_normal": ticks_normal, "recording": recording, "replay": replay, "faults": faults,
}  # fmt: skip


def picture(results: dict[str, Any], out: Path) -> None:
    """Draw what the results hold: inference, latencies, recorder and reader."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figures = results["figures"]
    times = {
        **{f"inference {name}": f"inference_{name}" for name in NETWORKS},
        "joint state in to command out": "ros_in_to_out",
        "the same, normal priority": "ros_in_to_out_normal",
        **{f"tick after its deadline, {hz} Hz": f"late_{hz}hz" for hz in RATES},
    }
    times = {label: name for label, name in times.items() if f"{name}_p99_ms" in figures}
    speeds = {
        "our recorder": "recorder", "mcap, writing": "mcap_write", "rosbags, writing MCAP": "rosbags_mcap_write",
        "rosbags, writing sqlite3": "rosbags_sqlite3_write", "our reader": "reader", "rosbags, reading": "rosbags_read",
        "mcap-ros2, reading": "mcap_read",
    }  # fmt: skip
    speeds = {label: figures[f"{n}_messages_s"] / 1000 for label, n in speeds.items() if f"{n}_messages_s" in figures}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
    for row, name in enumerate(times.values()):
        p50, p99, most = (figures[f"{name}_{part}_ms"] for part in ("p50", "p99", "max"))
        left.plot([p50, most], [row, row], color="#b0b7c3", linewidth=2, zorder=1)
        for value, marker, color in ((p50, "o", "#3b7dd8"), (p99, "D", "#d8863b"), (most, "|", "#222")):
            left.scatter(value, row, marker=marker, color=color, zorder=2)
        left.annotate(f"p99 {p99:.2f}", (p99, row), xytext=(0, 6), textcoords="offset points", fontsize=7, ha="center")
    left.set_yticks(range(len(times)), list(times), fontsize=8)
    left.set_xscale("log")
    left.set_xlabel("ms: p50, p99, max")
    left.invert_yaxis()
    bars = right.barh(
        list(speeds), list(speeds.values()), color=["#3b7dd8" if "our" in n else "#b0b7c3" for n in speeds]
    )
    right.bar_label(bars, labels=[f"{value:.0f}" for value in speeds.values()], padding=3, fontsize=8)
    right.invert_yaxis()
    right.tick_params(labelsize=8)
    right.set_xlabel("thousand joint states (29 joints) per second and core")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--seconds", type=float, help="length of a measurement; 600 for ticks, 60 otherwise")
    parser.add_argument("--messages", type=int, default=50_000, help="joint states of the recording part")
    parser.add_argument(
        "--sensor-hz",
        type=float,
        default=997.0,
        help="rate of the joint states of the latency part; one that the control rate divides would keep one "
        "distance to the ticks for the whole run",
    )
    parser.add_argument("--run", type=Path, help="run to replay; needs --policy and --stage")
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--stage", type=Path)
    parser.add_argument("--faults", type=Path, help="folder of the fault table's outcomes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    if args.seconds is None:
        args.seconds = 600.0 if args.part.startswith("ticks") else 60.0
    if (args.run is None) != (args.policy is None) or (args.run is None) != (args.stage is None):
        parser.error("--run, --policy and --stage belong together")
    with tempfile.TemporaryDirectory() as folder:
        figures, details = PARTS[args.part](Path(folder), args)
    command = f"python -m benchmarks.robot --part {args.part}"
    if args.part not in ("recording", "faults") and args.run is None:
        command += f" --seconds {args.seconds:g}"
    seeds = [] if args.part == "faults" else [SEED]
    results = merge_figures(args.out, args.part, command, figures, seeds=seeds, **details)
    picture(results, args.picture)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

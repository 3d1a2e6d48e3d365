"""Runs as a LeRobot dataset (v3.0): what the robot measured, what it was commanded, one episode per run.

The layout, as lerobot's dataset package reads it (huggingface/lerobot, codebase version v3.0):

    meta/info.json                               features, counts, path templates
    meta/stats.json                              min, max, mean, std, count of each feature
    meta/tasks.parquet                           task_index, with the task's text as the pandas index
    meta/episodes/chunk-000/file-000.parquet     one row per episode
    data/chunk-000/file-000.parquet              one row per frame
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bodydouble.artifacts import atomic_dir
from bodydouble.contract import PolicyContract
from bodydouble.errors import ContractError, InputError, RecordingError
from bodydouble.frames import wxyz_from_xyzw
from bodydouble.recording.messages import stamp_ns
from bodydouble.recording.reader import RecordingReader
from robot.policy_file import PolicyFile
from robot.replay import INPUT_TOPICS
from robot.run_figures import read_ticks

if TYPE_CHECKING:
    import pyarrow

CODEBASE_VERSION = "v3.0"
"""Version of the layout."""
CHUNKS_SIZE, DATA_FILES_SIZE_MB, VIDEO_FILES_SIZE_MB = 1000, 100, 200
"""lerobot's defaults; everything goes into one file, which its readers take."""
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
TASKS_PATH = "meta/tasks.parquet"
PROVENANCE_FILE = "meta/bodydouble.json"
"""Where the episodes come from; lerobot's readers pass it over."""
_BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_MODES = ("ramp", "run")
"""Ticks in which the policy commands."""


@dataclass(frozen=True)
class Episode:
    """One run at the control rate. T frames, S values of the state, J joints."""

    source: Path
    """The run."""
    task: str
    """What was done, in words."""
    state: np.ndarray
    """Measured state (T, S), float32: joint positions and speeds, base orientation (wxyz) and angular velocity."""
    action: np.ndarray
    """Commanded joint targets (T, J), rad, float32: what the safety layer let through."""


@dataclass(frozen=True)
class ExportResult:
    """What was written."""

    path: Path
    """The dataset."""
    episodes: int
    """Episodes."""
    frames: int
    """Frames."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.path}: {self.episodes} episodes, {self.frames} frames, LeRobot {CODEBASE_VERSION}"


def export_lerobot(runs: Sequence[Path], policy: Path, out: Path, task: str) -> ExportResult:
    """Write recorded runs of one policy as a LeRobot dataset, one episode per run.

    An episode goes from the first to the last tick in which the policy commands; a tick that stops, or one that is
    missing, ends it, since a dataset's frames are one control period apart.

    Args:
        runs: Run folders or their .mcap files.
        policy: The ONNX file that ran: joint names, rate and robot.
        out: Folder of the dataset.
        task: What was done, in words.

    Raises:
        InputError: There is no run, the rate is no whole number, or pyarrow is missing.
        RecordingError: A run is damaged or holds no tick with a command.
        ContractError: A run is of a robot with other joints.
    """
    if not runs:
        raise InputError("no run is named; give one or more with --run")
    if not task.strip():
        raise InputError("--task is empty; say in words what the robot does")
    contract = PolicyFile(policy).contract
    if contract.control_hz != round(contract.control_hz):
        raise InputError(f"{policy}: runs at {contract.control_hz} Hz; a LeRobot dataset needs a whole number")
    episodes = [read_episode(run / "run.mcap" if run.is_dir() else run, contract, task) for run in runs]
    write_dataset(episodes, contract, out)
    return ExportResult(out, len(episodes), sum(len(episode.action) for episode in episodes))


def read_episode(run: Path, contract: PolicyContract, task: str) -> Episode:
    """Return a run's frames.

    Raises:
        RecordingError: It is damaged, holds no tick with a command, or lacks an input that a tick consumed.
        ContractError: It is of a robot with other joints.
    """
    joints, imus = _inputs(run, contract)
    state, action, last = [], [], None
    for tick in read_ticks(run):
        if tick["mode"] not in _MODES or tick.get("command") is None:
            if action:
                break
            continue
        if last is not None and tick["tick"] != last + 1:
            break
        last = tick["tick"]
        try:
            row = np.concatenate([joints[tick["stamps"]["joint_states"]], imus[tick["stamps"]["imu"]]])
        except (KeyError, TypeError):
            raise RecordingError(f"{run}: lacks an input that tick {last} consumed; the recorder dropped it") from None
        command = np.array(tick["command"], dtype=np.float64)
        if command.shape != (len(contract.joint_names),):
            raise ContractError(f"{run}: commands {command.size} joints, the policy has {len(contract.joint_names)}")
        state.append(row)
        action.append(command)
    if not action:
        raise RecordingError(f"{run}: holds no tick in which the policy commands")
    return Episode(run, task, np.array(state, dtype=np.float32), np.array(action, dtype=np.float32))


def features(contract: PolicyContract) -> dict[str, dict[str, Any]]:
    """Return the dataset's features: type, shape and names of each column."""
    names = contract.joint_names
    state = [f"{name}.{what}" for what in ("pos", "vel") for name in names]
    state += [f"base.quat_{axis}" for axis in "wxyz"] + [f"base.gyro_{axis}" for axis in "xyz"]
    found: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": [len(state)], "names": state},
        "action": {"dtype": "float32", "shape": [len(names)], "names": [f"{name}.pos" for name in names]},
    }
    return found | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in _BOOKKEEPING.items()}


def write_dataset(episodes: Sequence[Episode], contract: PolicyContract, out: Path) -> None:
    """Write episodes; a folder that is there is replaced as a whole.

    Raises:
        InputError: pyarrow is missing, or the folder holds something else than a dataset.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("a LeRobot dataset needs pyarrow; install bodydouble[lerobot]") from None
    if out.exists() and not (out / "meta" / "info.json").is_file():
        raise InputError(f"{out}: is there and is no dataset; give another folder")
    fps, tasks = round(contract.control_hz), list(dict.fromkeys(episode.task for episode in episodes))
    columns = [_columns(episode, number, fps, tasks) for number, episode in enumerate(episodes)]
    starts = np.cumsum([0, *(len(episode.action) for episode in episodes)])
    for column, start in zip(columns, starts, strict=False):
        column["index"] += start
    shapes = features(contract)
    schema = pa.schema([(name, _arrow_type(pa, spec)) for name, spec in shapes.items()])
    rows = [_episode_row(episode, number, starts, column) for number, (episode, column) in
            enumerate(zip(episodes, columns, strict=True))]  # fmt: skip
    info = {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": contract.robot,
        "total_episodes": len(episodes),
        "total_frames": int(starts[-1]),
        "total_tasks": len(tasks),
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILES_SIZE_MB,
        "video_files_size_in_mb": VIDEO_FILES_SIZE_MB,
        "fps": fps,
        "splits": {"train": f"0:{len(episodes)}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": shapes,
    }
    whole = {name: np.concatenate([column[name] for column in columns]) for name in shapes}
    with atomic_dir(out) as folder:
        data = folder / DATA_PATH.format(chunk_index=0, file_index=0)
        for path in (data, folder / EPISODES_PATH):
            path.parent.mkdir(parents=True)
        with pq.ParquetWriter(data, schema) as writer:  # one row group per episode: one read fetches it
            for column in columns:
                arrays = [
                    _arrow_array(pa, column[name], field.type) for name, field in zip(shapes, schema, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        pq.write_table(pa.Table.from_pylist(rows), folder / EPISODES_PATH)
        pq.write_table(_task_table(pa, tasks), folder / TASKS_PATH)
        _write(folder / "meta" / "info.json", info)
        _write(folder / "meta" / "stats.json", {name: _statistics(values) for name, values in whole.items()})
        sources = [episode.source.parent.name + "/" + episode.source.name for episode in episodes]
        _write(folder / PROVENANCE_FILE, {"sources": sources, "policy_hashes": contract.hashes})


def _inputs(run: Path, contract: PolicyContract) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Return positions and speeds (2 J,), and orientation and angular velocity (7,), by stamp."""
    joints: dict[int, np.ndarray] = {}
    imus: dict[int, np.ndarray] = {}
    order: list[int] = []
    known: list[str] = []
    with RecordingReader(run) as reader:
        for found in reader.messages([INPUT_TOPICS["joint_states"], INPUT_TOPICS["imu"]]):
            message = found.message
            stamp = stamp_ns(message.header.stamp)
            if found.topic == INPUT_TOPICS["imu"]:
                q, w = message.orientation, message.angular_velocity
                quat = wxyz_from_xyzw(np.array([q.x, q.y, q.z, q.w]))
                imus[stamp] = np.concatenate([quat, [w.x, w.y, w.z]])
                continue
            if list(message.name) != known:
                known = list(message.name)
                absent = [name for name in contract.joint_names if known.count(name) != 1]
                if absent:
                    raise ContractError(f"{run}: names joint {absent[0]} {known.count(absent[0])} times, expected once")
                order = [known.index(name) for name in contract.joint_names]
            if len(message.position) == len(message.velocity) == len(known):
                joints[stamp] = np.concatenate([message.position[order], message.velocity[order]])
    return joints, imus


def _columns(episode: Episode, number: int, fps: int, tasks: list[str]) -> dict[str, np.ndarray]:
    frames = np.arange(len(episode.action))
    return {
        "observation.state": episode.state,
        "action": episode.action,
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(len(frames), number),
        "index": frames.copy(),
        "task_index": np.full(len(frames), tasks.index(episode.task)),
    }


def _episode_row(episode: Episode, number: int, starts: np.ndarray, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "episode_index": number,
        "tasks": [episode.task],
        "length": len(episode.action),
        "data/chunk_index": 0,
        "data/file_index": 0,
        "dataset_from_index": int(starts[number]),
        "dataset_to_index": int(starts[number + 1]),
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    for name, values in columns.items():
        row |= {f"stats/{name}/{key}": value for key, value in _statistics(values).items()}
    return row


def _statistics(values: np.ndarray) -> dict[str, list[float]]:
    """Return min, max, mean and population standard deviation per value, and the number of frames."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": rows.min(axis=0).tolist(),
        "max": rows.max(axis=0).tolist(),
        "mean": rows.mean(axis=0).tolist(),
        "std": rows.std(axis=0).tolist(),
        "count": [len(rows)],
    }


def _arrow_type(pa: Any, spec: dict[str, Any]) -> pyarrow.DataType:
    kind = pa.float32() if spec["dtype"] == "float32" else pa.int64()
    # A feature of one value is a plain column, as lerobot declares it.
    return kind if spec["shape"] == [1] else pa.list_(kind, spec["shape"][0])


def _arrow_array(pa: Any, values: np.ndarray, kind: Any) -> pyarrow.Array:
    if values.ndim == 1:
        return pa.array(values, type=kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)


def _task_table(pa: Any, tasks: list[str]) -> pyarrow.Table:
    """Return the tasks' table; the text is the index of the pandas frame that lerobot reads it into."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
         "metadata": None},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ]  # fmt: skip
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.2.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=4, ensure_ascii=False, allow_nan=False) + "\n")

"""The LeRobot export: every field against the documented layout, and lerobot's own reader where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install bodydouble[lerobot]")

import pyarrow as pa
import pyarrow.parquet as pq

from bodydouble.cli import main
from bodydouble.errors import ContractError, InputError, RecordingError
from robot.lerobot_export import export_lerobot
from robot.run_figures import read_ticks
from robot.shadow import shadow
from tests.robot.samples import JOINTS, toy_motion, toy_policy
from tests.robot.test_shadow import TRACK, samples, write_mcap

TASK = "walk three steps"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    """A policy, and two runs of 50 and 25 ticks: what the shadow writes has a run's form."""
    folder = tmp_path_factory.mktemp("lerobot")
    (folder / "stage").mkdir()
    toy_motion().save(folder / "stage" / "reference.npz")
    policy = toy_policy(folder / "toy.onnx")
    runs = []
    for name, count in (("a", 200), ("b", 100)):
        shadow(write_mcap(folder / f"{name}.mcap", samples(count)), policy, folder / name, folder / "stage", TRACK)
        runs.append(folder / name / "shadow.mcap")
    return folder, policy, runs


@pytest.fixture(scope="module")
def dataset(made: tuple[Path, Path, list[Path]]) -> Path:
    folder, policy, runs = made
    result = export_lerobot(runs, policy, folder / "dataset", TASK)
    assert (result.episodes, result.frames) == (2, 75)
    return result.path


def test_info_is_what_the_layout_asks_for(dataset: Path) -> None:
    info = json.loads((dataset / "meta" / "info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": 2,
        "total_frames": 75,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 50,
        "splits": {"train": "0:2"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
    }
    assert features["action"] == {"dtype": "float32", "shape": [3], "names": [f"{name}.pos" for name in JOINTS]}
    assert features["observation.state"]["shape"] == [13] == [len(features["observation.state"]["names"])]
    for name, kind in (("timestamp", "float32"), *((n, "int64") for n in ("frame_index", "episode_index", "index",
                                                                         "task_index"))):  # fmt: skip
        assert features[name] == {"dtype": kind, "shape": [1], "names": None}
    assert not any("/" in name for name in features)


def test_data_columns_and_values(dataset: Path, made: tuple[Path, Path, list[Path]]) -> None:
    info = json.loads((dataset / "meta" / "info.json").read_text())
    path = dataset / info["data_path"].format(chunk_index=0, file_index=0)
    table = pq.read_table(path)
    assert table.schema.names == list(info["features"])
    for name, spec in info["features"].items():
        scalar = {"float32": pa.float32(), "int64": pa.int64()}[spec["dtype"]]
        assert table.schema.field(name).type == (scalar if spec["shape"] == [1] else pa.list_(scalar, *spec["shape"]))
    assert table["index"].to_pylist() == list(range(75))
    assert table["episode_index"].to_pylist() == [0] * 50 + [1] * 25
    assert table["frame_index"].to_pylist() == [*range(50), *range(25)]
    assert set(table["task_index"].to_pylist()) == {0}
    np.testing.assert_allclose(table["timestamp"].to_numpy(), np.r_[0:50, 0:25] / 50, atol=1e-6)
    commands = np.array([tick["command"] for run in made[2] for tick in read_ticks(run)])
    np.testing.assert_array_equal(np.array(table["action"].to_pylist()), commands.astype(np.float32))
    state = np.array(table["observation.state"].to_pylist())
    pose = [0.05, 0.1, -0.1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(state, np.tile(pose, (75, 1)), atol=1e-7)
    assert pq.ParquetFile(path).num_row_groups == 2, "one per episode"


def test_episodes_tasks_and_statistics(dataset: Path) -> None:
    rows = pq.read_table(dataset / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    info = json.loads((dataset / "meta" / "info.json").read_text())
    data = pq.read_table(dataset / "data" / "chunk-000" / "file-000.parquet")
    plain = [{name: value for name, value in row.items() if not name.startswith("stats/")} for row in rows]
    common = {"tasks": [TASK], "data/chunk_index": 0, "data/file_index": 0, "meta/episodes/chunk_index": 0,
              "meta/episodes/file_index": 0}  # fmt: skip
    assert plain == [
        common | {"episode_index": 0, "length": 50, "dataset_from_index": 0, "dataset_to_index": 50},
        common | {"episode_index": 1, "length": 25, "dataset_from_index": 50, "dataset_to_index": 75},
    ]
    stats = json.loads((dataset / "meta" / "stats.json").read_text())
    assert set(stats) == set(info["features"])
    for name, spec in info["features"].items():
        values = np.array(data[name].to_pylist(), dtype=np.float64).reshape(75, -1)
        assert all(len(stats[name][key]) == spec["shape"][0] for key in ("min", "max", "mean", "std"))
        assert stats[name]["count"] == [75]
        np.testing.assert_allclose(stats[name]["mean"], values.mean(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(stats[name]["std"], values.std(axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(rows[1][f"stats/{name}/max"], values[50:].max(axis=0), rtol=1e-6)
    tasks = pq.read_table(dataset / "meta" / "tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0], "task": [TASK]}
    # lerobot looks the text up as the name of the row: it must be the index of the pandas frame.
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_pandas_reads_the_tasks_by_name(dataset: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    tasks = pandas.read_parquet(dataset / "meta" / "tasks.parquet")
    assert tasks.iloc[0].name == TASK and list(tasks.columns) == ["task_index"]


def test_lerobot_reads_it_back(dataset: Path) -> None:
    reason = "lerobot is not installed; the layout is checked field by field by the other tests"
    module = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason=reason)
    found = module.LeRobotDataset(repo_id="local/runs", root=dataset)
    assert found.num_episodes == 2 and len(found) == 75 and found.fps == 50
    assert tuple(found[60]["action"].shape) == (3,) and found[60]["task"] == TASK
    assert int(found[60]["episode_index"]) == 1 and int(found[60]["frame_index"]) == 10


def test_refusals_leave_what_was_there(made: tuple[Path, Path, list[Path]], tmp_path: Path) -> None:
    folder, policy, runs = made
    with pytest.raises(InputError, match="no run is named"):
        export_lerobot([], policy, tmp_path / "d", TASK)
    with pytest.raises(RecordingError, match="holds no ticks"):
        export_lerobot([folder / "a.mcap"], policy, tmp_path / "d", TASK)
    other = toy_policy(tmp_path / "other.onnx", joint_names=("hip", "knee", "toe"))
    with pytest.raises(ContractError, match="names joint toe 0 times"):
        export_lerobot(runs, other, tmp_path / "d", TASK)
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="is no dataset"):
        export_lerobot(runs, policy, tmp_path / "notes", TASK)
    assert not (tmp_path / "d").exists() and (tmp_path / "notes").is_dir()


def test_command_line(made: tuple[Path, Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["export-lerobot", "--run", *map(str, made[2]), "--policy", str(made[1]), "--out", str(tmp_path / "d")]
    assert main(argv) == 0 and "2 episodes, 75 frames, LeRobot v3.0" in capsys.readouterr().out

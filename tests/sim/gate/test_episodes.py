"""Episodes of the gate: paired across policies, repeatable one by one, recorded so that they can be replayed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bodydouble.artifacts import read_json
from bodydouble.cli import main
from bodydouble.errors import InputError
from bodydouble.observation import RobotState
from bodydouble.recording.reader import RecordingReader
from policy.checkpoint import load_checkpoint, save_checkpoint
from policy.export import export
from policy.shipped import shipped_checkpoint
from robot.policy_file import PolicyFile
from robot.replay import replay
from robot.runtime import TickResult
from sim.gate.episodes import CAUSES, Episode, run_episodes
from sim.gate.record import EPISODE_RECORD, TRUTH_TOPIC
from sim.gate.seeded_batch import SeededBatch
from sim.gate.tiers import TIERS, Tier
from sim.gate.verify import VerifyConfig, finished_report, verify, verify_episode
from sim.stage.stage import Stage
from sim.tasks.tracking.config import TerminationConfig

SEEDS = [3, 4, 5]
PUSHED = next(tier for tier in TIERS if tier.name == "T4")


class Diary:
    """Keeps what the sensors said and what was sent."""

    def __init__(self) -> None:
        self.seen: dict[int, list[np.ndarray]] = {}
        self.sent: dict[int, list[np.ndarray]] = {}
        self.qpos: dict[int, list[np.ndarray]] = {}

    def step(self, number: int, t_ns: int, seen: RobotState, result: TickResult, qpos: np.ndarray) -> None:
        noise = np.concatenate([seen.joint_pos[number] - qpos[7:36].astype(np.float32), seen.root_pos[number]])
        self.seen.setdefault(number, []).append(noise)
        self.qpos.setdefault(number, []).append(qpos)
        if result.command is not None:
            self.sent.setdefault(number, []).append(result.command)


@pytest.fixture(scope="module")
def weak_path(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy with its last layer turned around: it falls within a second."""
    folder = tmp_path_factory.mktemp("weak")
    net, info, _ = load_checkpoint(shipped_checkpoint("unitree_g1"))
    last = [name for name in net.state_dict() if name.startswith("actor.net") and name.endswith("weight")][-1]
    net.state_dict()[last].mul_(-2.0)
    save_checkpoint(folder / "policy.safetensors", net, info)
    return export(folder / "policy.safetensors", stage.path, folder / "policy.onnx").path


def run(file: PolicyFile, stage: Stage, seeds: list[int], tier: Tier = PUSHED, threads: int = 1) -> tuple:
    diary = Diary()
    return run_episodes(file, stage, tier, seeds, TerminationConfig(), threads, diary), diary


def test_an_episode_alone_is_the_same_as_among_others(policy_file: PolicyFile, stage: Stage) -> None:
    together, diary = run(policy_file, stage, SEEDS, threads=2)
    assert len({episode.trajectory_sha256 for episode in together}) == len(SEEDS)
    for number, seed in enumerate(SEEDS):
        (alone,), own = run(policy_file, stage, [seed])
        assert alone == together[number]
        np.testing.assert_array_equal(np.array(own.qpos[0]), np.array(diary.qpos[number]))
        np.testing.assert_array_equal(np.array(own.sent[0]), np.array(diary.sent[number]))


def test_policies_meet_the_same_perturbations(policy_file: PolicyFile, weak_path: Path, stage: Stage) -> None:
    """Sensor noise is the same bit by bit while both are up, though they move differently and end at other times."""
    good, first = run(policy_file, stage, SEEDS)
    bad, second = run(PolicyFile(weak_path), stage, SEEDS)
    for number in range(len(SEEDS)):
        assert bad[number].lasted_s < good[number].lasted_s and bad[number].cause in CAUSES
        steps = len(second.seen[number])
        assert steps > 10
        a, b = (np.array(diary.seen[number][:steps])[:, :29] for diary in (first, second))
        # The noise is added to float32 positions; what is left after taking them away has their rounding.
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.ptp(a, axis=0).min() > 0.005
        assert np.abs(np.array(first.qpos[number][:steps]) - np.array(second.qpos[number])).max() > 0.05


def test_draws_of_a_simulation_are_its_own(stage: Stage) -> None:
    model = stage.compile(visuals=False)
    together, alone = SeededBatch(model, [7, 8, 9], 1), SeededBatch(model, [8], 1)
    for shape in ((1,), (4, 5), (3000,), (2,)):
        both = together.random(3, *shape), together.normal(3, *shape)
        np.testing.assert_array_equal(both[0][1:2], alone.random(1, *shape))
        np.testing.assert_array_equal(both[1][1:2], alone.normal(1, *shape))
        assert both[0].dtype == np.float32 and both[0].min() >= 0 and both[0].max() < 1
    assert together.random(3).shape == (3,)
    with pytest.raises(ValueError, match="one row per simulation"):
        together.random(2, 4)


def test_a_failed_episode_is_recorded_replays_and_can_be_run_again(
    weak_path: Path, stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "verify.json"
    argv = ["verify", "--policy", str(weak_path), "--stage", str(stage.path)]
    code = main([*argv, "--out", str(out), "--config.episodes", "2", "--config.recordings", "1"])
    told, saved = capsys.readouterr().out, read_json(out)
    assert code == 1 and "asked 0.90" in told and "reported only" in told and "; failed: 2 " in told
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert saved["thresholds"]["min_success"] == {"T0": 1.0, "T1": 0.9, "T2": 0.8, "T3": 0.0, "T4": 0.0}
    tier = saved["tiers"][2]
    failed = tier["failed"][0]
    assert failed["cause"] in CAUSES and tier["failures"][failed["cause"]] >= 1 and tier["failed"][1]["recording"] == ""
    path = tmp_path / failed["recording"]
    with RecordingReader(path) as reader:
        record = reader.metadata[EPISODE_RECORD]
        assert record["cause"] == failed["cause"] and record["tier"] == "T2" and record["seed"] == str(failed["seed"])
        qpos = [np.array(message.message.data) for message in reader.messages([TRUTH_TOPIC])]
    assert len(qpos) == round(failed["at_s"] * stage.control_hz) and qpos[0].shape == (36,)
    report = replay(path, weak_path, stage.path)
    assert report.diff_bits == 0 and report.ticks == len(qpos)
    again = tmp_path / "again.mcap"
    argv += ["--episode", str(failed["seed"]), "--tier", "T2", "--record", str(again)]
    assert main(argv) == 1
    told = capsys.readouterr().out
    assert failed["trajectory_sha256"] in told and failed["cause"] in told
    with RecordingReader(again) as reader:
        repeated = [np.array(message.message.data) for message in reader.messages([TRUTH_TOPIC])]
    np.testing.assert_array_equal(np.array(repeated), np.array(qpos))
    finished = finished_report(out, weak_path, stage.path, VerifyConfig(episodes=2, recordings=1))
    assert finished is not None and finished.tiers[2].failed[0].recording == failed["recording"]
    assert json.loads(json.dumps(dataclasses.asdict(finished.tiers[2]))) == tier


def test_what_only_belongs_together_is_refused(policy_path: Path, stage: Stage, tmp_path: Path) -> None:
    argv = ["verify", "--policy", str(policy_path), "--stage", str(stage.path)]
    assert main([*argv, "--tier", "T2"]) == 2 and main([*argv, "--episode", "1"]) == 2
    assert main([*argv, "--episode", "1", "--tier", "T1", "--record", str(tmp_path / "x.bag")]) == 2
    for tier, seed in (("T9", 0), ("T1", -1)):
        with pytest.raises(InputError, match="expected T0 to T4, and a seed of at least 0"):
            verify_episode(policy_path, stage.path, tier, seed)
    good = verify_episode(policy_path, stage.path, "T0", 0)
    assert isinstance(good, Episode) and good.cause == "" and good.lasted_s > 1.5
    report = verify(policy_path, stage.path, VerifyConfig(episodes=1, threads=1))
    assert report.tiers[0].body_error_m == good.body_error_m

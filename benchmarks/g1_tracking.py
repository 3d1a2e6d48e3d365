"""How the shipped general G1 tracker follows motions that it was not trained on, without any training for them.

    python -m benchmarks.g1_tracking --work DIR [--sets heldout demo own cmu lafan1] [--stage runs/demo/stage]
    python -m benchmarks.g1_tracking --work DIR --lafan1-library OUT
    python -m benchmarks.g1_tracking --work DIR --sets lafan1 --checkpoint FILE --name trained

Sets: `heldout`, 50 generated clips of seeds and boxes of their own; `demo`, a stage of the demo; `own`, a squat and a
reach and turn; `cmu` and `lafan1`, recordings under BODYDOUBLE_DATA. Every clip is followed in MuJoCo from its first
frame, per tier of the gate; LAFAN1's minutes are cut into windows of 10 s, each of which begins and ends in full
motion. A clip that was judged before with the same checkpoint is not judged again.

The second line writes what a policy for the LAFAN1 clips is trained on (`policy.pretrain`), the third judges that
policy. Their licence lets neither the clips nor such a policy be shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from bodydouble.motion import RobotMotion
from bodydouble.report.figures import merge_figures
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.training_library import LibraryConfig, build_library
from policy.checkpoint import load_checkpoint
from policy.nets.actor_critic import MeanPolicy
from policy.shipped import shipped_checkpoint
from sim.backend.cpu_batch import CpuBatch
from sim.env.evaluate import evaluate
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.gate.tiers import TIERS
from sim.retarget.bvh import load_bvh
from sim.retarget.config import RetargetConfig
from sim.retarget.lafan1 import load_lafan1
from sim.retarget.retarget import retarget
from sim.robots import robot_spec
from sim.stage.stage import PHYSICS_DT, Stage
from sim.stage.write import add_floor
from sim.tasks.tracking.config import ResetConfig, TrackingConfig
from sim.tasks.tracking.library import load_library, save_library

RESULTS = Path(__file__).parent / "results" / "rl.json"
HELDOUT = LibraryConfig(Path("heldout"), clips=12, robot_clips=45, seed=9500, blocks_seed=9500)
"""The held-out clips: the first 50 of them that are no demo."""
OWN_CLIPS = {
    "squat": (
        Segment("stand", 1.0), Segment("squat", 2.8, 0.9), Segment("stand", 0.4), Segment("squat", 2.2, 0.6),
        Segment("stand", 1.0),
    ),
    "reach_turn": (
        Segment("stand", 1.0), Segment("reach", 2.4, 1.0, "right"), Segment("turn", 4.2, 1.4),
        Segment("reach", 2.2, 0.9, "left"), Segment("stand", 1.0),
    ),
}  # fmt: skip
"""Clips of the project's own."""
HELDOUT_CLIPS, WINDOW_S = 50, 10.0
ROBOT = "unitree_g1"


@dataclass(frozen=True)
class Clip:
    """One motion to follow."""

    name: str
    """Set and place in it."""
    motion: RobotMotion
    """The reference."""
    model: mujoco.MjModel
    """The model that it is followed in."""
    end_hold_s: float = 0.5
    """Time that the last pose is held; none where a motion is cut off."""


def heldout(work: Path) -> Iterator[Clip]:
    """Yield the held-out clips; they are made once."""
    folder = work / "heldout"
    if not (folder / "library.npz").is_file():
        build_library(LibraryConfig(**{**vars(HELDOUT), "out": folder}))
    model = mujoco.MjModel.from_binary_path(str(folder / "model.mjb"))
    motions = load_library(folder / "library.npz", model)
    # The demo's copies come first.
    first = next(i for i, m in enumerate(motions) if not np.array_equal(m.joint_pos, motions[0].joint_pos))
    for index, motion in enumerate(motions[first : first + HELDOUT_CLIPS]):
        yield Clip(f"heldout_{index:02}", motion, model)


def stage_clips(path: Path, name: str) -> Iterator[Clip]:
    """Yield a stage's reference."""
    stage = Stage.load(path)
    yield Clip(name, stage.motions[0], stage.compile(visuals=False))


def flat_model() -> mujoco.MjModel:
    """Return the robot on a floor."""
    spec = robot_spec(ROBOT).mjspec(PHYSICS_DT, visuals=False)
    add_floor(spec)
    return spec.compile()


def cmu(data: Path) -> Iterator[Clip]:
    """Yield the CMU walk, retargeted."""
    human = load_bvh(data / "motion_cmu_bvh/bvh_data/cmu_12_01_walk.bvh")
    motion = retarget(human, robot_spec(ROBOT), RetargetConfig(contact_source="kinematic"))
    yield Clip("cmu_walk", motion, flat_model())


def own() -> Iterator[Clip]:
    """Yield the project's own clips, acted by a person and retargeted."""
    from perception.synthetic.acting import act

    for name, segments in OWN_CLIPS.items():
        motion = retarget(act(MotionConfig(segments, start_xy=(0, 0))), robot_spec(ROBOT))
        yield Clip(f"own_{name}", motion, flat_model())


def lafan1(data: Path) -> Iterator[Clip]:
    """Yield windows of the LAFAN1 clips that Unitree retargeted."""
    robot, model = robot_spec(ROBOT), flat_model()
    for path in sorted((data / "motion_lafan1_g1").glob("*.csv")):
        seconds = load_lafan1(path, robot).duration_s
        for start in np.arange(0.0, seconds - WINDOW_S, WINDOW_S):
            motion = load_lafan1(path, robot, start_s=float(start), end_s=float(start + WINDOW_S))
            yield Clip(f"lafan1_{path.stem.split('_')[0]}_{start:.0f}", motion, model, end_hold_s=0.0)


def write_lafan1_library(data: Path, out: Path) -> None:
    """Write model, robot and the windows of the LAFAN1 clips for `policy.pretrain`."""
    out.mkdir(parents=True, exist_ok=True)
    mujoco.mj_saveModel(flat_model(), str(out / "model.mjb"))
    TrackedRobot.from_spec(robot_spec(ROBOT)).save(out / "robot.json")
    save_library([clip.motion for clip in lafan1(data)], out / "library.npz")


def judge(clip: Clip, tier: int, episodes: int, policy: MeanPolicy, robot: TrackedRobot, seed: int) -> dict[str, float]:
    """Return the share of episodes that followed a clip to its end, and the mean body error."""
    seconds = clip.motion.duration_s + 1.0
    task = TrackingConfig(
        episode_s=seconds,
        end_hold_s=clip.end_hold_s,
        reset=ResetConfig.exact(),
        randomisation=TIERS[tier].randomisation,
    )
    env = TrackingEnv(CpuBatch(clip.model, episodes, seed, 1), robot, [clip.motion], task)

    @torch.no_grad()
    def act(obs: np.ndarray) -> np.ndarray:
        return policy(torch.as_tensor(obs)).numpy()

    result = evaluate(env, act, round(seconds * task.control_hz) + 1)
    return {"success": result.success_rate, "body_error_m": result.mean_body_error_m}


def figures_of(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the figures that the judged clips give; a set counts every clip once."""
    figures: dict[str, float] = {}

    def mean(pattern: str, key: str = "success") -> float | None:
        values = [row[key] for name, row in results.items() if re.fullmatch(pattern, name)]
        return round(float(np.mean(values)), 4) if values else None

    wanted: dict[str, float | None] = {}
    for tier in range(3):
        wanted[f"g1_general_t{tier}_success"] = mean(rf"heldout_\d+ T{tier}")
        wanted[f"g1_general_demo_t{tier}_success"] = mean(rf"demo T{tier}")
        wanted[f"g1_general_cmu_walk_t{tier}_success"] = mean(rf"cmu_walk T{tier}")
    wanted["g1_general_t0_body_error_m"] = mean(r"heldout_\d+ T0", "body_error_m")
    wanted["g1_general_clips"] = float(sum(bool(re.fullmatch(r"heldout_\d+ T1", name)) for name in results))
    for stem in sorted({name.split("_")[1] for name in results if name.startswith("lafan1_")}):
        wanted[f"g1_general_t0_success_lafan1_{stem}"] = mean(rf"lafan1_{stem}_\d+ T0")
        wanted[f"g1_trained_t0_success_lafan1_{stem}"] = mean(rf"trained_lafan1_{stem}_\d+ T0")
        wanted[f"g1_trained_t0_body_error_m_lafan1_{stem}"] = mean(rf"trained_lafan1_{stem}_\d+ T0", "body_error_m")
    # A policy specialised on a clip counts before the general one.
    for kind in ("own", "cmu", "demo", "specialised"):
        for name in sorted(results):
            if (match := re.fullmatch(r"(?:own_|specialised_)?(\w+) T2", name)) and name.startswith(kind):
                wanted[f"g1_t2_success_{match[1]}"] = results[name]["success"]
    figures |= {key: value for key, value in wanted.items() if value is not None}
    return figures


def main() -> None:
    """Judge what is not judged yet, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of what was made and judged so far")
    parser.add_argument("--sets", nargs="+", default=["heldout", "demo", "own", "cmu", "lafan1"], help="what to judge")
    parser.add_argument("--stage", type=Path, default=Path("runs/demo/stage"), help="the demo's stage")
    parser.add_argument("--checkpoint", type=Path, default=None, help="policy; none takes the shipped general one")
    parser.add_argument("--name", default="", help="of a specialised policy: its clip's, judged on --stage; or trained")
    parser.add_argument("--lafan1-library", type=Path, default=None, help="only write the LAFAN1 clips for training")
    parser.add_argument("--episodes", type=int, default=2, help="episodes of each clip in T1 and T2")
    parser.add_argument("--tiers", type=int, nargs="+", default=[0, 1, 2], help="tiers to judge in")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that receives the figures")
    args = parser.parse_args()
    data = Path(os.environ.get("BODYDOUBLE_DATA", "../shared/data"))
    if args.lafan1_library:
        write_lafan1_library(data, args.lafan1_library)
        return
    checkpoint = args.checkpoint or shipped_checkpoint(ROBOT, "general")
    net, _, _ = load_checkpoint(checkpoint)
    policy, robot = MeanPolicy(net), TrackedRobot.from_spec(robot_spec(ROBOT))
    key = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    args.work.mkdir(parents=True, exist_ok=True)
    done_file = args.work / f"judged_{args.name or 'general'}_{key}.json"
    results: dict[str, dict[str, float]] = json.loads(done_file.read_text()) if done_file.is_file() else {}
    sources = {
        "heldout": lambda: heldout(args.work),
        "demo": lambda: stage_clips(args.stage, "demo"),
        "own": own,
        "cmu": lambda: cmu(data),
        "lafan1": lambda: lafan1(data),
    }
    console = Console(stderr=True)
    trained = args.name == "trained"
    clips = (
        list(stage_clips(args.stage, f"specialised_{args.name}"))
        if args.name and not trained
        else [clip for name in args.sets for clip in sources[name]()]
    )
    for clip in track(clips, "clips", console=console):
        for tier in [0] if clip.name.startswith("lafan1") else args.tiers:
            row = f"{'trained_' if trained else ''}{clip.name} T{tier}"
            episodes = args.episodes * (10 if clip.name.startswith(("demo", "own", "cmu", "specialised")) else 1)
            if row not in results:
                results[row] = judge(clip, tier, 1 if tier == 0 else episodes, policy, robot, seed=tier)
                done_file.write_text(json.dumps(results))
    # Specialised policies and the general one are judged by runs of their own.
    for path in sorted(args.work.glob("judged_*.json")):
        if not path.name.startswith("judged_general") or path == done_file:
            results |= json.loads(path.read_text())
    figures = figures_of(results)
    console.print(figures)
    command = "python -m benchmarks.g1_tracking --work DIR"
    seeds = (0, 1, 2, HELDOUT.seed)
    merge_figures(args.results, "g1_tracking", command, figures, seeds=seeds, checkpoint=key, clips=results)


if __name__ == "__main__":
    main()

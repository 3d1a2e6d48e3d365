"""Three things that an optimizer is to learn, each as one curve per training: PPO, behaviour cloning, a body's fit.

A curve has one value per update: the return of an update's episodes (PPO), or the loss that the optimizer lowers.
`benchmarks.ablation` runs them all.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from benchmarks.stand_reach import MOTION, ROBOT
from bodydouble.frames import quat_conj, quat_mul, quat_to_rotvec
from perception.body.limits import EASE_WEIGHTS, REST_POSTURE, limit_excess
from perception.fit_config import FitConfig
from perception.skin import Skin, gather
from perception.synthetic.acting import act
from perception.synthetic.motions import MotionConfig, Segment
from perception.synthetic.robot_acting import act_robot
from policy.checkpoint import load_checkpoint
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AnyOptimizer
from policy.rl.gym_task import GymTask
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.runner import Progress, Runner, make_net
from policy.shipped import shipped_checkpoint
from sim.backend.cpu_batch import CpuBatch
from sim.env.reacher_env import ReacherVectorEnv
from sim.env.tracked_robot import TrackedRobot
from sim.env.tracking_env import TrackingEnv
from sim.robots import robot_spec
from sim.stage.stage import PHYSICS_DT
from sim.stage.write import add_floor
from sim.tasks.tracking.config import TrackingConfig

ENVS, PPO_UPDATES = 64, 40
BC_STEPS, BC_BATCH, BC_UPDATES = 100, 256, 400
FIT_FRAMES, FIT_POINTS, FIT_VERTICES, FIT_UPDATES = 12, 300, 300, 150
FIT_NOISE_M, FIT_AWAY_M, FIT_REACH_M = 0.003, 0.08, 0.12


def ppo(optimizer: AnyOptimizer, seed: int) -> list[float]:
    """Return the mean return of each update's episodes on Reacher-v5: 64 episodes, 4 passes of 8 minibatches."""
    torch.manual_seed(seed)
    task = GymTask(ReacherVectorEnv(ENVS, threads=1), seed, window=ENVS)
    config = PPOConfig(
        steps=ReacherVectorEnv.episode_steps,
        epochs=4,
        minibatches=8,
        entropy_weight=0.0,
        target_kl=0.0,
        optimizer=optimizer,
    )
    net = make_net(task.reset(), task.action_size, NetConfig((128, 64), (128, 64)), torch.device("cpu"))
    curve: list[float] = []

    def note(progress: Progress) -> None:
        curve.append(progress.stats["return"])

    Runner(task, PPO(net, config), torch.device("cpu")).train(lambda p: p.update >= PPO_UPDATES, note)
    return curve


@functools.cache
@torch.no_grad()
def taught() -> tuple[torch.Tensor, torch.Tensor]:
    """Return observations (B, P) of the shipped G1 policy while it follows a motion, and its mean actions (B, J)."""
    net, _, _ = load_checkpoint(shipped_checkpoint(ROBOT))
    spec = robot_spec(ROBOT)
    scene = spec.mjspec(PHYSICS_DT, visuals=False)
    add_floor(scene)
    motion = act_robot(MotionConfig(MOTION, start_xy=(0, 0), fps=50.0), spec)
    env = TrackingEnv(CpuBatch(scene.compile(), ENVS, 0, 1), TrackedRobot.from_spec(spec), [motion], TrackingConfig())
    observation = torch.as_tensor(env.reset()["policy"])
    seen, actions = [], []
    for _ in range(BC_STEPS):
        seen.append(observation.clone())
        actions.append(net.actor(observation))
        observation = torch.as_tensor(env.step(actions[-1].numpy()).obs["policy"])
    return torch.cat(seen), torch.cat(actions)


def cloning(optimizer: AnyOptimizer, seed: int) -> list[float]:
    """Return the mean squared error on held-out states after each update of a student that clones the G1 policy."""
    observation, action = taught()
    torch.manual_seed(seed)
    student = ActorCritic(observation.shape[1], 1, action.shape[1], NetConfig((256, 128), (1,))).actor
    student.norm.update(observation)
    order = torch.randperm(len(observation))
    held, rest = order.tensor_split([len(order) // 5])
    built = optimizer.build(student.parameters())
    curve: list[float] = []
    for _ in range(BC_UPDATES):
        index = rest[torch.randint(len(rest), (BC_BATCH,))]
        loss = (student(observation[index]) - action[index]).square().mean()
        built.zero_grad(set_to_none=True)
        loss.backward()
        built.step()
        with torch.no_grad():
            curve.append(float((student(observation[held]) - action[held]).square().mean()))
    return curve


@functools.cache
def clip() -> tuple[Skin, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the sampled body, noisy points (T, P, 3) of a person who squats, and the true pose and root."""
    motion = act(
        MotionConfig((Segment("stand", 0.6), Segment("squat", 2.2, 0.8)), start_xy=(0, 0), fps=FIT_FRAMES / 2.8)
    )
    rng = np.random.default_rng(0)
    dense = Skin(3000)
    pose, root, shape = (torch.as_tensor(x).float() for x in (motion.pose, motion.root_pos, motion.shape))
    vertices = dense.pose(pose, root, shape)[0].vertices
    assert vertices is not None
    pick = torch.as_tensor(rng.integers(0, vertices.shape[1], (len(vertices), FIT_POINTS)))
    points = torch.gather(vertices, 1, pick[..., None].expand(-1, -1, 3))
    points = points + torch.as_tensor(rng.normal(0, FIT_NOISE_M, points.shape)).float()
    return Skin(FIT_VERTICES), points, pose, root


def fit(optimizer: AnyOptimizer, seed: int) -> list[float]:
    """Return the loss before each update of a body's fit to points: poses, places and shape of a short clip at once.

    The data term of `perception.fit` (point to plane against the nearest skin, Geman and McClure) with its joint limits
    and easy posture, lowered by first-order steps; it begins with all bones turned a little and the body 8 cm away.
    """
    skin, points, true_pose, true_root = clip()
    config = FitConfig()
    generator = torch.Generator().manual_seed(seed)
    start = true_pose + 0.06 * torch.randn(true_pose.shape, generator=generator)
    away = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
    # One row per frame: its 22 quaternions, its place.
    quats = torch.nn.Parameter(torch.nn.functional.normalize(start, dim=-1).flatten(1))
    place = torch.nn.Parameter(true_root + FIT_AWAY_M * away)
    shape = torch.nn.Parameter(torch.full((5,), 0.5))
    built = optimizer.build([quats, place, shape])
    rest, ease = torch.as_tensor(REST_POSTURE[1:]).float(), torch.as_tensor(EASE_WEIGHTS[1:]).float()
    curve: list[float] = []
    for _ in range(FIT_UPDATES):
        pose = torch.nn.functional.normalize(quats.unflatten(1, (-1, 4)), dim=-1)
        vertices = skin.body.forward(pose, place, shape).vertices
        assert vertices is not None
        with torch.no_grad():
            normals = skin.pose(pose, place, shape)[1]
            nearest = torch.cdist(points, vertices).argmin(dim=2)
        delta = points - gather(vertices, nearest)
        plane = (delta * gather(normals, nearest)).sum(-1)
        along = (delta.square().sum(-1) - plane**2).clamp_min(1e-12).sqrt()
        squared = plane**2 + (along - 0.05).clamp_min(0) ** 2
        turn = quat_to_rotvec(quat_mul(quat_conj(rest), pose[:, 1:]))
        prior = config.posture * ease * turn.square() + config.limits * limit_excess(turn).square()
        loss = (squared / (squared + FIT_REACH_M**2)).mean() + prior.sum((1, 2)).mean()
        built.zero_grad(set_to_none=True)
        loss.backward()
        built.step()
        curve.append(loss.item())
    return curve

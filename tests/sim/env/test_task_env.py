"""The batched environment of tasks without a stage, for every task and robot that it is offered for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from bodydouble.errors import ContractError, InputError, PhysicsError
from bodydouble.randomisation import Constant, Integers, Normal, Randomisation, RandomisedTerm, Uniform
from sim.backend.cpu_batch import CpuBatch
from sim.env.task_env import TaskEnv
from sim.env.task_gym import TaskGymEnv, TaskVectorEnv
from sim.robots import robot_spec
from sim.tasks.reach.config import ReachConfig
from sim.tasks.reach.reach_task import ReachTask
from sim.tasks.registry import make_task, settings_from_plain, task_names
from sim.tasks.velocity.config import VelocityConfig
from tests.sim.env.torch_batch import TorchBatch

EVERY = [
    ("velocity", "unitree_go1"), ("velocity", "unitree_g1"), ("reach", "i2rt_yam"), ("reach", "ur5e_2f85"),
    ("pick", "i2rt_yam"), ("pick", "ur5e_2f85"),
]  # fmt: skip


def environment(name: str, robot: str, envs: int = 4, seed: int = 0, **changes: Any) -> TaskEnv:
    task = make_task(name, robot)
    task = dataclasses.replace(task, config=dataclasses.replace(task.config, **changes))  # type: ignore[type-var]
    return TaskEnv(CpuBatch(task.model, envs, seed, 1), task)


class Declaring:
    """A task with a randomisation of its own."""

    def __init__(self, task: Any, *terms: RandomisedTerm) -> None:
        self._task, self.randomisation = task, Randomisation(terms)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


@pytest.fixture(scope="module")
def reach() -> ReachTask:
    return ReachTask.of(robot_spec("i2rt_yam"), ReachConfig())


@pytest.mark.parametrize(("name", "robot"), EVERY)
def test_every_task_steps_in_float32_and_resets_itself(name: str, robot: str) -> None:
    env = environment(name, robot, episode_s=0.2)
    obs = env.reset()
    rng = np.random.default_rng(0)
    truncated = 0
    for _ in range(2 * round(0.2 * env.task.control_hz)):
        result = env.step(rng.normal(size=(4, env.num_joints)).astype(np.float32))
        obs = result.obs
        for array in (obs["policy"], obs["critic"], result.reward, *result.measures.values()):
            assert array.dtype == np.float32 and np.isfinite(array).all()
        assert not (result.terminated & result.truncated).any()
        truncated += int(result.truncated.sum())
    assert obs["policy"].shape == (4, env.spec.size)
    assert truncated == 8, "each environment ran out of time twice"


@pytest.mark.parametrize(("name", "robot"), [("velocity", "unitree_go1"), ("reach", "ur5e_2f85"), ("pick", "i2rt_yam")])
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized")
def test_the_single_environment_passes_gymnasiums_checker(name: str, robot: str) -> None:
    check_env(TaskGymEnv(name, robot), skip_render_check=True)


def test_the_vector_environment_hands_out_the_true_last_observation() -> None:
    setup = ReachConfig(episode_s=0.2, randomise=False, joint_noise=0.0)
    env = TaskVectorEnv("reach", "i2rt_yam", 2, setup, threads=1)
    obs, _ = env.reset(seed=5)
    action = np.full((2, env.single_action_space.shape[0]), 0.3, np.float32)  # type: ignore[index]
    for step in range(5):
        last = obs
        obs, _, terminated, truncated, info = env.step(action)
        assert truncated.all() == (step == 4) and not terminated.any()
    np.testing.assert_array_equal(info["_final_obs"], [True, True])
    final = info["final_obs"]
    joints = env.task.robot.num_joints
    # The last observation goes on from the one before it, with the same target; the next one is a fresh start.
    np.testing.assert_array_equal(final[:, -7:], last[:, -7:])
    assert np.abs(final[:, :joints] - last[:, :joints]).max() < 0.2
    np.testing.assert_allclose(obs[:, :joints], 0.0, atol=1e-6)
    assert np.abs(final[:, :joints]).max() > 0.05


def test_a_seed_repeats_the_episode_at_any_number_of_threads() -> None:
    runs = []
    for threads in (1, 2):
        env = TaskVectorEnv("velocity", "unitree_go1", 3, VelocityConfig(episode_s=0.3), threads=threads)
        obs, _ = env.reset(seed=11)
        seen = [obs]
        for _ in range(20):
            obs, *_ = env.step(np.zeros((3, 12), np.float32))
            seen.append(obs)
        runs.append(np.stack(seen))
    np.testing.assert_array_equal(runs[0], runs[1])


def test_spread_episodes_do_not_end_at_once() -> None:
    task = make_task("reach", "i2rt_yam", ReachConfig(episode_s=0.4))
    env = TaskEnv(CpuBatch(task.model, 64, 0, 1), task, spread=True)
    env.reset()
    ended = [int(env.step(np.zeros((64, env.num_joints), np.float32)).truncated.sum()) for _ in range(10)]
    assert sum(ended) == 64 and max(ended) < 20 and min(ended) > 0


def test_a_snapshot_goes_on_exactly() -> None:
    first, second = (environment("velocity", "unitree_go1", seed=4, episode_s=0.3) for _ in range(2))
    action = np.full((4, 12), 0.1, np.float32)
    first.reset()
    for _ in range(7):
        first.step(action)
    state = first.snapshot()
    assert state is not None
    second.reset()
    second.restore({name: array.copy() for name, array in state.items()})
    # Body poses are those of the state only after a step, and the feet's speeds after one more.
    for _ in range(12):
        one, two = first.step(action), second.step(action)
        np.testing.assert_array_equal(one.obs["policy"], two.obs["policy"])
        np.testing.assert_array_equal(one.obs["critic"], two.obs["critic"])
        np.testing.assert_array_equal(one.reward, two.reward)


def test_diverged_physics_raise_with_the_state_in_a_file(reach: ReachTask, tmp_path: Path) -> None:
    env = TaskEnv(CpuBatch(reach.model, 2, 0, 1), reach, dump=tmp_path / "nan.npz")
    env.reset()
    qpos, qvel = env.backend.get_state()
    qvel[1, 0] = np.nan
    env.backend.set_state(qpos, qvel)
    with pytest.raises(PhysicsError, match=r"1 of 2 simulations.*bodydouble view"):
        env.step(np.zeros((2, env.num_joints), np.float32))
    with np.load(tmp_path / "nan.npz") as dump:
        assert {"qpos", "qvel", "target", "bad"} <= set(dump.files) and dump["bad"].tolist() == [False, True]


def test_sensor_noise_bias_and_delay_are_what_is_declared(reach: ReachTask) -> None:
    quiet = TaskEnv(CpuBatch(reach.model, 64, 0, 1), Declaring(reach))  # type: ignore[arg-type]
    obs = quiet.reset()
    np.testing.assert_array_equal(obs["policy"], obs["critic"][:, : quiet.spec.size])
    joints = reach.robot.num_joints
    noisy = Declaring(
        reach,
        RandomisedTerm("sensor_noise", "joint_pos", Normal(0.0, 0.1), "add", "step"),
        RandomisedTerm("sensor_bias", "joint_pos", Constant(0.5), "add", "episode"),
    )  # fmt: skip
    obs = TaskEnv(CpuBatch(reach.model, 64, 0, 1), noisy).reset()  # type: ignore[arg-type]
    error = (obs["policy"] - obs["critic"][:, : reach.observation.size])[:, :joints]
    assert error.mean() == pytest.approx(0.5, abs=0.03) and error.std() == pytest.approx(0.1, abs=0.02)
    late = Declaring(reach, RandomisedTerm("observation_delay", "all", Constant(2), "set", "episode"))
    env = TaskEnv(CpuBatch(reach.model, 3, 0, 1), late)  # type: ignore[arg-type]
    env.reset()
    true, seen = [], []
    for _ in range(6):
        obs = env.step(np.full((3, joints), 0.5, np.float32)).obs
        true.append(obs["critic"][:, :joints])
        seen.append(obs["policy"][:, :joints])
    np.testing.assert_array_equal(seen[5], true[3])
    np.testing.assert_array_equal(seen[2], true[0])


def test_models_differ_as_declared(reach: ReachTask) -> None:
    class Recording(CpuBatch):
        fields: dict[str, np.ndarray]

        def set_model_field(self, name: str, values: np.ndarray) -> None:
            self.__dict__.setdefault("fields", {})[name] = np.array(values)
            super().set_model_field(name, values)

    declared = Declaring(
        reach,
        RandomisedTerm("mass", "all", Constant(2.0), "scale", "simulation"),
        RandomisedTerm("inertia", "all", Constant(1.5), "scale", "simulation"),
        RandomisedTerm("friction", "all", Uniform(0.2, 0.4), "set", "simulation", each=False),
        RandomisedTerm("kp", "all", Uniform(0.5, 0.6), "scale", "simulation"),
        RandomisedTerm("kd", "all", Constant(7.0), "set", "simulation"),
        RandomisedTerm("armature", "all", Constant(0.25), "add", "simulation"),
    )
    backend = Recording(reach.model, 8, 0, 1)
    TaskEnv(backend, declared)  # type: ignore[arg-type]
    fields, model = backend.fields, reach.model
    joints = reach.robot.num_joints
    np.testing.assert_allclose(fields["body_mass"][3], 2.0 * model.body_mass, rtol=1e-6)
    np.testing.assert_allclose(fields["body_inertia"][3], 3.0 * model.body_inertia, rtol=1e-6)
    friction = fields["geom_friction"][:, :, 0]
    assert (friction == friction[:, :1]).all() and len(np.unique(friction[:, 0])) == 8
    gain, bias = fields["actuator_gainprm"][:, :joints], fields["actuator_biasprm"][:, :joints]
    ratio = gain[..., 0] / model.actuator_gainprm[:joints, 0]
    assert ratio.min() >= 0.5 and ratio.max() <= 0.6 and len(np.unique(ratio)) == 8 * joints
    np.testing.assert_allclose(bias[..., 1], -gain[..., 0], rtol=1e-6)
    np.testing.assert_allclose(bias[..., 2], -7.0)
    dofs = [int(model.jnt_dofadr[model.joint(name).id]) for name in reach.robot.joint_names]
    np.testing.assert_allclose(fields["dof_armature"][0, dofs] - model.dof_armature[dofs], 0.25, rtol=1e-5)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (RandomisedTerm("action_latency", "all", Integers(0, 9), "set", "episode"), "declare a shorter latency"),
        (RandomisedTerm("sensor_noise", "camera", Constant(1), "add", "step"), "no such sensor"),
        (RandomisedTerm("sensor_noise", "joint_pos", Constant(1), "scale", "step"), "is added"),
        (RandomisedTerm("mass", "all", Constant(1), "scale", "episode"), "per simulation"),
        (RandomisedTerm("kp", "elbow", Constant(1), "scale", "simulation"), "expected it of all"),
        (RandomisedTerm("friction", "feet", Constant(1), "set", "simulation"), "has no feet"),
        (RandomisedTerm("push", "base", Constant(1), "add", "interval", interval_s=Constant(1)), "cannot be pushed"),
    ],
)
def test_a_randomisation_that_cannot_be_applied_is_refused(
    reach: ReachTask, term: RandomisedTerm, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TaskEnv(CpuBatch(reach.model, 1, 0, 1), Declaring(reach, term))  # type: ignore[arg-type]


def test_a_control_step_that_is_no_multiple_of_the_physics_step_is_refused() -> None:
    with pytest.raises(InputError, match="shorter than a control step"):
        environment("reach", "i2rt_yam", episode_s=0.01)
    with pytest.raises(InputError, match="multiple of the physics step"):
        environment("reach", "i2rt_yam", control_hz=33.0)


@pytest.mark.parametrize(
    ("name", "robot", "message"),
    [
        ("fly", "unitree_g1", "task 'fly' is unknown; expected velocity, reach, pick"),
        ("velocity", "unitree_h9", "robot 'unitree_h9' is unknown"),
        ("velocity", "i2rt_yam", "has no feet or a fixed base"),
        ("reach", "unitree_g1", "has no known tool"),
        ("pick", "unitree_go1", "has no known tool"),
    ],
)
def test_unknown_tasks_and_robots_without_what_they_need_are_refused(name: str, robot: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(name, robot)


def test_a_model_without_the_tools_site_is_refused(reach: ReachTask) -> None:
    with pytest.raises(InputError, match="no site 'hand'"):
        TaskEnv(CpuBatch(reach.model, 1, 0, 1), dataclasses.replace(reach, site="hand"))


def test_settings_of_another_task_and_no_environment_are_refused() -> None:
    with pytest.raises(InputError, match="expected VelocityConfig"):
        make_task("velocity", "unitree_go1", ReachConfig())
    with pytest.raises(InputError, match="num_envs is 0"):
        TaskVectorEnv("reach", "i2rt_yam", 0)


@pytest.mark.parametrize("name", task_names())
def test_settings_come_back_from_a_manifest(name: str) -> None:
    robot = next(r for n, r in EVERY if n == name)
    config = make_task(name, robot).config  # type: ignore[attr-defined]
    assert settings_from_plain(name, dataclasses.asdict(config)) == config
    with pytest.raises(InputError, match="not of this version"):
        settings_from_plain(name, {"colour": "red"})


def test_commands_outside_of_what_a_policy_knows_are_refused(reach: ReachTask) -> None:
    walk = make_task("velocity", "unitree_go1").command
    assert walk.check([0.5, 0.0, -1.0]).dtype == np.float32
    for values, message in (
        ([2.0, 0.0, 0.0], "velocity_forward is 2.0, outside of -0.6 to 1"),
        ([0.0, 0.0, float("nan")], "yaw_rate is nan"),
        ([0.0, 0.0], "has 2 values, expected 3"),
    ):
        with pytest.raises(InputError, match=message):
            walk.check(values)
    targets = np.concatenate(reach.targets, axis=1)
    assert all(reach.command.check(list(target)) is not None for target in targets[:50].tolist())


def test_every_observation_term_is_known_to_the_robots_runtime() -> None:
    from bodydouble.observation import ObservationBuilder

    for name, robot in EVERY:
        task = make_task(name, robot)
        ObservationBuilder(task.observation, np.float32(task.robot.default_joint_pos))
        assert not any(term.name.startswith("ref_") for term in task.observation.terms)
    with pytest.raises(ContractError):
        ObservationBuilder(
            dataclasses.replace(task.observation, terms=(dataclasses.replace(task.observation.terms[0], name="eyes"),)),
            np.zeros(1),
        )


def test_the_gripper_of_the_ur5e_is_a_joint_that_closes_around_its_targets() -> None:
    env = environment("pick", "ur5e_2f85", envs=1, randomise=False, joint_noise=0.0)
    assert env.robot.joint_names[-1] == "gripper_right_driver_joint"
    env.reset()
    action = np.zeros((1, 7), np.float32)
    action[0, -1] = 1.0
    for _ in range(40):
        env.step(action)
    model, qpos = env.backend.model, env.backend.get_state()[0]
    closed = qpos[0, model.jnt_qposadr[mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, env.robot.joint_names[-1])]]
    assert closed == pytest.approx(env.robot.default_joint_pos[-1] + env.robot.action_scale[-1], abs=0.05)


@pytest.mark.parametrize(("name", "robot"), [("velocity", "unitree_g1"), ("reach", "i2rt_yam"), ("pick", "ur5e_2f85")])
def test_torch_tensors_give_the_same_episodes_as_numpy(name: str, robot: str) -> None:
    """A GPU's code path draws for every environment at every step; until the first reset it must agree with numpy."""
    task = make_task(name, robot)
    mine = TaskEnv(CpuBatch(task.model, 3, 2, 1), task)
    theirs = TaskEnv(TorchBatch(CpuBatch(task.model, 3, 2, 1)), task)
    first, second = mine.reset(), theirs.reset()
    for key in first:
        assert isinstance(second[key], torch.Tensor) and second[key].dtype == torch.float32
        np.testing.assert_allclose(first[key], second[key].numpy(), atol=2e-5)
    action = np.full((3, mine.num_joints), 0.1, np.float32)
    one, two = mine.step(action), theirs.step(torch.from_numpy(action))
    np.testing.assert_allclose(one.reward, two.reward.numpy(), atol=1e-4)
    for key in one.measures:
        np.testing.assert_allclose(one.measures[key], two.measures[key].numpy(), atol=1e-4)
    for _ in range(3):
        two = theirs.step(torch.from_numpy(action))
    assert two.terminated.dtype == torch.bool and two.failure.dtype == torch.int64
    assert all(value.dtype == torch.float32 for value in (*two.obs.values(), two.reward, *two.measures.values()))
    np.testing.assert_array_equal(two.final_obs["policy"].shape, two.obs["policy"].shape)

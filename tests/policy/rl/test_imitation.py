from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bodydouble.errors import InputError, TrainingError
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.optim.registry import AdamConfig, MuonConfig
from policy.rl.imitation import Imitation, ImitationConfig
from tests.policy.rl.reach_task import ReachTask
from tests.policy.rl.recall_task import RecallTask

CPU = torch.device("cpu")
NET = NetConfig(actor_layers=(32,), critic_layers=(4,), init_std=0.4)
CONFIG = ImitationConfig(rounds=3, steps=16, epochs=8, minibatches=4, optimizer=AdamConfig(lr=5e-3))


def to_the_target(obs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Goes to the target, at most one a step (an action moves a point by half of it)."""
    return (2.0 * (obs["policy"][:, 1:2] - obs["policy"][:, 0:1])).clamp(-2.0, 2.0)


def reach(config: ImitationConfig = CONFIG, seed: int = 0, teacher=to_the_target, envs: int = 16) -> Imitation:
    torch.manual_seed(seed)
    return Imitation(ReachTask(envs, seed), ActorCritic(2, 3, 1, NET), teacher, config, CPU)


def test_the_student_does_what_the_teacher_does() -> None:
    imitation, rounds = reach(replace(CONFIG, epochs=40, optimizer=AdamConfig(lr=2e-2)), envs=64), []
    before = {name: p.clone() for name, p in imitation.net.state_dict().items() if "critic_net" in name}
    last = imitation.train(lambda stats: rounds.append(stats))
    assert [stats["round"] for stats in rounds] == [1, 2, 3]
    assert [stats["teacher_share"] for stats in rounds] == [1.0, 0.5, 0.25]
    assert last is rounds[-1]
    assert rounds[0]["disagreement"] > 0.7, "it knew nothing: the size of the teacher's actions"
    assert last["disagreement"] < 0.2 * rounds[0]["disagreement"], "on states that it had not been fitted to"
    assert last["fit"] < 0.2
    net = imitation.net
    obs = torch.tensor([[0.0, 1.0], [1.0, -0.5], [-2.0, 2.0]])
    with torch.no_grad():
        np.testing.assert_allclose(net.actor(obs)[:, 0].numpy(), [2.0, -2.0, 2.0], atol=0.35)
    assert net.log_std.tolist() == pytest.approx([math.log(0.4)]), "the spread is left for what comes after"
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in before.items())


def test_one_round_is_behaviour_cloning() -> None:
    """The teacher acts in all of it, so its own states are seen: points are at their targets after a few steps."""
    imitation = reach(replace(CONFIG, rounds=1))
    stats = imitation.train()
    assert stats["teacher_share"] == 1.0 and imitation._taught.all()
    assert stats["reward"] > -0.6
    assert imitation._seen is not None and imitation._seen.obs.shape == (16, 16, 2)


def test_later_rounds_show_the_students_own_states() -> None:
    imitation = reach(replace(CONFIG, rounds=3, teacher_share=0.0))
    taught: list[bool] = []
    imitation.train(lambda stats: taught.append(bool(imitation._taught.any())))
    # Every episode of eight steps that the teacher had begun is over by the end of the second round.
    assert taught == [True, False, False]
    seen = imitation._seen
    assert seen is not None and seen.obs.shape == (16, 3 * 16, 2) and seen.target.shape == (16, 48, 1)
    # All rounds carry the teacher's answers, whoever acted.
    torch.testing.assert_close(seen.target.flatten(0, 1), to_the_target({"policy": seen.obs.flatten(0, 1)}))


def sign(obs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A teacher with privileged state: it reads the sign from the critic's observation."""
    return obs["critic"][:, 0:1] * obs["critic"][:, 1:2]


def test_a_student_with_memory_learns_from_a_teacher_that_sees_more() -> None:
    """The student sees the sign in the first step alone and must answer in the last; one without memory cannot."""
    errors = {}
    for memory in (8, 0):
        torch.manual_seed(0)
        net = ActorCritic(2, 2, 1, replace(NET, memory=memory))
        config = ImitationConfig(rounds=6, steps=16, epochs=20, minibatches=4, optimizer=AdamConfig(lr=1e-2))
        errors[memory] = Imitation(RecallTask(32), net, sign, config, CPU).train()["disagreement"]
    # One step in four asks for +-1: who always answers zero is off by 0.5.
    assert errors[8] < 0.1 and errors[0] > 0.45


def test_the_seed_decides_every_bit() -> None:
    def weights(seed: int) -> torch.Tensor:
        imitation = reach(replace(CONFIG, rounds=2, epochs=1, optimizer=MuonConfig()), seed)
        imitation.train()
        return torch.cat([p.detach().flatten() for p in imitation.net.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_the_normaliser_learns_too() -> None:
    imitation = reach(replace(CONFIG, rounds=2, epochs=1))
    imitation.train()
    assert float(imitation.net.actor.norm.count) == float(imitation.net.critic_norm.count) == 2 * 16 * 16


def test_a_teacher_of_other_actions_is_refused() -> None:
    with pytest.raises(InputError, match=r"gave actions of shape \(16, 2\), the student has \(16, 1\)"):
        reach(teacher=lambda obs: obs["policy"]).train()


def test_a_teacher_that_fails_ends_the_training() -> None:
    with pytest.raises(TrainingError, match="the teacher gave an action that is not finite"):
        reach(teacher=lambda obs: obs["policy"][:, :1] * math.nan).train()


def test_a_rate_that_diverges_is_named() -> None:
    with pytest.raises(TrainingError, match=r"imitation diverged.*lower optimizer\.lr \(now 1e\+30\)"):
        reach(replace(CONFIG, optimizer=AdamConfig(lr=1e30))).train()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rounds": 0}, "rounds is 0"), ({"teacher_share": 1.5}, "teacher_share is 1.5, expected 0 to 1")],
)
def test_settings_that_cannot_work_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)


def test_too_few_environments_for_a_memory_are_refused() -> None:
    net = ActorCritic(2, 2, 1, replace(NET, memory=4))
    with pytest.raises(InputError, match="3 environments do not fill 4 minibatches"):
        Imitation(RecallTask(3), net, sign, CONFIG, CPU)

"""One of two processes that train together, for test_ranks: what it does and sees goes to files that the test reads.

python -m tests.policy.rl.ranks_worker FOLDER
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bodydouble.errors import TrainingError
from policy.checkpoint import CheckpointInfo
from policy.nets.actor_critic import ActorCritic, NetConfig
from policy.rl.bootstrap import value_rollout
from policy.rl.ppo import PPO, PPOConfig
from policy.rl.ranks import Ranks, joined
from policy.rl.resume import resume_training, save_training
from policy.rl.rollout import Rollout
from policy.rl.runner import Runner
from tests.policy.rl.reach_task import ReachTask

CPU = torch.device("cpu")
NET = NetConfig(actor_layers=(8,), critic_layers=(8,), init_std=0.6)
JOINT = PPOConfig(steps=5, epochs=3, minibatches=1, target_kl=0.01, max_lr=1e-2)
SPLIT = replace(JOINT, minibatches=2, steps=6)
INFO = CheckpointInfo("toy", ("x",), 2, 3, NET, 0, 0, {})


def make_net(seed: int = 0) -> ActorCritic:
    torch.manual_seed(seed)
    return ActorCritic(2, 3, 1, NET)


def joint_rollout() -> Rollout:
    """A rollout of 8 environments, filled with what a policy like `make_net`'s could have done."""
    net, r = make_net(), Rollout(5, 8, {"policy": 2, "critic": 3}, 1, CPU)
    torch.manual_seed(1)
    for name in ("policy", "critic"):
        r.obs[name].copy_(torch.randn_like(r.obs[name]))
    r.reached.copy_(torch.randn_like(r.reached))
    # Other rewards on either side, so that neither half's advantages have the mean and spread of all.
    r.reward.copy_(torch.randn_like(r.reward) + torch.linspace(-1, 3, 8))
    r.terminated[2, 1] = r.truncated[3, 6] = True
    with torch.no_grad():
        action, log_prob, mean, _ = net.act(r.obs["policy"].flatten(0, 1), torch.zeros(40, 0))
        for tensor, value in ((r.action, action), (r.log_prob, log_prob), (r.mean, mean)):
            tensor.copy_(value.view_as(tensor))
    value_rollout(net, r)
    return r


def half(whole: Rollout, rank: int) -> Rollout:
    part = Rollout(5, 4, {"policy": 2, "critic": 3}, 1, CPU)
    theirs = whole.named()
    for name, tensor in part.named().items():
        tensor.copy_(theirs[name][:, 4 * rank : 4 * rank + 4])
    return part


def updated(ranks: Ranks, rollout: Rollout) -> tuple[PPO, dict[str, float]]:
    """The PPO that learned from a rollout, and took it into its normaliser, and what it logged."""
    ppo = PPO(make_net(seed=ranks.rank), JOINT, ranks)
    stats = ppo.update(rollout)
    data = rollout.flat()
    ppo.net.update_norm(data["policy"], data["critic"], ranks)
    return ppo, stats


def training(ranks: Ranks) -> Runner:
    net = make_net()
    torch.manual_seed(ranks.seed(0))
    return Runner(ReachTask(4, ranks.seed(0)), PPO(net, SPLIT, ranks), CPU)


def resumed_alike(ranks: Ranks, path: Path) -> bool:
    """Whether a training resumed from its third update ends as the one that went on, here and with its episodes."""
    whole = training(ranks)
    whole.train(lambda p: p.update >= 2, lambda p: None)
    if ranks.first:
        save_training(path, whole, INFO)
    else:
        whole.snapshot()
    whole.train(lambda p: p.update >= 4, lambda p: None)
    again = training(ranks)
    with ranks.local_copy(path if ranks.first else None) as saved:
        assert saved is not None
        exact = resume_training(saved, again)
    again.train(lambda p: p.update >= 4, lambda p: None)
    states = [{**runner.ppo.net.state_dict(), **runner._snapshot()} for runner in (whole, again)]
    return exact and all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        seen: dict[str, Any] = {"rank": ranks.rank, "size": ranks.size, "seed": ranks.seed(7)}
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([1.0, 10.0]) * (1 + ranks.rank)
        ranks.average_gradients([parameter])
        seen["gradient"] = parameter.grad.tolist()
        seen["standardised"] = ranks.standardised(torch.tensor([0.0, 1.0]) + 2 * ranks.rank).tolist()
        mean, var, count = ranks.moments(torch.tensor([[0.0], [1.0]]) + 2 * ranks.rank)
        seen["moments"] = [float(mean), float(var), count]
        seen["stats"] = ranks.mean_stats({"both": float(ranks.rank), **({"one": 5.0} if ranks.rank else {})})
        seen["told"] = ranks.from_first(b"from the first" if ranks.first else b"not heard").decode()

        ppo, stats = updated(ranks, half(joint_rollout(), ranks.rank))
        seen |= {"lr": ppo.lr, "kl": stats["kl"]}
        save_file(ppo.net.state_dict(), folder / f"joint_{ranks.rank}.safetensors")

        runner = training(ranks)
        last = runner.train(lambda p: p.update >= 3, lambda p: None)
        seen |= {"env_steps": last.env_steps, "trained_lr": runner.ppo.lr, "logged": last.stats["reward"]}
        trained = runner.ppo.net.state_dict() | {"obs": runner._rollout.obs["policy"]}
        save_file(trained, folder / f"trained_{ranks.rank}.safetensors")
        seen["resumed_alike"] = resumed_alike(ranks, folder / "training.safetensors")

        with contextlib.suppress(TrainingError), torch.no_grad():
            seen["differing"] = "not noticed"
            runner.ppo.net.log_std += 1e-7 * ranks.rank
            try:
                ranks.check_alike(runner.ppo.net, runner.ppo.lr)
            except TrainingError as error:
                seen["differing"] = str(error)
        if not ranks.first:
            (folder / "rank_1.json").write_text(json.dumps(seen))
            os._exit(3)
        try:
            runner.train(lambda p: p.update >= 9, lambda p: None)
        except TrainingError as error:
            seen["alone"] = str(error)
        (folder / "rank_0.json").write_text(json.dumps(seen))
        # The threads that still wait for the dead rank may abort an orderly end.
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

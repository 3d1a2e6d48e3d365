"""Sweeps: one training with many settings and seeds, and on many stages, by Ray's workers; a table at the end."""

from __future__ import annotations

import dataclasses
import html
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bodydouble.artifacts import atomic_file, machine_info, provenance, write_json
from bodydouble.errors import BodydoubleError, InputError
from policy.cluster import ClusterConfig, cause_of, cluster
from policy.search_space import Axis, settings, with_settings
from policy.train import TrainConfig, train
from policy.train_task import TaskTrainConfig, train_task
from policy.training_run import MANIFEST_FILE

RESULTS_FILE, PAGE_FILE, TRIALS_FOLDER = "sweep.json", "sweep.html", "trials"
_POLL_S = 1.0


@dataclass(frozen=True)
class SweepConfig:
    """What a sweep tries and how."""

    vary: tuple[str, ...] = ()
    """What varies, each NAME=VALUE,VALUE,... or NAME=LOW..HIGH[:log], by the names of the training's settings, e.g.
    ppo.optimizer.lr=1e-5,3e-5 ppo.optimizer=adam,namo ppo.epochs=3,5."""
    draws: int = 0
    """Settings drawn at random; 0 takes every combination."""
    seeds: int = 3
    """Trainings of every setting; their seeds count on from that of the training."""
    workers: int = 0
    """Trainings at the same time; 0 takes as many as there is room for."""
    metric: str = "trained_success_rate"
    """Figure of policy.json that settings are ordered by."""
    lower: bool = False
    """Whether less of it is better."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Where it runs."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: One is too small.
        """
        for name, least in (("draws", 0), ("seeds", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"sweep.{name} is {getattr(self, name)}, expected {least} or more")


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    name: str
    """Name of its folder."""
    values: dict[str, str]
    """What varies, with the stage where there are several."""
    seed: int
    """Its seed."""
    run: Callable[[], dict[str, float]]
    """Trains and returns the figures; a worker calls it."""


@dataclass(frozen=True)
class Swept:
    """A finished sweep."""

    path: Path
    """The folder."""
    metric: str
    """Figure that settings are ordered by."""
    settings: list[dict[str, Any]]
    """Every setting with its values, mean, standard deviation over the seeds and number of failures, the best first."""
    failures: list[tuple[str, str]]
    """Name and reason of every trial that failed."""

    def __str__(self) -> str:
        """The table, the failures, and where it is."""
        lines = [f"{'mean ' + self.metric:>28}  {'std':>9}  seeds  failed  setting"]
        lines += [
            f"{_number(row['mean']):>28}  {_number(row['std']):>9}  {row['seeds']:>5}  {row['failed']:>6}  "
            f"{setting_text(row['values'])}"
            for row in self.settings
        ]
        lines += [f"failed: {name}: {reason}" for name, reason in self.failures]
        return "\n".join([*lines, f"{self.path / RESULTS_FILE}, {self.path / PAGE_FILE}"])


def stage_trials(stages: Sequence[Path], out: Path, config: TrainConfig, sweep: SweepConfig) -> list[Trial]:
    """Return the trainings of a sweep over one stage or several, each with a policy of its own.

    Raises:
        InputError: A setting cannot be, or there is no such stage.
    """
    missing = [stage for stage in stages if not stage.is_dir()]
    if missing or not stages:
        raise InputError(
            f"{missing[0] if missing else 'no stage'}: no such stage folder; make one with bodydouble stage"
        )
    trials = []
    for stage in stages:
        which = {"stage": str(stage)} if len(stages) > 1 else {}
        for values, own in _configs(config, sweep):
            name = _name(len(trials), own.seed)
            task = _StageTraining(stage.resolve(), (out / TRIALS_FOLDER / name).resolve(), own)
            trials.append(Trial(name, which | values, own.seed, task))
    return trials


def task_trials(
    task: str, robot: str, out: Path, config: TaskTrainConfig, setup: Any, sweep: SweepConfig
) -> list[Trial]:
    """Return the trainings of a sweep for a task without a stage.

    Raises:
        InputError: A setting cannot be.
    """
    trials = []
    for values, own in _configs(config, sweep):
        name = _name(len(trials), own.seed)
        training = _TaskTraining(task, robot, (out / TRIALS_FOLDER / name).resolve(), own, setup)
        trials.append(Trial(name, values, own.seed, training))
    return trials


def run_sweep(trials: Sequence[Trial], out: Path, sweep: SweepConfig) -> Swept:
    """Train all trials, those that were finished before apart, and write sweep.json and sweep.html.

    A trial that fails is reported with its reason; the others go on.

    Args:
        trials: The trainings.
        out: Folder of the results.
        sweep: Settings.

    Raises:
        InputError: Ray is not installed or cannot be reached, or no trial has the metric.
    """
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    outcomes = _run(trials, out, sweep)
    rows = _rows(trials, outcomes, sweep)
    failures = [(trial.name, outcomes[trial.name]["failed"]) for trial in trials if "failed" in outcomes[trial.name]]
    results = {
        "provenance": provenance(sweep, {}),
        "machine": machine_info(),
        "seeds": sorted({trial.seed for trial in trials}),
        "metric": sweep.metric,
        "figures": {
            "trials": float(len(trials)),
            "failed": float(len(failures)),
            "seconds": time.monotonic() - begun,
            **({f"best_{sweep.metric}": rows[0]["mean"]} if rows[0]["mean"] is not None else {}),
        },
        "settings": rows,
        "trials": [
            {"name": trial.name, "values": trial.values, "seed": trial.seed, **outcomes[trial.name]} for trial in trials
        ],
    }
    write_json(out / RESULTS_FILE, results)
    with atomic_file(out / PAGE_FILE) as temporary:
        temporary.write_text(_page(rows, failures, sweep))
    return Swept(out, sweep.metric, rows, failures)


@dataclass(frozen=True)
class _StageTraining:
    stage: Path
    out: Path
    config: TrainConfig

    def __call__(self) -> dict[str, float]:
        return train(self.stage, self.out, self.config).figures


@dataclass(frozen=True)
class _TaskTraining:
    task: str
    robot: str
    out: Path
    config: TaskTrainConfig
    setup: Any

    def __call__(self) -> dict[str, float]:
        return train_task(self.task, self.robot, self.out, self.config, self.setup).figures


def _configs(config: Any, sweep: SweepConfig) -> list[tuple[dict[str, str], Any]]:
    """Return what varies and the training's configuration, for every setting and seed."""
    found = settings([Axis.parse(text) for text in sweep.vary], draws=sweep.draws, seed=config.seed)
    if any("seed" in values for values in found):
        raise InputError("--sweep.vary seed: the seeds are --sweep.seeds many, from --config.seed on")
    base = dataclasses.replace(config, threads=sweep.cluster.cpus)
    return [
        (values, dataclasses.replace(with_settings(base, values), seed=config.seed + number))
        for values in found
        for number in range(sweep.seeds)
    ]


def _name(index: int, seed: int) -> str:
    return f"{index:04d}_seed{seed}"


def _run(trials: Sequence[Trial], out: Path, sweep: SweepConfig) -> dict[str, dict[str, Any]]:
    """Return figures and seconds, or the reason of its failure, of every trial by name."""
    outcomes: dict[str, dict[str, Any]] = {}
    room = sweep.workers or len(trials)
    columns = (
        TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TextColumn("trials, {task.fields[failed]} failed"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with cluster(sweep.cluster, sweep.workers) as ray, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("sweep", total=len(trials), failed=0)
        # A training that died is not tried again in silence: it would die again, or hide that it did.
        remote = ray.remote(num_cpus=sweep.cluster.cpus, num_gpus=sweep.cluster.gpus, max_retries=0)(_work)
        waiting, running = list(reversed(trials)), {}
        while waiting or running:
            while waiting and len(running) < room:
                trial = waiting.pop()
                running[remote.remote(trial.run)] = trial
            done, _ = ray.wait(list(running), timeout=_POLL_S)
            for reference in done:
                trial = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                    if "figures" in outcome and not (out / TRIALS_FOLDER / trial.name / MANIFEST_FILE).is_file():
                        outcome = {"failed": f"trained on {outcome['host']}, whose folders are not seen here"}
                    outcomes[trial.name] = outcome
                except Exception as error:
                    # Whatever happened to a worker, the others' work counts.
                    outcomes[trial.name] = {"failed": str(cause_of(error, "worker"))}
                failed = sum("failed" in outcome for outcome in outcomes.values())
                bar.update(task, completed=len(outcomes), failed=failed)
            bar.refresh()
    return outcomes


def _work(run: Callable[[], dict[str, float]]) -> dict[str, Any]:
    """Train in a worker's process; a failure that bodydouble foresees is an outcome."""
    begun = time.monotonic()
    try:
        return {"figures": run(), "seconds": time.monotonic() - begun, "host": os.uname().nodename}
    except BodydoubleError as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def _rows(trials: Sequence[Trial], outcomes: dict[str, dict[str, Any]], sweep: SweepConfig) -> list[dict[str, Any]]:
    """Return a row for every setting, the best first; those without a finished training last."""
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for trial in trials:
        groups.setdefault(tuple(trial.values.items()), []).append(outcomes[trial.name])
    rows = []
    for values, found in groups.items():
        figures = [outcome["figures"] for outcome in found if "figures" in outcome]
        if figures and sweep.metric not in figures[0]:
            raise InputError(
                f"sweep.metric {sweep.metric!r} is not among the figures {', '.join(sorted(figures[0]))}; name one of "
                "them: what was trained is not trained again"
            )
        measured = [own[sweep.metric] for own in figures]
        rows.append(
            {
                "values": dict(values),
                "mean": statistics.fmean(measured) if measured else None,
                "std": statistics.stdev(measured) if len(measured) > 1 else None,
                "seeds": len(measured),
                "failed": len(found) - len(measured),
            }
        )
    sign = 1.0 if sweep.lower else -1.0
    return sorted(rows, key=lambda row: math.inf if row["mean"] is None else sign * row["mean"])


def setting_text(values: dict[str, str]) -> str:
    """Return a setting as text."""
    return " ".join(f"{name}={value}" for name, value in values.items()) or "as given"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _page(rows: Sequence[dict[str, Any]], failures: Sequence[tuple[str, str]], sweep: SweepConfig) -> str:
    """Return the table as a page of its own: every setting with a bar as long as its metric."""
    means = [row["mean"] for row in rows if row["mean"] is not None]
    low, high = min([0.0, *means]), max([0.0, *means])
    lines = []
    for row in rows:
        share = 0.0 if row["mean"] is None or high == low else (row["mean"] - low) / (high - low)
        cells = [setting_text(row["values"]), _number(row["mean"]), _number(row["std"]), row["seeds"], row["failed"]]
        bar = f'<td><div style="background:#3b7dd8;height:.8em;width:{300 * share:.0f}px"></div></td>'
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + bar + "</tr>")
    failed = "".join(f"<li>{html.escape(f'{name}: {reason}')}</li>" for name, reason in failures)
    heads = ("setting", f"mean {sweep.metric}", "std", "seeds", "failed", "")
    return (
        '<!doctype html><meta charset="utf-8"><title>Sweep</title>'
        "<style>body{font:15px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}</style>"
        "<h1>Sweep</h1><table><tr>"
        + "".join(f"<th>{html.escape(head)}</th>" for head in heads)
        + "</tr>"
        + "".join(lines)
        + "</table>"
        + (f"<h2>Failed</h2><ul>{failed}</ul>" if failed else "")
        + "\n"
    )

"""The command line: `bodydouble VERB ...`, one module per verb, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys

from bodydouble import __version__
from bodydouble.errors import BodydoubleError

COMMANDS = {
    "record": ("bodydouble.cli.record", "record RGB-D cameras over ROS 2, or make a synthetic recording"),
    "import": (
        "bodydouble.cli.import_recording",
        "turn a ROS bag, MCAP, TUM, 7-Scenes or Record3D recording into ours",
    ),
    "reconstruct": ("bodydouble.cli.reconstruct", "recording -> scene mesh and body motion in metres"),
    "stage": ("bodydouble.cli.stage", "reconstruction -> MuJoCo stage and reference motion for a robot"),
    "retarget": ("bodydouble.cli.retarget", "motion file -> reference motion, its figures and a stage for a robot"),
    "train": ("bodydouble.cli.train", "train or fine-tune a policy on a stage"),
    "sweep": ("bodydouble.cli.sweep", "train with many settings, seeds or stages, on one or many machines"),
    "distill": ("bodydouble.cli.distill", "make a policy that sees what a robot has of a teacher that sees more"),
    "export": ("bodydouble.cli.export", "checkpoint -> ONNX with its contract inside"),
    "inspect": ("bodydouble.cli.inspect", "check a policy file and print its contract: what it needs and does"),
    "keygen": ("bodydouble.cli.keygen", "make a pair of keys to sign policies with"),
    "sign": ("bodydouble.cli.sign", "sign a policy, so that robots know who made it"),
    "verify": ("bodydouble.cli.verify", "run the ONNX policy on a stage in a fresh MuJoCo process: pass or fail"),
    "run": ("bodydouble.cli.run", "run the policy under ROS 2 on the simulated robot, recorded"),
    "replay": ("bodydouble.cli.replay", "replay a recorded run and compare every command bit for bit"),
    "export-lerobot": ("bodydouble.cli.export_lerobot", "recorded runs -> LeRobot dataset"),
    "topics": ("bodydouble.cli.topics", "list the topics of any ROS 2 recording, and draw their numbers"),
    "shadow": ("bodydouble.cli.shadow", "what would a policy have commanded on a recording?"),
    "recover": ("bodydouble.cli.recover", "rebuild a truncated recording up to its last complete chunk"),
    "bench": ("bodydouble.cli.bench", "measure perception against truth: synthetic clips, memory, a real recording"),
    "view": ("bodydouble.cli.view", "look at any artifact, in a viewer or as a picture"),
    "demo": ("bodydouble.cli.demo", "the whole chain on a synthetic recording, with gates and report.html"),
    "doctor": ("bodydouble.cli.doctor", "check this machine: versions, system libraries, robots and their licences"),
}
"""Verb: its module and what it does."""


def _overview() -> str:
    width = max(len(verb) for verb in COMMANDS)
    lines = [
        f"bodydouble {__version__}",
        "",
        "usage: bodydouble COMMAND [options]   (--help after a command lists its options)",
        "",
    ]
    lines += [f"  {verb:<{width}}  {text}" for verb, (_, text) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        Exit status: 0 done, 1 a gate was not met or the work failed, 2 the input cannot be used.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"error: unknown command '{argv[0]}'; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    # Matrices are small here: threads of numpy's algebra, which are started when it is imported, would mostly wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        module = importlib.import_module(COMMANDS[argv[0]][0])
        return int(module.main(argv[1:]) or 0)
    except BodydoubleError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130

"""The orchestrator's node: watches the robot, rehearses, publishes the skill that is to run.

python -m worldmodel.nodes.orchestrator_node --policy policy.onnx --stage runs/stage [--out decisions.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from bodydouble.artifacts import write_json
from bodydouble.errors import BodydoubleError
from robot.nodes.process import JOINT_STATES, ODOM, SKILL, TICK, reliable, running_node
from robot.policy_file import PolicyFile
from sim.stage.stage import Stage
from worldmodel.orchestrator.orchestrator import Decision, Orchestrator
from worldmodel.orchestrator.rehearsal import Rehearsal
from worldmodel.orchestrator.skills import Situation

STAND_S = 1.5
"""Time the robot stands before the first decision, s: what it does then is seen before anything else is begun."""
WATCH_TILT = 0.5
"""Tilt of the base at which the orchestrator decides anew while a skill runs, rad."""


class OrchestratorNode:
    """Topics around an Orchestrator."""

    def __init__(self, node: Node, stage: Stage, orchestrator: Orchestrator) -> None:
        """Subscribe to the state and the ticks."""
        self._stage, self._orchestrator = stage, orchestrator
        self._joints: JointState | None = None
        self._odom: Odometry | None = None
        self._tick: dict[str, Any] | None = None
        self.decisions: list[Decision] = []
        self._publisher = node.create_publisher(String, SKILL, reliable(10))
        node.create_subscription(JointState, JOINT_STATES, self._on_joints, reliable(1))
        node.create_subscription(Odometry, ODOM, self._on_odom, reliable(1))
        node.create_subscription(String, TICK, self._on_tick, reliable(1))

    def _on_joints(self, message: JointState) -> None:
        self._joints = message

    def _on_odom(self, message: Odometry) -> None:
        self._odom = message

    def _on_tick(self, message: String) -> None:
        # Parsing every tick would cost a tenth of a core: only the newest is parsed, when it is needed.
        self._tick = {"raw": message.data}

    def situation(self) -> Situation | None:
        """Return the present situation, or None before everything was heard."""
        if self._joints is None or self._odom is None or self._tick is None:
            return None
        tick = json.loads(self._tick["raw"])
        if tick["mode"] == "waiting":
            return None
        names = list(self._joints.name)
        order = [names.index(name) for name in self._stage.robot.joint_names]
        pose = self._odom.pose.pose
        p, q = pose.position, pose.orientation
        joints, speeds = np.array(self._joints.position)[order], np.array(self._joints.velocity)[order]
        return Situation(
            t_ns=tick["t_ns"],
            qpos=np.concatenate([[p.x, p.y, p.z, q.w, q.x, q.y, q.z], joints]),
            # The robot does not measure the base's velocity; the rehearsals draw theirs around rest.
            qvel=np.concatenate([np.zeros(6), speeds]),
            skill=tick["skill"],
            frame=tick["frame"],
            finished=tick["finished"],
            stopped=tick["mode"] == "stopped",
        )

    def loop(self, stop: threading.Event) -> None:
        """Let the robot stand, decide what to begin, then watch it."""
        begun_ns = 0
        while not stop.wait(0.1):
            now = self.situation()
            if now is None:
                continue
            begun_ns = begun_ns or now.t_ns
            if now.t_ns - begun_ns < STAND_S * 1e9:
                continue
            first = not self.decisions
            tilting = now.skill == "track" and now.tilt > WATCH_TILT
            waiting = now.skill == "stand" and not now.finished and not now.stopped
            if first or (tilting and self.decisions[-1].skill == "track") or (waiting and not first):
                self._decide(now)

    def _decide(self, situation: Situation) -> None:
        decision = self._orchestrator.decide(situation)
        self.decisions.append(decision)
        self._publisher.publish(String(data=json.dumps(decision.message())))

    def save(self, path: Path) -> None:
        """Write the decisions with everything that was considered."""
        write_json(path, {"decisions": [dataclasses.asdict(decision) for decision in self.decisions]})


def main() -> int:
    """Run the node until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, required=True, help="the policy (.onnx)")
    parser.add_argument("--stage", type=Path, required=True, help="folder of the stage")
    parser.add_argument("--motion", type=int, default=0, help="which of the stage's motions the policy follows")
    parser.add_argument("--out", type=Path, default=None, help="JSON to write the decisions to")
    args, _ = parser.parse_known_args()
    # Rehearsals may not take the processor from the control loop.
    os.nice(10)
    try:
        stage = Stage.load(args.stage).playing(args.motion)
        orchestrator = Orchestrator(Rehearsal(stage, PolicyFile(args.policy)), stage.reference)
    except BodydoubleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with running_node("orchestrator") as running:
        node = OrchestratorNode(running.node, stage, orchestrator)
        try:
            node.loop(running.stop)
        finally:
            if args.out is not None:
                node.save(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

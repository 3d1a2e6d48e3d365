"""`compose`: report.html from everything the demo wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodydouble.artifacts import atomic_dir, atomic_file, read_json
from bodydouble.errors import InputError
from bodydouble.motion import HumanMotion
from bodydouble.report.figures import picture_png, timing_plot, tracking_plot
from bodydouble.report.page import Picture, Section, render_page

MOMENTS = 6
"""Moments at which person and robot are shown beside each other."""


def compose(out: Path) -> Path:
    """Write report.html, and its pictures apart, into a demo's folder.

    Args:
        out: The folder, with recording, reconstruction, stage, policy, run and summary.json.

    Raises:
        InputError: A part is missing.
    """
    summary = read_json(out / "summary.json")
    with np.load(out / "run" / "tracking.npz", allow_pickle=False) as data:
        tracking = {name: data[name] for name in data.files}
    sections = [_scene(out), _moments(out, tracking), _tracking(out, tracking), _timing(tracking)]
    with atomic_dir(out / "pictures") as folder:
        for section in sections:
            for index, shown in enumerate(section.pictures):
                (folder / f"{section.name}_{index}.png").write_bytes(shown.png)
    path = out / "report.html"
    with atomic_file(path) as temporary:
        temporary.write_text(render_page(summary, sections, _notes(out)))
    return path


def _notes(out: Path) -> list[str]:
    policy = read_json(out / "policy" / "policy.json")
    start = policy["warm_start"]
    told = (
        f"The policy started from the checkpoint {start} that comes with bodydouble (its command and log "
        f"lie beside it) and was trained on for {policy['figures']['env_steps']:.0f} steps here; "
        f"the {'trained' if policy['kept'] == 'trained' else 'original'} one did better and was kept."
        if start
        else "The policy was trained from nothing."
    )
    return [told, *read_json(out / "reconstruction" / "reconstruction.json")["warnings"]]


def _scene(out: Path) -> Section:
    from perception.show import load_shown, reconstruction_picture

    cameras = len(load_shown(out / "reconstruction").eyes)
    pictures = [
        Picture(
            picture_png(reconstruction_picture(out / "reconstruction", index, (720, 540))),
            f"the reconstructed room and the fitted body at four moments, from behind camera {index}",
        )
        for index in range(cameras)
    ]
    return Section(
        "room", "Room and person", "The static scene, and the body fitted to the depth of all cameras.", pictures, 2
    )


def _moments(out: Path, tracking: dict[str, np.ndarray]) -> Section:
    from perception.picture import picture
    from perception.show import load_shown
    from sim.render import render_stage
    from sim.stage.stage import Stage

    stage = Stage.load(out / "stage")
    first, last = stage.manifest["clip_start"], stage.manifest["clip_end"]
    shares = (np.arange(MOMENTS) + 0.5) / MOMENTS
    shown = load_shown(out / "reconstruction")
    human = shown.human
    if human is None:
        raise InputError(f"{out / 'reconstruction'}: nobody is in it; there is nothing to compare the robot with")
    bodies = shown.bodies((shares * (human.num_frames - 1)).astype(int))
    wanted = first + shares * (last - first)
    ticks = [int(np.argmin(np.abs(tracking["frame"] - frame))) for frame in wanted]
    facing = _front(human)
    # Both halves of a picture look along the same direction.
    azimuth = float(np.degrees(np.arctan2(-facing[1], -facing[0])))
    robots = render_stage(stage, [tracking["qpos"][tick] for tick in ticks], azimuth=azimuth)
    pictures = []
    for share, body, robot, tick in zip(shares, bodies, robots, ticks, strict=True):
        centre = body.vertices.mean(axis=0)
        eye = centre + 2.9 * facing + (0, 0, 0.5)
        person = picture([shown.scene, body], eye, centre, (480, 360))
        both = np.concatenate([person, robot], axis=1)
        seconds = share * (human.times_ns[-1] - human.times_ns[0]) * 1e-9
        pictures.append(
            Picture(
                picture_png(both),
                f"{seconds:.1f} s into the clip; the robot {tracking['t_s'][tick]:.1f} s into its run",
            )
        )
    return Section(
        "moments",
        "The person and the robot",
        "Left the fitted body in the reconstructed room, right the robot on its stage under ROS 2, as simulated.",
        pictures,
        2,
    )


def _front(human: HumanMotion) -> np.ndarray:
    """Return a horizontal direction (3,) obliquely in front of the person."""
    left, right = (
        human.joint_pos[:, human.joint_names.index(f"{side}_shoulder")].mean(axis=0) for side in ("left", "right")
    )
    across = (left - right)[:2] / max(float(np.linalg.norm((left - right)[:2])), 1e-6)
    forward = np.array([across[1], -across[0]])
    oblique = np.cos(0.6) * forward + np.sin(0.6) * across
    return np.array([oblique[0], oblique[1], 0.0])


def _tracking(out: Path, tracking: dict[str, np.ndarray]) -> Section:
    from robot.run_figures import read_ticks

    ticks = read_ticks(out / "run" / "run.mcap")
    live = ticks[len(ticks) - len(tracking["t_s"]) :]
    release_ns = live[0]["t_ns"] - float(tracking["t_s"][0]) * 1e9
    path = out / "run" / "decisions.json"
    decisions = read_json(path)["decisions"] if path.is_file() else []
    marks = [((d["t_ns"] - release_ns) / 1e9, d["wall_s"], d["skill"]) for d in decisions]
    skills = [tick["skill"] for tick in live]
    plot = tracking_plot(tracking["t_s"], tracking["body_error_m"], skills, marks, 0.12)
    told = " ".join(
        f"At {time:.1f} s the orchestrator began {wall_s:.1f} s of rehearsals and chose {skill}: {d['reason']}."
        for (time, wall_s, skill), d in zip(marks, decisions, strict=True)
    )
    return Section(
        "tracking", "Tracking and decisions", told or "No orchestrator ran.", [Picture(plot, "body error and skills")]
    )


def _timing(tracking: dict[str, np.ndarray]) -> Section:
    plot = timing_plot(tracking["tick_ms"], tracking["late_ms"], 20.0)
    return Section(
        "timing",
        "The control loop's time",
        "From the inputs to the command, and how late a tick began.",
        [Picture(plot, "timing")],
    )

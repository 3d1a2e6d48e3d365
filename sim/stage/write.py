"""Writes a stage folder that plain MuJoCo opens: the model, copies of its meshes, the motions and the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mujoco
import trimesh

from bodydouble.artifacts import atomic_dir, provenance, write_json
from bodydouble.errors import InputError
from bodydouble.motion import RobotMotion
from sim.robots import RobotSpec
from sim.robots.spec import compile_spec, load_mjspec
from sim.stage.limits import check_files, check_model, check_spec
from sim.stage.stage import (
    ASSETS_FOLDER,
    CONTROL_HZ,
    MANIFEST_FILE,
    MODEL_FILE,
    MOTIONS_FOLDER,
    PHYSICS_DT,
    REFERENCE_FILE,
    Stage,
    check_motion,
    file_hashes,
)

FLOOR_GEOM = "floor"
"""Name of the floor plane."""


def add_floor(spec: mujoco.MjSpec) -> None:
    """Add the floor plane at height zero, lights, and a material that shows motion."""
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.78, 0.78, 0.76],
        rgb2=[0.68, 0.68, 0.66],
        width=256,
        height=256,
    )
    material = spec.add_material(name="floor", texrepeat=[1, 1], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.worldbody.add_geom(
        name=FLOOR_GEOM, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05], material="floor", condim=3
    )
    spec.worldbody.add_light(pos=[0, 0, 4], dir=[0, 0, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)


def write_stage(
    spec: mujoco.MjSpec,
    robot: RobotSpec,
    motions: Sequence[RobotMotion],
    out: Path,
    *,
    config: Any,
    inputs: Mapping[str, Path],
    figures: Mapping[str, float],
    meshes: Mapping[str, trimesh.Trimesh] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Stage:
    """Write a stage folder in one step and return it loaded.

    Args:
        spec: Robot and scene, as `RobotSpec.mjspec` and additions to it.
        robot: The robot in it.
        motions: Reference motions at the control rate, at least one.
        out: The folder to write; an older one is replaced.
        config: Configuration, for the provenance.
        inputs: Input files or folders, for the provenance.
        figures: Figures of the manifest, {name: number}.
        meshes: Scene meshes by the file name that `spec` gives them.
        extra: Further entries of the manifest.

    Raises:
        InputError: A motion is for another robot or rate, a mesh is missing, the model does not compile, or the stage
            is larger than the limits.
    """
    if not motions:
        raise InputError(f"stage {out}: has no reference motion; give at least one")
    for i, motion in enumerate(motions):
        check_motion(f"motion {i}", motion, robot, CONTROL_HZ)
    with atomic_dir(Path(out)) as folder:
        (folder / ASSETS_FOLDER).mkdir()
        for name, mesh in (meshes or {}).items():
            mesh.export(folder / ASSETS_FOLDER / name, file_type="stl")
        _copy_meshes(spec, robot, set(meshes or {}), folder)
        (folder / MODEL_FILE).write_text(spec.to_xml())
        check_files(folder, MODEL_FILE)
        written = load_mjspec(folder / MODEL_FILE)
        check_spec(written, MODEL_FILE)
        check_model(compile_spec(written, MODEL_FILE), MODEL_FILE)
        names = [REFERENCE_FILE]
        motions[0].save(folder / REFERENCE_FILE)
        if len(motions) > 1:
            (folder / MOTIONS_FOLDER).mkdir()
        for i, motion in enumerate(motions[1:], start=1):
            names.append(f"{MOTIONS_FOLDER}/{i:04d}.npz")
            motion.save(folder / names[-1])
        manifest = dict(extra or {}) | {
            "provenance": provenance(config, inputs),
            "robot": {
                "name": robot.name,
                "joint_names": list(robot.joint_names),
                "source": robot.source,
                # Robots of the registry come from a wheel; others from an MJCF or mapping file.
                "from_mjcf": Path(robot.source).suffix in (".xml", ".mjcf", ".toml", ".json"),
                "licence": robot.licence.splitlines()[0],
            },
            "control_hz": CONTROL_HZ,
            "physics_dt": PHYSICS_DT,
            "motions": names,
            "files": file_hashes(folder, [MODEL_FILE, ASSETS_FOLDER, *names]),
            "figures": dict(figures),
        }
        (folder / "LICENCE.txt").write_text(robot.licence)
        write_json(folder / MANIFEST_FILE, manifest)
    return Stage.load(out)


def _copy_meshes(spec: mujoco.MjSpec, robot: RobotSpec, written: set[str], folder: Path) -> None:
    """Copy each mesh and texture file into the stage, and compile the model with the copies."""
    origins = [robot.mjcf, *(attachment.mjcf for attachment in robot.attachments)]
    folders = [path for origin in origins for path in _mesh_folders(origin)]
    copied: dict[str, Path] = {}
    for asset in [*spec.meshes, *spec.textures, *spec.hfields]:
        if not asset.file or asset.file in written:
            continue
        source = _find(asset.file, folders)
        if source is None:
            raise InputError(f"{robot.mjcf}: mesh file {asset.file!r} is missing; restore the model's files")
        name = source.name
        if copied.setdefault(name, source) != source:
            name = f"{source.parent.parent.name}_{source.name}"
            copied[name] = source
        shutil.copyfile(source, folder / ASSETS_FOLDER / name)
        asset.file = name
    spec.modelfiledir = str(folder)
    spec.meshdir = spec.texturedir = ASSETS_FOLDER
    compile_spec(spec, robot.name)


def _mesh_folders(mjcf: Path) -> tuple[Path, Path, Path]:
    spec = load_mjspec(mjcf)
    return mjcf.parent / spec.meshdir, mjcf.parent / spec.texturedir, mjcf.parent


def _find(file: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / file for folder in folders if (folder / file).is_file()), None)

"""`bodydouble view`: look at any artifact, in the rerun viewer or as a picture."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from bodydouble.artifacts import atomic_file, read_json
from bodydouble.cli.options import parse
from bodydouble.errors import InputError

KINDS = {
    "recording": "a recording (.mcap with cameras)",
    "reconstruction": "a reconstruction (folder with reconstruction.json)",
    "stage": "a stage (folder with stage.json)",
    "run": "a run (folder with run.json)",
    "policy": "a policy (.onnx)",
    "state": "a saved state (.npz), or a checkpoint, or what a diverged training saved (.safetensors)",
}
"""What can be looked at."""
MAX_STATE_BYTES = 1 << 30
"""Largest unpacked state file that is read."""


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble view`."""

    path: Annotated[Path, tyro.conf.Positional]
    """Recording, reconstruction, stage, run, policy (.onnx), checkpoint (.safetensors), or the state that a diverged
    simulation (.npz) or training (.safetensors) saved."""
    picture: Path | None = None
    """Write a picture (.png) and open no window."""
    rerun: Path | None = None
    """Write a file for the rerun viewer (.rrd) and open no window."""
    stage: Path | None = None
    """For a run: the stage it ran on; the one beside the run's folder otherwise."""
    plain: bool = False
    """For a picture of a reconstruction: geometry only, without the scene's colours."""


def main(argv: list[str]) -> int:
    """Run `bodydouble view`."""
    options = parse(Options, argv, prog="view", description="Look at an artifact, in rerun or as a picture.")
    kind = kind_of(options.path)
    if kind == "policy":
        print(_policy_text(options.path))
    elif kind == "state":
        print(state_text(options.path))
    elif options.picture is not None:
        _write_picture(kind, options, options.picture)
        print(options.picture)
    else:
        _show(kind, options)
    return 0


def kind_of(path: Path) -> str:
    """Return which of KINDS a path is.

    Raises:
        InputError: It is none of them.
    """
    if path.is_dir():
        for kind in ("reconstruction", "stage", "run"):
            if (path / f"{kind}.json").is_file():
                return kind
    elif path.is_file():
        suffixes = {".mcap": "recording", ".onnx": "policy", ".npz": "state", ".safetensors": "state"}
        for suffix, kind in suffixes.items():
            if path.suffix == suffix:
                return kind
    else:
        raise InputError(f"{path}: no such file or folder")
    raise InputError(f"{path}: nothing that can be looked at; expected {', '.join(KINDS.values())}")


def _write_picture(kind: str, options: Options, out: Path) -> None:
    from PIL import Image

    if out.suffix != ".png":
        raise InputError(f"{out}: expected a name that ends in .png")
    image = _picture(kind, options)
    with atomic_file(out) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", optimize=True)


def _picture(kind: str, options: Options) -> np.ndarray:
    if kind == "recording":
        from perception.show import recording_picture

        return recording_picture(options.path)
    if kind == "reconstruction":
        from perception.show import reconstruction_picture

        return reconstruction_picture(options.path, plain=options.plain)
    from sim.render import run_picture, stage_picture

    if kind == "stage":
        return stage_picture(options.path)
    return run_picture(options.path, _stage_of(options))


def _show(kind: str, options: Options) -> None:
    import rerun as rr

    rr.init(f"bodydouble {kind}", spawn=False)
    if options.rerun is not None:
        options.rerun.parent.mkdir(parents=True, exist_ok=True)
        rr.save(str(options.rerun))
    else:
        try:
            rr.spawn()
        except (OSError, RuntimeError) as error:
            raise InputError(f"the viewer did not open ({error}); write a file with --picture or --rerun") from None
    if kind == "recording":
        from perception.rerun_log import log_recording

        log_recording(options.path)
    elif kind == "reconstruction":
        from perception.rerun_log import log_reconstruction

        log_reconstruction(options.path)
    elif kind == "stage":
        from sim.rerun_log import log_stage

        log_stage(options.path)
    else:
        from sim.rerun_log import log_run

        log_run(options.path, _stage_of(options))
    if options.rerun is not None:
        rr.disconnect()
        print(options.rerun)


def _stage_of(options: Options) -> Path:
    if options.stage is not None:
        return options.stage
    beside = options.path.parent / "stage"
    if not beside.is_dir():
        raise InputError(f"{options.path}: no stage beside the run; name it with --stage")
    return beside


def _policy_text(path: Path) -> str:
    from robot.policy_file import PolicyFile

    contract = json.loads(PolicyFile(path).contract.to_json())
    for name in ("golden_inputs", "golden_outputs", "golden_memory"):
        if contract[name]:
            contract[name] = f"{len(contract[name])} vectors of {len(contract[name][0])}, reproduced"
    return json.dumps(contract, indent=1)


def state_text(path: Path) -> str:
    """Return a table of a state file's arrays, with the number and the first place of values that are not finite.

    Raises:
        InputError: The file is neither npz nor safetensors, or too large.
    """
    lines = [f"{'array':<32} {'shape':<18} {'type':<9} {'not finite':>10}  first at"]
    arrays, notes = _safetensors(path) if path.suffix == ".safetensors" else _npz(path)
    for name, array in arrays.items():
        bad = ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
        first = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ""
        lines.append(f"{name:<32} {array.shape!s:<18} {array.dtype!s:<9} {int(bad.sum()):>10}  {first}")
    manifest = path.parent / "policy.json"
    if manifest.is_file():
        notes.append(f"of the training in {path.parent}: {read_json(manifest).get('provenance', {}).get('command')}")
    return "\n".join(lines + notes)


def _npz(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_STATE_BYTES:
            raise InputError(f"{path}: unpacks to {size} bytes, the limit is {MAX_STATE_BYTES}")
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}, []
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a saved state ({error})") from None


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a checkpoint or a dump, and what it says of itself."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise InputError(f"{path}: is looked at with safetensors; pip install 'bodydouble[policy]'") from None
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size} bytes, the limit is {MAX_STATE_BYTES}")
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            notes = [f"{name}: {value[:2000]}" for name, value in (file.metadata() or {}).items()]
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a checkpoint or a saved state ({error})") from None
    return arrays, notes

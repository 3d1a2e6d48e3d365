"""Artifacts on disk: hashes, provenance, atomic writes, and whether a finished stage is still current."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodydouble import __version__
from bodydouble.errors import InputError

SCHEMA_VERSION = 1
"""Version of the artifacts' JSON files."""
MAX_JSON_BYTES = 64 << 20
"""Largest JSON file that is read."""
_REPORTED_PACKAGES = (
    "numpy",
    "torch",
    "mujoco",
    "open3d",
    "anny",
    "daqp",
    "onnx",
    "onnxruntime",
    "mcap",
    "ros-jazzy-rclpy",
)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def sha256_tree(root: Path) -> str:
    """Return one SHA-256 over the names and contents of a file, or of every file below a folder."""
    if root.is_file():
        return sha256_file(root)
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(path: Path, data: Any) -> None:
    """Write data (dataclasses, paths and arrays included) as JSON, replacing the file in one step.

    Raises:
        ValueError: The data hold NaN or infinity.
    """
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False, default=_jsonable)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: The file is missing, too large or no JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, the limit is {MAX_JSON_BYTES}")
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run the stage that writes it first") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); write it again") from None


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes its place on success and is removed on an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` on success and is removed on an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    os.chmod(temporary, 0o755)
    try:
        yield temporary
        if path.is_dir():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, old / "previous")
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def versions() -> dict[str, str]:
    """Return the versions of bodydouble, Python and the packages that matter for a result."""
    found = {"bodydouble": __version__, "python": platform.python_version()}
    for name in _REPORTED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine_info() -> dict[str, Any]:
    """Return the processor, its cores and the system: what a measured figure depends on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "arch": platform.machine()}


def inputs_hash(config: Any, inputs: Mapping[str, Path]) -> str:
    """Return one hash of a stage's configuration, its input files or folders, and bodydouble's version."""
    parts = {
        "version": __version__,
        "config": json.loads(json.dumps(config, default=_jsonable)),
        "inputs": {name: sha256_tree(Path(path)) for name, path in sorted(inputs.items())},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def provenance(config: Any, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return what an artifact's JSON says of its making: schema, inputs, configuration, command, versions."""
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs_hash": inputs_hash(config, inputs),
        "inputs": {name: Path(path).name for name, path in sorted(inputs.items())},
        "config": json.loads(json.dumps(config, default=_jsonable)),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": versions(),
    }


def is_current(manifest: Path, expected_hash: str) -> bool:
    """Return whether an artifact's JSON exists and was made from the same inputs and configuration."""
    if not manifest.is_file():
        return False
    data = read_json(manifest)
    return isinstance(data, dict) and data.get("provenance", {}).get("inputs_hash") == expected_hash

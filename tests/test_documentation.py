"""Every command that the documentation shows is one that exists, with options that exist; the slow test runs them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from bodydouble.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS_MORE = ("FOLDER", "record ros")
"""Commands that need a user's folder or cameras; their options are checked, they are not run."""


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("bodydouble ")]


ALL = sorted({command for page in PAGES for command in commands(page)})


class ParsedError(Exception):
    """Raised in place of the work, once the options are understood."""


def test_pages_show_commands() -> None:
    assert len(ALL) > 20


@pytest.mark.parametrize("command", ALL)
def test_command_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = tyro.cli

    def stop(*args: object, **kwargs: object) -> None:
        parse(*args, **kwargs)  # type: ignore[call-overload]
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", stop)
    with pytest.raises(ParsedError):
        main(shlex.split(command)[1:])


def test_links_and_pictures_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_commands_run(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "bodydouble.cli"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*run, "demo"], cwd=tmp_path, env=env, check=True)
    ordered = [command for page in PAGES for command in commands(page)]
    for command in dict.fromkeys(ordered):
        if not any(text in command for text in NEEDS_MORE):
            done = subprocess.run([*run, *shlex.split(command)[1:]], cwd=tmp_path, env=env, check=False)
            assert done.returncode == 0, command

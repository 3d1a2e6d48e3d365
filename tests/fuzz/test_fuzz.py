"""Ten seconds of fuzzing in every test run; `python -m benchmarks.fuzz` runs a million cases of the same targets."""

from __future__ import annotations

import os
import random
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from benchmarks.fuzz_targets import TARGETS, Runner, Target, packed, unpacked

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"contract": 300, "mcap": 300, "recover": 150, "policy": 200, "motion": 150}
"""Cases of a target; 25 of the others, whose cases take longer."""


@pytest.fixture(scope="module", params=TARGETS, ids=lambda target: target.name)
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    target: Target = request.param
    if target.name == "record3d":
        pytest.importorskip("liblzfse")
    with tempfile.TemporaryDirectory() as folder:
        found = Runner(target, Path(folder) / "case")
        found.sound()
        yield found


def test_a_mutated_file_is_taken_or_refused(runner: Runner) -> None:
    @settings(
        max_examples=EXAMPLES.get(runner.target.name, 25), deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(st.randoms(use_true_random=False))
    def attempt(rng: random.Random) -> None:
        runner.attempt(runner.case(rng))

    attempt()


def test_shares_are_whole() -> None:
    assert sum(target.share for target in TARGETS) == pytest.approx(1.0)
    assert sum(fuzz.wanted(target, 1_000_000) for target in TARGETS) >= 1_000_000


def test_a_failure_is_kept_with_its_bytes(tmp_path: Path) -> None:
    """The long run tells apart a parser that fails from the start, one that dies, and one that is sound."""
    seeds = TARGETS[0].seeds

    def wrong(folder: Path) -> None:
        raise KeyError("an error of no class of ours")

    calls = []

    def fatal(folder: Path) -> None:
        calls.append(folder)
        if len(calls) > len(seeds()) + 2:
            os.kill(os.getpid(), signal.SIGKILL)

    for name, read, tried, kept in (("wrong", wrong, 0, ()), ("fatal", fatal, 3, ("fatal-2",)),
                                    ("sound", TARGETS[0].read, 4, ())):  # fmt: skip
        target = Target(name, 1.0, seeds, read)
        if name == "wrong":
            with pytest.raises(SystemExit, match="the worker failed by itself"):
                fuzz.run_batch(target, 0, 0, 4, tmp_path)
            continue
        done, _ = fuzz.run_batch(target, 0, 0, 4, tmp_path)
        assert done == tried
        for stem in kept:
            assert "killed by signal 9" in (tmp_path / f"{stem}.txt").read_text()
            case = unpacked((tmp_path / f"{stem}.zip").read_bytes())
            assert unpacked(packed(case)) == case and set(case) == {"contract.json"}


def test_nothing_is_unpickled() -> None:
    """No pickle, and nothing that unpickles or runs what a file holds, in any package that is installed."""
    banned = re.compile(
        r"^\s*(import|from)\s+(pickle|cPickle|dill|cloudpickle|shelve|marshal|joblib)\b"
        r"|\b(pickle|dill|cloudpickle|marshal|shelve)\.(load|loads|open|Unpickler)\("
        r"|\btorch\.load\(|allow_pickle\s*=\s*True|read_pickle\(|yaml\.(load|unsafe_load)\(|\.extractall\("
    )
    loads = re.compile(r"\bnp\.load\((?![^)]*\)\.)")
    for package in ("bodydouble", "perception", "sim", "worldmodel", "policy", "robot"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                code = line.split("#")[0]
                # A line of text alone tells a user how to convert a pickle.
                found = banned.search(code) and not code.lstrip().startswith('"')
                assert not found, f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
                if loads.search(code):
                    assert "allow_pickle=False" in code, f"{path.relative_to(ROOT)}:{number}: say allow_pickle=False"

"""Long fuzzing of every parser of foreign bytes: mutated files must be taken or refused, within memory and time.

    python -m benchmarks.fuzz --cases 1000000                 # all at once
    python -m benchmarks.fuzz --cases 1000000 --seconds 200   # a piece; call it again until it says that it is done

Cases are made from the seed and their number alone, so every one can be made again. Workers run with a limit on their
memory (resource.setrlimit) and on the time of a case; one that raises anything else than bodydouble's own errors, that
crashes its process, or that takes too long is a failure, and its files are kept. The count goes to the results file.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.fuzz_targets import TARGETS, Runner, Target, packed
from bodydouble.artifacts import read_json, write_json
from bodydouble.report.figures import merge_figures

BATCH = 5000
"""Cases of one worker process."""
MEMORY_BYTES = 2 << 30
"""Memory that a worker may take beyond what it holds once its libraries are loaded."""
CASE_S = 20
"""Longest time of one case, s."""
_SHARED = struct.Struct("<qq")


class TooLongError(BaseException):
    """A case took longer than it may."""


def wanted(target: Target, cases: int) -> int:
    """Return how many of all cases are a target's."""
    return round(target.share * cases)


def run_batch(target: Target, seed: int, begin: int, end: int, failures: Path) -> tuple[int, int]:
    """Try cases in a process of its own.

    Args:
        target: The target.
        seed: Seed of the whole run.
        begin: Number of the first case.
        end: Number after the last one.
        failures: Folder to keep the files of failures in.

    Returns:
        How many cases were tried, and how many were taken as sound; one less than `end - begin` where a case crashed.
    """
    shared = mmap.mmap(-1, _SHARED.size)
    shared[:] = _SHARED.pack(begin, 0)
    worker = os.fork()
    if worker == 0:
        status = 1
        try:
            _work(target, seed, begin, end, failures, shared)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(worker, 0)
    at, taken = _SHARED.unpack(shared[:])
    if status == 0:
        return end - begin, taken
    if os.WIFEXITED(status):
        raise SystemExit(f"{target.name}: the worker failed by itself, at case {at}")
    with tempfile.TemporaryDirectory() as folder:
        case = Runner(target, Path(folder) / "case").case(_rng(target, seed, at))
    _keep(failures, target, at, case, f"the process was killed by signal {os.WTERMSIG(status)}")
    return at + 1 - begin, taken


def _rng(target: Target, seed: int, number: int) -> random.Random:
    return random.Random(f"{seed}:{target.name}:{number}")


def _work(target: Target, seed: int, begin: int, end: int, failures: Path, shared: mmap.mmap) -> None:
    # What libraries print about hostile files is of no interest.
    devnull = os.open(os.devnull, os.O_WRONLY)
    said = os.dup(2)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    try:
        _try_cases(target, seed, begin, end, failures, shared)
    finally:
        os.dup2(said, 2)


def _try_cases(target: Target, seed: int, begin: int, end: int, failures: Path, shared: mmap.mmap) -> None:
    signal.signal(signal.SIGALRM, _too_long)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        runner = Runner(target, Path(folder) / "case")
        # Loads every library that the parser needs, so that the limit is on what a case takes.
        runner.sound()
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, held + MEMORY_BYTES))
        taken = 0
        for number in range(begin, end):
            shared[:] = _SHARED.pack(number, taken)
            case = runner.case(_rng(target, seed, number))
            signal.alarm(CASE_S)
            try:
                taken += runner.attempt(case)
            except (Exception, TooLongError) as error:
                signal.alarm(0)
                where = " < ".join(f"{f.name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:])
                _keep(failures, target, number, case, f"{type(error).__name__}: {str(error)[:300]} ({where})")
            signal.alarm(0)
        shared[:] = _SHARED.pack(end, taken)


def _too_long(signum: int, frame: Any) -> None:
    raise TooLongError(f"a case took longer than {CASE_S} s")


def _keep(failures: Path, target: Target, number: int, case: dict[str, bytes], why: str) -> None:
    failures.mkdir(parents=True, exist_ok=True)
    stem = failures / f"{target.name}-{number}"
    stem.with_suffix(".zip").write_bytes(packed(case))
    stem.with_suffix(".txt").write_text(why + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000, help="all cases together")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; call again to go on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", default=[], help="only these, for a piece; default all")
    parser.add_argument("--state", type=Path, default=Path("runs/fuzz"), help="folder of the count and of failures")
    parser.add_argument("--out", type=Path, help="results file to write the figures so far into")
    args = parser.parse_args()
    state_file = args.state / f"count-{args.seed}-{args.cases}.json"
    begun, failures = time.perf_counter(), args.state / "failures"
    for target in TARGETS:
        if args.targets and target.name not in args.targets:
            continue
        path = args.state / f"count-{args.seed}-{args.cases}-{target.name}.json"
        count = read_json(path) if path.is_file() else {"cases": 0, "taken": 0, "seconds": 0.0}
        while count["cases"] < wanted(target, args.cases) and time.perf_counter() - begun < args.seconds:
            start = time.perf_counter()
            end = min(count["cases"] + BATCH, wanted(target, args.cases))
            done, taken = run_batch(target, args.seed, count["cases"], end, failures)
            count["cases"] += done
            count["taken"] += taken
            count["seconds"] += time.perf_counter() - start
            write_json(path, count)
        print(f"{target.name}: {count['cases']} of {wanted(target, args.cases)} cases, {count['taken']} taken")
    return _report(args, state_file, failures)


def _report(args: argparse.Namespace, state_file: Path, failures: Path) -> int:
    counts: dict[str, Any] = {}
    for target in TARGETS:
        path = args.state / f"count-{args.seed}-{args.cases}-{target.name}.json"
        counts[target.name] = read_json(path) if path.is_file() else {"cases": 0, "taken": 0, "seconds": 0.0}
    found = sorted(failures.glob("*.txt")) if failures.is_dir() else []
    for path in found[:20]:
        print(f"FAILED {path.stem}: {path.read_text().strip()}")
    cases = sum(count["cases"] for count in counts.values())
    seconds = sum(count["seconds"] for count in counts.values())
    write_json(state_file, counts)
    print(f"{cases} cases in {seconds:.0f} s, {len(found)} failures, files in {args.state}")
    done = cases >= sum(wanted(target, args.cases) for target in TARGETS)
    if args.out:
        merge_figures(
            args.out, "fuzz", f"python -m benchmarks.fuzz --cases {args.cases} --out {args.out}",
            {"fuzz_cases": float(cases), "fuzz_failures": float(len(found)), "fuzz_s": round(seconds, 1)},
            seeds=[args.seed], targets=counts, memory_limit_mb=MEMORY_BYTES >> 20, case_limit_s=CASE_S,
        )  # fmt: skip
    print("done" if done else "not done yet: call it again with the same options")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

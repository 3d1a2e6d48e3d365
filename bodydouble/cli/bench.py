"""`bodydouble bench perception`."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from bodydouble.cli.options import choose, parse


def main(argv: list[str]) -> int:
    """Run `bodydouble bench`."""
    return choose("bench", {"perception": _perception}, argv)


def _perception(argv: list[str]) -> int:
    from rich.console import Console

    from perception.bench.clips import CLIPS, clip_config
    from perception.bench.memory import measure_memory
    from perception.bench.plot import write_picture
    from perception.bench.real import measure_real
    from perception.bench.report import merge_results, print_results, write_page
    from perception.bench.run import SyntheticRun, quick, run_synthetic
    from perception.bench.variants import VARIANTS

    @dataclass(frozen=True)
    class Options:
        clips: tuple[str, ...] = CLIPS
        """Synthetic clips to measure."""
        variants: tuple[str, ...] = tuple(VARIANTS)
        """Ways in which each is recorded: one camera, two with poses and clocks unknown, two calibrated."""
        out: Path | None = None
        """Results to write; parts measured before are kept, fusion.json and person_depth.json beside it are taken in.
        benchmarks/results/perception.json, or with --quick in the work folder."""
        work: Path = Path("runs/bench/perception")
        """Folder for recordings and reconstructions; what is finished there is not made again. A reconstruction is
        known by its recording and settings, not by the program's text: --again after changes to it."""
        again: bool = False
        """Make finished reconstructions again; recordings are kept."""
        quick: bool = False
        """Measure two clips of four seconds, in a minute or two."""
        memory: bool = False
        """Measure the peak memory of 60 s of two cameras instead of the clips."""
        real: Path | None = None
        """Measure camera tracking on this real recording instead: a 7-Scenes folder, or an .mcap with poses."""
        page: Path | None = None
        """Write the tables as a Markdown page too."""
        picture: Path | None = None
        """Draw the picture too (PNG)."""

    options = parse(
        Options,
        argv,
        prog="bench perception",
        description="Perception against truth: eight synthetic clips, memory, and a real recording.",
    )
    command = shlex.join(["bodydouble", "bench", "perception", *argv])
    work = options.work / "quick" if options.quick else options.work
    out = options.out or (work / "perception.json" if options.quick else Path("benchmarks/results/perception.json"))
    failed: dict[str, str] = {}
    if options.memory:
        part = {"command": command, "figures": measure_memory(work, again=options.again)}
        results = merge_results(out, command, memory=part)
    elif options.real is not None:
        part = {"command": command, "figures": measure_real(options.real, work)}
        results = merge_results(out, command, real=part)
    else:
        run = SyntheticRun(work, options.clips, options.variants, again=options.again)
        run = quick(work, again=options.again) if options.quick else run
        table, failed = run_synthetic(run)
        seeds = [clip_config(name).seed for name in run.clips]
        results = merge_results(out, command, seeds=seeds, table=table, failed=failed)
    if options.picture is not None and results.get("clips"):
        write_picture(results, options.picture)
    if options.page is not None:
        picture = options.picture or Path("docs/images/bench_perception.png")
        write_page(results, options.page, f"images/{picture.name}")
    # The table of the clips is wider than the width that is taken where there is no terminal.
    print_results(results, Console(width=max(150, Console().width)))
    print(f"results: {out}")
    return 1 if failed else 0

"""`bodydouble topics`: what a recording of anybody's holds, as a table and a picture of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from bodydouble.cli.options import parse
from bodydouble.errors import InputError
from bodydouble.recording.bag import Bag, open_bag
from bodydouble.recording.foreign import ForeignTypes, numbers

MAX_POINTS = 200_000
"""Most points of one panel; what comes later is left out and told."""


@dataclass(frozen=True)
class Options:
    """Options of `bodydouble topics`."""

    path: Annotated[Path, tyro.conf.Positional]
    """An MCAP file, a rosbag2 folder (sqlite3 or MCAP) or one of its files."""
    definitions: Path | None = None
    """Folder with PACKAGE/msg/NAME.msg files, for types that neither ROS 2 nor the bag defines."""
    topics: tuple[str, ...] = ()
    """Topics to draw; all that can be read otherwise."""
    picture: Path | None = None
    """Draw the numbers over time (PNG)."""


def main(argv: list[str]) -> int:
    """Run `bodydouble topics`."""
    options = parse(Options, argv, prog="topics", description="List a recording's topics, and draw their numbers.")
    with open_bag(options.path) as bag:
        types = ForeignTypes(options.definitions)
        against = {name: types.reason_against(topic) for name, topic in bag.topics.items()}
        _print_table(bag, against)
        if options.picture is not None:
            _draw(bag, types, against, options)
    return 0


def _print_table(bag: Bag, against: dict[str, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in ("topic", "type", "messages", "Hz", "longest gap, s", ""):
        right = column in ("messages", "Hz", "longest gap, s")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    times: dict[str, list[int]] = {name: [] for name in bag.topics}
    for message in bag.messages(list(bag.topics)):
        times[message.topic].append(message.received_ns)
    for name, topic in sorted(bag.topics.items()):
        seconds = np.array(times[name]) / 1e9
        gaps = np.diff(seconds)
        rate = f"{len(gaps) / (seconds[-1] - seconds[0]):.2f}" if len(gaps) and seconds[-1] > seconds[0] else ""
        gap = f"{gaps.max():.3f}" if len(gaps) else ""
        note = f"not read: {against[name]}" if against[name] else ""
        table.add_row(escape(name), escape(topic.msgtype), str(topic.count), rate, gap, escape(note))
    Console(width=max(120, Console().width)).print(table)


def _draw(bag: Bag, types: ForeignTypes, against: dict[str, str], options: Options) -> None:
    from bodydouble.artifacts import atomic_file
    from bodydouble.report.topics_plot import PANELS, topics_plot

    assert options.picture is not None
    for name in options.topics:
        if against.get(name, "is not there"):
            raise InputError(f"{options.path}: {name} {against.get(name, 'is not there')}")
    names = list(options.topics) or [name for name, reason in sorted(against.items()) if not reason]
    found: dict[str, dict[str, tuple[list[np.ndarray], list[np.ndarray]]]] = {name: {} for name in names}
    start: int | None = None
    points = 0
    for message in bag.messages(names):
        start = message.received_ns if start is None else start
        t_s = (message.received_ns - start) / 1e9
        for path, values in numbers(types.decode(bag.topics[message.topic], message)):
            series = found[message.topic].setdefault(path, ([], []))
            series[0].append(np.full(len(values), t_s))
            series[1].append(values)
            points += len(values)
        if points > MAX_POINTS * PANELS:
            print(f"drawn: the first {t_s:.1f} s")
            break
    # What never changes shows nothing; the first of each topic come before the second of any.
    merged = {
        name: [(path, (np.concatenate(t), np.concatenate(v))) for path, (t, v) in paths.items()]
        for name, paths in found.items()
    }
    moving = {n: [(p, s) for p, s in series if len(s[1]) and np.ptp(s[1])] for n, series in merged.items()}
    deepest = max((len(series) for series in moving.values()), default=0)
    order = {
        f"{name} {series[i][0]}": series[i][1]
        for i in range(deepest)
        for name, series in moving.items()
        if i < len(series)
    }
    if not order:
        raise InputError(f"{options.path}: holds no number that changes; nothing to draw")
    with atomic_file(options.picture) as temporary:
        temporary.write_bytes(topics_plot(order, options.path.name))
    print(f"{options.picture}: {min(len(order), PANELS)} of {len(order)} numbers")

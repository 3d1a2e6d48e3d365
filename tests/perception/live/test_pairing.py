"""Pairs of depth and colour by their stamps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perception.live.pairing import Pair, Pairing


def play(
    depths: list[int], colors: list[int], slop: int = 5, waiting: int = 30
) -> tuple[list[Pair[str]], Pairing[str]]:
    """Feed stamps in the order of time, colour first where they tie."""
    pairing: Pairing[str] = Pairing(slop, waiting)
    pairs: list[Pair[str]] = []
    for t, kind in sorted([(t, "depth") for t in depths] + [(t, "color") for t in colors]):
        add = pairing.add_depth if kind == "depth" else pairing.add_color
        pairs += add(t, f"{kind}{t}")
    pairs += pairing.finish()
    return pairs, pairing


def test_nearest_colour_is_taken() -> None:
    pairs, pairing = play([10, 43, 77], [8, 12, 41, 79])
    assert [(p.depth_ns, p.color_ns) for p in pairs] == [(10, 12), (43, 41), (77, 79)]
    assert pairs[0].depth == "depth10" and pairs[0].color == "color12"
    assert (pairing.paired, pairing.dropped_depth, pairing.dropped_color) == (3, 0, 1)


def test_images_out_of_reach_are_counted() -> None:
    pairs, pairing = play([0, 100, 200], [2, 150])
    assert [(p.depth_ns, p.color_ns) for p in pairs] == [(0, 2)]
    assert (pairing.dropped_depth, pairing.dropped_color) == (2, 1)


def test_silent_colour_camera_does_not_fill_the_memory() -> None:
    pairs, pairing = play(list(range(0, 1000, 10)), [], waiting=5)
    assert pairs == [] and pairing.dropped_depth == 100


def test_stamp_that_goes_back_is_dropped() -> None:
    pairing: Pairing[str] = Pairing(5, 30)
    list(pairing.add_depth(10, "a"))
    list(pairing.add_depth(9, "b"))
    assert pairing.dropped_depth == 1


stamps = st.lists(st.integers(0, 2000), max_size=40, unique=True)


@given(stamps, stamps, st.integers(0, 50), st.integers(1, 8))
def test_every_image_is_paired_once_or_counted(depths: list[int], colors: list[int], slop: int, waiting: int) -> None:
    pairs, pairing = play(depths, colors, slop, waiting)
    assert len(pairs) + pairing.dropped_depth == len(depths)
    assert len(pairs) + pairing.dropped_color == len(colors)
    assert len({p.color_ns for p in pairs}) == len(pairs)
    assert all(abs(p.depth_ns - p.color_ns) <= slop for p in pairs)
    assert [p.depth_ns for p in pairs] == sorted(p.depth_ns for p in pairs)

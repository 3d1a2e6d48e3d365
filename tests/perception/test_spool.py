"""A spool of frames reads as the array that went into it, and holds no memory."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bodydouble.errors import InputError
from perception.spool import FrameSpool

IMAGES = np.random.default_rng(0).integers(0, 65535, (7, 6, 8), dtype=np.uint16)


def spool_of(images: np.ndarray) -> FrameSpool:
    spool = FrameSpool(images.shape[1:], images.dtype)
    for image in images:
        spool.append(image)
    return spool


@pytest.mark.parametrize(
    "key",
    [0, 6, -1, np.int64(3), (2, slice(None, None, 2), slice(1, None, 3)), slice(2, 5), slice(None), (slice(1, 3), 0)],
)
def test_it_indexes_as_the_array_does(key):
    spool = spool_of(IMAGES)
    np.testing.assert_array_equal(spool[key], IMAGES[key])
    assert spool[key].dtype == np.uint16


def test_lists_masks_iteration_and_arrays():
    spool = spool_of(IMAGES)
    chosen = np.array([5, 0, 5])
    np.testing.assert_array_equal(spool[chosen], IMAGES[chosen])
    mask = np.arange(7) % 2 == 0
    np.testing.assert_array_equal(spool[mask], IMAGES[mask])
    np.testing.assert_array_equal(list(spool), IMAGES)
    np.testing.assert_array_equal(np.asarray(spool), IMAGES)
    assert spool.shape == IMAGES.shape and len(spool) == 7


@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_colour_and_sizes(count, height, width, color):
    """Any number of images of any size, also none."""
    shape = (count, height, width, 3) if color else (count, height, width)
    images = np.random.default_rng(count).integers(0, 255, shape, dtype=np.uint8)
    spool = spool_of(images)
    assert spool.shape == shape
    np.testing.assert_array_equal(spool[:], images)


def test_a_view_of_an_image_is_stored_as_it_looks():
    """Every second column, turned upside down: not contiguous in memory."""
    spool = FrameSpool((6, 4), np.uint16)
    spool.append(IMAGES[0, ::-1, ::2])
    np.testing.assert_array_equal(spool[0], IMAGES[0, ::-1, ::2])


@pytest.mark.parametrize("image", [np.zeros((6, 9), np.uint16), np.zeros((6, 8), np.float32)])
def test_another_shape_or_type_is_refused(image):
    spool = spool_of(IMAGES)
    with pytest.raises(InputError, match=r"image 7 is .*the images before it are uint16 \(6, 8\)"):
        spool.append(image)
    assert len(spool) == 7


@pytest.mark.parametrize("index", [7, -8])
def test_an_image_that_is_not_there(index):
    with pytest.raises(IndexError, match="of 7"):
        spool_of(IMAGES)[index]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="temporary file"):
        FrameSpool((2, 2), np.uint8, tmp_path / "no")


def test_no_memory_is_held():
    """200 MB go in and out; the process grows by less than a tenth of it."""
    image = np.ones((1000, 1000), dtype=np.uint16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spool = FrameSpool(image.shape, np.uint16)
    for _ in range(100):
        spool.append(image)
    assert sum(int(spool[index].max()) for index in range(100)) == 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_another_process_reads_the_same_frames():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(np.asarray, spool_of(IMAGES)).result(), IMAGES)

"""A first look at a bag: what its image topics hold, its intrinsics, its frames and its clocks."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from bodydouble.errors import InputError
from bodydouble.recording import messages
from bodydouble.recording.bag import Bag
from bodydouble.recording.images import decode_depth_values
from bodydouble.recording.limits import DEFAULT_LIMITS, Limits
from bodydouble.recording.transforms import TransformTree
from perception.importers.bag.bag_messages import IMAGES, IMU, ODOMETRY, POSE, Decoder, type_of
from perception.importers.bag.stamps import StampSample
from perception.importers.depth_unit import SAMPLE_IMAGES

SURVEY_NS = 3_000_000_000
"""Time from the first message that is looked at; on to the end while a topic has not been seen."""
_DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")
_SAMPLE_EVERY = 5
_MAX_STAMPS = 300


@dataclass
class ImageTopic:
    """What the first messages of an image topic say."""

    name: str
    count: int
    frame_id: str
    size: tuple[int, int]
    """Width and height, pixels."""
    encoding: str
    """ROS encoding, or jpeg, png, png16 for compressed images."""
    is_depth: bool
    unit: str
    """Unit by convention of a depth image's numbers: mm or m; empty for colour."""
    stamps: StampSample = field(default_factory=StampSample)
    samples: list[np.ndarray] = field(default_factory=list)
    """Some depth images, in the sender's counts."""


@dataclass(frozen=True, eq=False)
class InfoTopic:
    """The first CameraInfo of a topic."""

    name: str
    frame_id: str
    size: tuple[int, int]
    K: np.ndarray
    """(3, 3)."""
    D: np.ndarray
    """Distortion coefficients, as many as there are."""
    model: str
    """Distortion model."""
    P: np.ndarray
    """(3, 4) projection of rectified images."""


@dataclass
class Survey:
    """What a bag holds, for choosing cameras and poses."""

    path: Path
    images: dict[str, ImageTopic] = field(default_factory=dict)
    infos: dict[str, InfoTopic] = field(default_factory=dict)
    tree: TransformTree = field(default_factory=lambda: TransformTree(10**18))
    transforms: tuple[str, ...] = ()
    """Topics with transforms."""
    imus: dict[str, str] = field(default_factory=dict)
    """Frame by topic with an Imu."""
    poses: dict[str, str] = field(default_factory=dict)
    """Type by topic with PoseStamped or Odometry."""
    unread: tuple[str, ...] = ()
    """Topics of other schemas that look like images, as `topic (schema, encoding)`."""


def survey(bag: Bag, decode: Decoder, limits: Limits = DEFAULT_LIMITS) -> Survey:
    """Return what a bag holds; only as much of it is read as is needed.

    Raises:
        InputError: A message is damaged or beyond a limit.
    """
    out = Survey(bag.path)
    types = {name: kind for name, topic in bag.topics.items() if topic.count and (kind := type_of(topic))}
    out.transforms = tuple(name for name, kind in types.items() if kind == messages.TF_MESSAGE)
    out.poses = {name: kind for name, kind in types.items() if kind in (POSE, ODOMETRY)}
    out.unread = tuple(
        f"{topic.name} ({topic.msgtype or 'no schema'}, {topic.encoding or 'no encoding'})"
        for topic in bag.topics.values()
        if type_of(topic) is None and "image" in topic.msgtype.lower()
    )
    waiting = {name for name, kind in types.items() if kind in (*IMAGES, messages.CAMERA_INFO, IMU)}
    if out.transforms:
        waiting.add("")  # some transform
    begun: int | None = None
    skipped: dict[str, int] = {}
    for message in bag.messages(list(types)):
        begun = message.received_ns if begun is None else begun
        kind, name = types[message.topic], message.topic
        if kind == messages.TF_MESSAGE:
            add_transforms(out.tree, decode(message), name, is_static(name))
            waiting.discard("")
        elif kind in IMAGES:
            _see_image(out, name, bag.topics[name].count, decode, message, skipped, limits)
        elif kind == messages.CAMERA_INFO and name not in out.infos:
            out.infos[name] = _info(name, decode(message), limits)
        elif kind == IMU and name not in out.imus:
            out.imus[name] = decode(message).header.frame_id.lstrip("/")
        if kind not in IMAGES or out.images[name].samples or not out.images[name].is_depth:
            waiting.discard(name)
        if not waiting and message.received_ns - begun > SURVEY_NS:
            break
    return out


def is_static(topic: str) -> bool:
    """Return whether a topic of transforms holds those that never change."""
    return topic.rstrip("/").endswith("tf_static")


def add_transforms(tree: TransformTree, message: Any, topic: str, static: bool, t_ns: int | None = None) -> None:
    """Take a TFMessage into a tree, at its own stamps or at a given time.

    Raises:
        InputError: A transform is not finite, has no orientation, or there are too many frames.
    """
    try:
        tree.add(message, static, t_ns)
    except ValueError as error:
        raise InputError(f"{topic}: {error}; record it again") from None


def _see_image(
    out: Survey, name: str, count: int, decode: Decoder, raw: Any, skipped: dict[str, int], limits: Limits
) -> None:
    known = out.images.get(name)
    if known is not None and len(known.stamps.header_ns) >= _MAX_STAMPS and (known.samples or not known.is_depth):
        return
    message = decode(raw)
    if known is None:
        known = out.images[name] = _image_topic(name, count, message, limits)
    known.stamps.add(messages.stamp_ns(message.header.stamp), raw.received_ns)
    skipped[name] = skipped.get(name, -1) + 1
    if known.is_depth and skipped[name] % _SAMPLE_EVERY == 0 and len(known.samples) < SAMPLE_IMAGES:
        values = damaged_says(name, lambda: decode_depth_values(message, limits))
        if (values > 0).any():  # a camera that has just begun sends empty images
            known.samples.append(values)


def damaged_says(topic: str, action: Any) -> Any:
    """Return what a decoder returns.

    Raises:
        InputError: Instead of its ValueError, naming the topic.
    """
    try:
        return action()
    except ValueError as error:
        raise InputError(f"{topic}: a damaged image: {error}") from None


def _image_topic(name: str, count: int, message: Any, limits: Limits) -> ImageTopic:
    frame = message.header.frame_id.lstrip("/")
    if message.__msgtype__ == messages.IMAGE:
        size, encoding = (int(message.width), int(message.height)), message.encoding
    else:
        size, encoding = damaged_says(name, lambda: _compressed_kind(message, limits))
    is_depth = encoding in _DEPTH_ENCODINGS or encoding.startswith("png16")
    metres = encoding in ("32FC1", "png16 32FC1")
    return ImageTopic(name, count, frame, size, encoding, is_depth, ("m" if metres else "mm") if is_depth else "")


def _compressed_kind(message: Any, limits: Limits) -> tuple[tuple[int, int], str]:
    """Return size and kind of a compressed image: jpeg, png, png16, or `png16 32FC1` for quantised metres."""
    depth = "compressedDepth" in message.format
    if depth:
        values = decode_depth_values(message, limits)
        kind = "png16 32FC1" if values.dtype == np.float32 else "png16"
        return (values.shape[1], values.shape[0]), kind
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PilImage.open(io.BytesIO(bytes(message.data)), formats=("JPEG", "PNG")) as image:
                kind = str(image.format).lower()
                return image.size, "png16" if image.mode in ("I;16", "I;16B", "I") else kind
    except Exception as error:  # a decoder on foreign bytes
        raise ValueError(f"format {message.format[:40]!r}, neither JPEG nor PNG ({str(error)[:60]})") from None


def _info(name: str, message: Any, limits: Limits) -> InfoTopic:
    size = int(message.width), int(message.height)
    if size[0] * size[1] > limits.max_image_pixels:
        raise InputError(f"{name}: {size[0]} x {size[1]} pixels, the limit is {limits.max_image_pixels}")
    K, P = np.array(message.k, np.float64).reshape(3, 3), np.array(message.p, np.float64).reshape(3, 4)
    D = np.array(message.d, np.float64)
    return InfoTopic(name, message.header.frame_id.lstrip("/"), size, K, D, message.distortion_model, P)

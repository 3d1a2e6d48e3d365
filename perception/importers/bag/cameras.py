"""Which topics are which camera: told by type, names and frames where only one answer is possible, asked for else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bodydouble.errors import InputError
from perception.importers.bag.survey import ImageTopic, InfoTopic, Survey

NONE = "none"
"""Names no topic, e.g. no colour."""
_TRANSPORTS = ("compressed", "compressedDepth")
_STREAM = re.compile(r"(sw_|hw_)?(depth_)?registered|depth(_to_\w+)?|aligned_\w+|colou?r|rgb(_to_\w+)?|infra\d?|ir\d?")
_SIDE = re.compile(r"left|right|mono")
_INFRARED = re.compile(r"(?!.*depth).*(^|[/_])(infra\d?|ir\d?|infrared\d?)([/_]|$)")
_NO_ACCELERATION = re.compile(r"gyro|magn?(/|_|$)")
_REGISTERED = re.compile(r"registered|aligned|depth_to_(rgb|colou?r)")


@dataclass(frozen=True)
class TopicOptions:
    """The topics that the user named; each list is parallel to `depth`."""

    depth: tuple[str, ...] = ()
    color: tuple[str, ...] = ()
    info: tuple[str, ...] = ()
    color_info: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CameraChoice:
    """The topics of one camera."""

    name: str
    """Name in the recording."""
    depth: ImageTopic
    color: ImageTopic | None
    info: InfoTopic | None
    """Intrinsics of the depth images; None where there are none."""
    color_info: InfoTopic | None
    """Intrinsics of the colour images."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    def describe(self) -> str:
        """Return the topics as text for people."""
        color = self.color.name if self.color else "no colour"
        return f"{self.name}: depth {self.depth.name}, {color}, {self.info.name if self.info else 'no camera_info'}"


def choose_cameras(found: Survey, options: TopicOptions) -> list[CameraChoice]:
    """Return the cameras of a bag.

    Args:
        found: What the bag holds.
        options: The topics that the user named.

    Raises:
        InputError: No depth, a named topic that is not there, or more than one answer; the candidates are listed.
    """
    if not options.depth and (options.color or options.info or options.color_info):
        raise InputError("--config.color and --config.info belong to --config.depth, which is not given; name it too")
    for key in ("color", "info", "color_info", "names"):
        count = len(getattr(options, key))
        if count and options.depth and count != len(options.depth):
            raise InputError(f"--config.{key}: {count} names for {len(options.depth)} depth topics; give one for each")
    notes: dict[str, list[str]] = {}
    if options.depth:
        depths = [_named(found, name, "--config.depth", depth=True) for name in options.depth]
    else:
        depths = _find_depths(found, notes)
    colors = [
        _find_color(found, depth, depths, notes.setdefault(depth.name, []))
        if not options.color
        else (None if options.color[i] == NONE else _named(found, options.color[i], "--config.color", depth=False))
        for i, depth in enumerate(depths)
    ]
    names = options.names or _camera_names(depths)
    if len(names) != len(depths) or len(set(names)) != len(names):
        raise InputError(f"--config.names: {len(names)} names, expected {len(depths)} different ones")
    out = []
    for i, (depth, color) in enumerate(zip(depths, colors, strict=True)):
        info = _info(found, options.info[i]) if options.info else _find_info(found, depth)
        color_info = None
        if color is not None:
            color_info = _info(found, options.color_info[i]) if options.color_info else _find_info(found, color)
        out.append(CameraChoice(names[i], depth, color, info, color_info, tuple(notes.get(depth.name, ()))))
    return out


def choose_imus(
    found: Survey, cameras: Sequence[CameraChoice], told: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Return the topic of each camera's Imu by the camera's name, where there is one, and notes.

    It is the one in the namespace of the camera's images. Topics of a gyroscope alone do not count, and raw ones only
    where there is no other.

    Args:
        found: What the bag holds.
        cameras: The cameras.
        told: The topics that the user named, one for each camera; `none` for no Imu. Empty: none named.

    Raises:
        InputError: A named topic holds no Imu.
    """
    chosen, notes = {}, []
    for i, camera in enumerate(cameras):
        if told:
            if told[i] not in (NONE, *found.imus):
                known = ", ".join(found.imus) or NONE
                raise InputError(f"--config.imu {told[i]}: no Imu topic of {found.path}; these are: {known}")
            near = [] if told[i] == NONE else [told[i]]
        else:
            space = _namespace(camera.depth.name)
            inside = [name for name in found.imus if tuple(name.strip("/").split("/"))[: len(space)] == space]
            near = [name for name in inside if space and not _NO_ACCELERATION.search(name)]
            near = [name for name in near if "raw" not in name] or near
        if len(near) > 1:
            notes.append(f"{camera.name}: which Imu is the camera's? {', '.join(near)}; name it with --config.imu")
        elif near:
            chosen[camera.name] = near[0]
    return chosen, notes


def says_registered(topic: str) -> bool:
    """Return whether a depth topic's name says that it is registered to the colour images."""
    return _REGISTERED.search(topic) is not None


def list_topics(topics: Iterable[ImageTopic]) -> str:
    """Return topics with encoding and size, for messages."""
    return ", ".join(f"{t.name} ({t.encoding}, {t.size[0]} x {t.size[1]}, {t.count})" for t in topics) or "none"


def _base(topic: str) -> list[str]:
    parts = topic.strip("/").split("/")
    return parts[:-1] if parts[-1] in _TRANSPORTS else parts


def _namespace(topic: str) -> tuple[str, ...]:
    """Return the part of a topic's name that a camera's streams share."""
    stream = _base(topic)[:-1]
    if stream and _SIDE.fullmatch(stream[-1]):
        return tuple(stream[:-1])
    while stream and _STREAM.fullmatch(stream[-1]):
        stream.pop()
    return tuple(stream)


def _one_transport(topics: Sequence[ImageTopic], prefer_raw: bool) -> list[ImageTopic]:
    """Return one topic of those that carry the same images, raw and compressed."""
    by_base: dict[tuple[str, ...], list[ImageTopic]] = {}
    for topic in topics:
        by_base.setdefault(tuple(_base(topic.name)), []).append(topic)
    return [sorted(same, key=lambda t: (len(t.name) > len("/".join(key)) + 1) == prefer_raw)[0]
            for key, same in by_base.items()]  # fmt: skip


def _find_depths(found: Survey, notes: dict[str, list[str]]) -> list[ImageTopic]:
    candidates = [t for t in found.images.values() if t.is_depth and not _INFRARED.match(t.name)]
    if not candidates:
        unread = f"; not read: {', '.join(found.unread)}" if found.unread else ""
        raise InputError(
            f"{found.path}: holds no depth images (16UC1, mono16, 32FC1, compressedDepth, 16-bit PNG); image topics: "
            f"{list_topics(found.images.values())}{unread}"
        )
    groups: dict[tuple[str, ...], list[ImageTopic]] = {}
    for topic in _one_transport(candidates, prefer_raw=True):
        groups.setdefault(_namespace(topic.name), []).append(topic)
    out = []
    for group in groups.values():
        registered = [topic for topic in group if says_registered(topic.name)]
        best = group if len(group) == 1 else registered
        if len(best) != 1:
            raise InputError(
                f"{found.path}: which depth topic is to be taken? {list_topics(group)}; name it with --config.depth"
            )
        left = [topic.name for topic in group if topic is not best[0]]
        if left:
            notes.setdefault(best[0].name, []).append(f"{best[0].name} is taken, not {', '.join(left)}")
        out.append(best[0])
    return sorted(out, key=lambda topic: topic.name)


def _find_color(found: Survey, depth: ImageTopic, depths: Sequence[ImageTopic], notes: list[str]) -> ImageTopic | None:
    colors = [t for t in found.images.values() if not t.is_depth and not _INFRARED.match(t.name)]
    if not colors:
        notes.append(f"{depth.name}: no colour images")
        return None
    near = [t for t in colors if _namespace(t.name) == _namespace(depth.name)]
    if not near and len(depths) == 1:
        near = colors
    near = _one_transport(near, prefer_raw=False)
    if len(near) > 1:  # of gray and colour images, those with colour
        near = [t for t in near if t.encoding != "mono8"] or near
    if len(near) != 1:
        raise InputError(
            f"{found.path}: which colour topic belongs to {depth.name}? {list_topics(near or colors)}; name it with "
            f"--config.depth {depth.name} --config.color TOPIC ({NONE} for no colour)"
        )
    return near[0]


def _named(found: Survey, name: str, option: str, depth: bool) -> ImageTopic:
    topic = found.images.get(name)
    if topic is None:
        raise InputError(f"{option} {name}: no image topic of {found.path}: {list_topics(found.images.values())}")
    if topic.is_depth != depth:
        kind = "depth" if depth else "colour"
        raise InputError(f"{option} {name}: holds {topic.encoding} images, which are no {kind}; name another topic")
    return topic


def _info(found: Survey, name: str) -> InfoTopic | None:
    if name == NONE:
        return None
    if name not in found.infos:
        known = ", ".join(found.infos) or NONE
        raise InputError(f"--config.info {name}: no CameraInfo topic of {found.path}; these are: {known}")
    return found.infos[name]


def _find_info(found: Survey, image: ImageTopic) -> InfoTopic | None:
    """Return the calibrated CameraInfo beside an image topic, else the only one of its frame and size."""
    base = _base(image.name)
    slash = "/" if image.name.startswith("/") else ""
    for parts in (base[:-1], base):
        info = found.infos.get(slash + "/".join([*parts, "camera_info"]))
        if info is not None and info.K[0, 0] > 0 and (len(parts) > 0) and info.size == image.size:
            return info
    same = [
        info
        for info in found.infos.values()
        if info.frame_id == image.frame_id and info.size == image.size and info.K[0, 0] > 0
    ]
    if len(same) > 1 and all(np.array_equal(info.K, same[0].K) and np.array_equal(info.D, same[0].D) for info in same):
        return same[0]
    return same[0] if len(same) == 1 else None


def _camera_names(depths: Sequence[ImageTopic]) -> tuple[str, ...]:
    spaces = [_namespace(topic.name) for topic in depths]
    last = [space[-1] if space else "camera" for space in spaces]
    names = last if len(set(last)) == len(last) else ["_".join(space) or "camera" for space in spaces]
    clean = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    clean = [name if name[0].isalpha() else f"camera_{name}" for name in clean]
    return tuple(name if clean.index(name) == i else f"{name}_{i + 1}" for i, name in enumerate(clean))

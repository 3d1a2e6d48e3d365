"""Speed of Recordings on one core: writing, reading, and reading the same file with rosbags and mcap-ros2-support.

    python benchmarks/recording.py [--recording FILE.mcap] [--camera NAME]

Without a recording, 300 made frames of 640x480 with Kinect-like depth noise are used.
"""

from __future__ import annotations

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from PIL import Image
from rosbags.highlevel import AnyReader

from bodydouble.artifacts import machine_info, versions, write_json
from bodydouble.recording import RecordingReader, RecordingWriter, messages

WIDTH, HEIGHT, FRAMES, SEED = 640, 480, 300, 0
K = np.array([[525.0, 0, 319.5], [0, 525.0, 239.5], [0, 0, 1]])
JOINT_STATES = 20_000


def made_frames() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return 20 colour and depth images (mm): a slanted floor and a box, axial noise 1.9 mm * z^2, 8 % drop-out."""
    rng = np.random.default_rng(SEED)
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    out = []
    for i in range(20):
        z = 4.0 - 2.5 * v / HEIGHT
        z[150:350, 100 + 10 * i : 300 + 10 * i] = 1.6
        noisy = z + rng.normal(size=z.shape) * 0.0019 * z * z
        noisy[rng.random(z.shape) < 0.08] = 0.0
        rgb = np.stack([u * 255 // WIDTH, v * 255 // HEIGHT, (z * 60).astype(int)], axis=-1)
        rgb = np.clip(rgb + rng.normal(size=rgb.shape) * 6, 0, 255).astype(np.uint8)
        out.append((rgb, np.rint(noisy * 1000).astype(np.uint16)))
    return out


def per_second(count: int, action: Callable[[], object]) -> float:
    """Return how many of `count` things an action does per second of processor time: the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return round(count / best, 1)


def write_frames(path: Path, frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write FRAMES colour images, depth images and poses."""
    with RecordingWriter(path) as writer:
        writer.write_camera_info("camera", K, WIDTH, HEIGHT, 0)
        for i in range(FRAMES):
            rgb, depth = frames[i % len(frames)]
            writer.write_color("camera", rgb, i * 33_333_333)
            writer.write_depth("camera", depth, i * 33_333_333)
            writer.write_pose("camera", np.eye(4), i * 33_333_333)


def write_joint_states(path: Path) -> None:
    """Write messages of a 29-joint robot."""
    names = [f"joint_{i}" for i in range(29)]
    values = np.zeros(29)
    with RecordingWriter(path) as writer:
        for i in range(JOINT_STATES):
            fields = {"header": messages.header(i, "base"), "name": names, "position": values, "velocity": values}
            writer.write("/joint_states", "sensor_msgs/msg/JointState", fields, i)


def read_all(path: Path) -> int:
    """Decode every message."""
    with RecordingReader(path) as reader:
        return sum(1 for _ in reader.messages())


def read_frames(path: Path, camera: str, color: bool) -> int:
    """Read every frame with our reader."""
    with RecordingReader(path) as reader:
        return sum(1 for _ in reader.frames(camera, color=color))


def to_arrays(topic_message: Iterator[tuple[str, object]], camera: str) -> int:
    """Do by hand what frames() does with each message, without matching times or looking up poses."""
    count = 0
    for topic, message in topic_message:
        data = getattr(message, "data", None)
        if topic == f"/{camera}/depth/image":
            mm = np.frombuffer(data, "<u2").reshape(message.height, message.width)  # type: ignore[attr-defined]
            _ = mm.astype(np.float32) * np.float32(0.001)
            count += 1
        elif topic == f"/{camera}/color/image/compressed":
            _ = np.array(Image.open(io.BytesIO(bytes(data))).convert("RGB"))  # type: ignore[arg-type]
    return count


def read_rosbags(path: Path, camera: str) -> int:
    """Read every frame with rosbags."""
    with AnyReader([path]) as reader:
        return to_arrays(((c.topic, reader.deserialize(raw, c.msgtype)) for c, _, raw in reader.messages()), camera)


def read_mcap_ros2(path: Path, camera: str) -> int:
    """Read every frame with mcap and mcap-ros2-support."""
    with open(path, "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return to_arrays(((m.channel.topic, m.decoded_message) for m in reader.iter_decoded_messages()), camera)


def main() -> None:
    """Measure and write benchmarks/results/recording.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, help="a recording of 640x480 frames to read instead of a made one")
    parser.add_argument("--camera", default="camera")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "recording.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made, joints = Path(folder) / "made.mcap", Path(folder) / "joints.mcap"
        frames = made_frames()
        figures = {"write_frames_per_s": per_second(FRAMES, lambda: write_frames(made, frames))}
        path, camera = options.recording or made, options.camera
        count = read_frames(path, camera, True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures |= {
            "read_frames_per_s": per_second(count, lambda: read_frames(path, camera, True)),
            "read_depth_frames_per_s": per_second(count, lambda: read_frames(path, camera, False)),
            "read_growth_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
            "rosbags_frames_per_s": per_second(count, lambda: read_rosbags(path, camera)),
            "mcap_ros2_frames_per_s": per_second(count, lambda: read_mcap_ros2(path, camera)),
            "frames": count,
            "file_mb": round(path.stat().st_size / 1e6, 1),
            "write_joint_states_per_s": per_second(JOINT_STATES, lambda: write_joint_states(joints)),
            "read_joint_states_per_s": per_second(JOINT_STATES, lambda: read_all(joints)),
        }
    name = options.recording.name if options.recording else "made"
    command = "python benchmarks/recording.py" + (f" --recording {name}" if options.recording else "")
    result = {
        "machine": machine_info(),
        "versions": versions(),
        "seeds": [SEED],
        "command": command,
        "figures": figures,
    }
    write_json(options.out, result)
    print("\n".join(f"{key}: {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()

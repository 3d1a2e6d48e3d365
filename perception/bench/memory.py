"""The memory of a long recording: a short one is played forth and back until it lasts a minute, then reconstructed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from bodydouble.artifacts import atomic_file, inputs_hash, is_current, provenance, read_json, write_json
from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader, RecordingWriter
from bodydouble.recording.topics import camera_topics
from perception.bench.clips import clip_config
from perception.bench.run import run_child
from perception.bench.variants import RECORDING_FILE, VARIANTS, stamped, write_variant
from perception.synthetic.generate import generate

CLIP = "walk"
"""The clip that is played again and again."""
SECONDS = 60.0
"""How long the recording gets, s."""


def measure_memory(work: Path, seconds: float = SECONDS, *, again: bool = False) -> dict[str, float]:
    """Reconstruct a long recording of two cameras, poses and clocks unknown.

    Args:
        work: Folder for recordings and reconstruction.
        seconds: Length of the recording, s.
        again: Reconstruct again where that is finished; recordings are kept.

    Returns:
        Figures: peak_rss_gb, and of how many frames and seconds.

    Raises:
        InputError: The reconstruction failed.
    """
    folder = work / CLIP
    generate(clip_config(CLIP), folder / "recording")
    write_variant(folder / "recording", VARIANTS["dual"], folder / "dual_recording")
    long = work / "memory" / RECORDING_FILE
    frames = play_forth_and_back(folder / "dual_recording" / RECORDING_FILE, seconds, long)
    measures, out = work / "memory" / "measures.json", work / "memory" / "reconstruction"
    if again and out.is_dir():
        shutil.rmtree(out)
    run_child(long, out, measures)
    found = read_json(measures)
    if "error" in found:
        raise InputError(f"{long}: {found['error']}")
    figures = found["figures"]
    return {
        "peak_rss_gb": figures["peak_rss_gb"],
        "memory_frames": float(frames),
        "memory_clip_s": seconds,
    }


def play_forth_and_back(source: Path, seconds: float, out: Path) -> int:
    """Write a recording that goes forth and back through another one until it is long enough.

    Going back keeps every motion steady: at a turn the person and the cameras come back the way they went. Recorded
    poses are left out.

    Args:
        source: A recording whose messages begin with a header each.
        seconds: Length of the new one, s.
        out: The new one (.mcap); left as it is where it was made already.

    Returns:
        The number of depth images.
    """
    manifest = out.with_suffix(".json")
    inputs = {"recording": source}
    if is_current(manifest, inputs_hash({"seconds": seconds}, inputs)):
        return int(read_json(manifest)["figures"]["frames"])
    frames = 0
    with RecordingReader(source) as reader:
        topics = [topic for name in reader.cameras for topic in dataclasses.astuple(camera_topics(name))]
        messages = [(m.topic, m.msgtype, m.publish_time_ns, bytes(m.data)) for m in reader.raw_messages(topics)]
    first, last = messages[0][2], messages[-1][2]
    # From the last image to the first of the way back passes as much time as between two images.
    period = round((last - first) / max(1, len({time for _, _, time, _ in messages}) / 2))
    with atomic_file(out) as temporary, RecordingWriter(temporary) as writer:
        start, forth = first, True
        while start - first < seconds * 1e9:
            for topic, msgtype, time, data in messages if forth else messages[::-1]:
                moved = start + (time - first if forth else last - time)
                if moved - first >= seconds * 1e9:
                    break
                info = topic.endswith("camera_info")
                if info and start > first:
                    continue
                writer.write_cdr(topic, msgtype, stamped(data, moved - time), moved, moved)
                frames += topic.endswith("depth/image")
            start, forth = start + last - first + period, not forth
    write_json(manifest, {"provenance": provenance({"seconds": seconds}, inputs), "figures": {"frames": frames}})
    return frames

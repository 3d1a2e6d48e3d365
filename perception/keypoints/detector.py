"""A detector of 2D keypoints as an ONNX file that says what it is.

- Input `image` (1, 3, H, W) float32: RGB from 0 to 1, H and W fixed. The image is shrunk or enlarged with its aspect
  kept, put at the upper left, and the rest is 0. What else the network wants, such as a mean, belongs into its graph.
- Output `keypoints` (1, J, 3) float32: column, row (pixels of the input, centres at integers), score (0 to 1).
- Metadata `joint_names`: a JSON list of J names, as in a file of keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from rich.console import Console
from rich.progress import track

from bodydouble.errors import InputError
from bodydouble.recording import RecordingReader
from perception.keypoints.file import Keypoints, check_joint_names

_MAX_BYTES = 1 << 30
_MAX_SIDE = 4096


class KeypointDetector:
    """A detector that is ready to run.

    Args:
        path: The ONNX file.
        threads: Threads of the runtime; 0 leaves it to the runtime.

    Raises:
        InputError: The file is missing or no such detector.
    """

    def __init__(self, path: Path, threads: int = 0):
        self.path = path
        try:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise InputError(f"{path}: {size} bytes, the limit is {_MAX_BYTES}")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give the ONNX file of a detector") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:  # from bytes: external data beside or outside the file is not read
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions on foreign bytes
            said = " ".join(str(error).split())[:120]
            raise InputError(f"{path}: is no ONNX model that can be run ({said}); export it again") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if inputs else []
        if (
            [(i.name, i.type) for i in inputs] != [("image", "tensor(float)")]
            or len(shape) != 4
            or shape[:2] != [1, 3]
            or not all(isinstance(side, int) and 1 <= side <= _MAX_SIDE for side in shape[2:])
        ):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise InputError(f"{path}: inputs are {found}, expected image float (1, 3, H, W) with fixed H and W")
        if "keypoints" not in [output.name for output in outputs]:
            found = ", ".join(output.name for output in outputs)
            raise InputError(f"{path}: outputs are {found}, expected keypoints (1, J, 3)")
        self._height, self._width = shape[2:]
        self.joint_names = self._names()

    def detect(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (J, 2) in the image and confidence (J,) of its keypoints.

        Args:
            rgb: Image (h, w, 3) uint8.

        Raises:
            InputError: The model fails, or gives another shape.
        """
        height, width = rgb.shape[:2]
        scale = min(self._width / width, self._height / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        image = np.zeros((1, 3, self._height, self._width), np.float32)
        image[0, :, : size[1], : size[0]] = np.asarray(small, np.float32).transpose(2, 0, 1) / 255.0
        try:
            (found,) = self._session.run(["keypoints"], {"image": image})
        except Exception as error:  # the runtime's own exceptions
            raise InputError(f"{self.path}: fails on an image ({' '.join(str(error).split())[:120]})") from None
        found = np.asarray(found)
        if found.shape != (1, len(self.joint_names), 3):
            raise InputError(f"{self.path}: keypoints of {found.shape}, expected (1, {len(self.joint_names)}, 3)")
        # Pixel centres at integers on both sides.
        pixels = (found[0, :, :2] + 0.5) * np.array([width / size[0], height / size[1]]) - 0.5
        score = np.where(np.isfinite(found[0]).all(axis=1), np.clip(found[0, :, 2], 0.0, 1.0), 0.0)
        return np.where(score[:, None] > 0, pixels, 0.0), score

    def _names(self) -> tuple[str, ...]:
        text = self._session.get_modelmeta().custom_metadata_map.get("joint_names", "")
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{self.path}: metadata joint_names is {text[:60]!r}, expected a JSON list of names")
        check_joint_names(tuple(names), str(self.path))
        return tuple(names)


def detect_recording(recording: Path, detector: KeypointDetector) -> Iterator[Keypoints]:
    """Yield the keypoints of every camera of a recording that has colour.

    Raises:
        RecordingError: The recording is damaged.
        InputError: No camera has colour, or the model fails.
    """
    any_color = False
    with RecordingReader(recording) as reader:
        for camera in reader.cameras:
            times, pixels, scores = [], [], []
            frames = reader.frames(camera)
            total = reader.frame_count(camera)
            for frame in track(frames, f"keypoints of {camera}", total=total, console=Console(stderr=True)):
                if frame.color is not None:
                    found, score = detector.detect(frame.color)
                    times.append(frame.t_ns)
                    pixels.append(found)
                    scores.append(score)
            if times:
                any_color = True
                names = detector.joint_names
                yield Keypoints(camera, np.array(times, np.int64), names, np.array(pixels), np.array(scores))
    if not any_color:
        raise InputError(f"{recording}: no camera has colour images; a detector of keypoints needs them")

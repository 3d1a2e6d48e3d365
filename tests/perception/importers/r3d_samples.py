"""Record3D files that the tests write."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

W, H, DW, DH = 48, 64, 12, 16
IDENTITY = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
S = 0.5**0.5
POSES = [IDENTITY, [0.0, S, 0.0, S, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 1.0, 0.5, 0.0, -0.25]]


def depth_m(i: int) -> np.ndarray:
    depth = np.random.default_rng(i).uniform(0.5, 4.0, (DH, DW)).astype(np.float32)
    depth[0, 0] = np.nan
    return depth


def confidence(i: int) -> np.ndarray:
    return np.random.default_rng(100 + i).integers(0, 3, (DH, DW)).astype(np.uint8)


def color(i: int) -> np.ndarray:
    return np.full((H, W, 3), (40 * i, 90, 200), np.uint8)


def metadata(**changes) -> dict:
    base = {"w": W, "h": H, "dw": DW, "dh": DH, "K": [100.0, 0, 0, 0, 104.0, 0, 23.5, 31.5, 1], "fps": 10}
    out = {**base, "poses": POSES, **changes}
    return {key: value for key, value in out.items() if value is not None}


def entries(count: int = 3) -> dict[str, bytes]:
    """The entries of a sound file."""
    import liblzfse

    out = {"metadata": json.dumps(metadata()).encode()}
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(color(i)).save(buffer, "JPEG", quality=95)
        out[f"rgbd/{i}.jpg"] = buffer.getvalue()
        out[f"rgbd/{i}.depth"] = liblzfse.compress(depth_m(i).tobytes())
        out[f"rgbd/{i}.conf"] = liblzfse.compress(confidence(i).tobytes())
    return out


def write(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path

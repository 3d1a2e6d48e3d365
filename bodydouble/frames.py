"""Rotations and poses: quaternions are wxyz, transforms `T_to_from` are 4x4.

The quaternion functions take numpy arrays or torch tensors (array API) whose last dimension is the vector, and
broadcast over the others. They use elementwise products in a fixed order, so numpy and torch agree to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bodydouble.arrays import array_namespace

Array = Any


def quat_normalize(quat: Array) -> Array:
    """Return the quaternions (..., 4) scaled to unit length."""
    xp = array_namespace(quat)
    return quat / xp.sqrt(xp.sum(quat * quat, axis=-1, keepdims=True))


def quat_conj(quat: Array) -> Array:
    """Return the conjugates (inverse rotations) of unit quaternions (..., 4)."""
    xp = array_namespace(quat)
    return xp.concat([quat[..., :1], -quat[..., 1:]], axis=-1)


def quat_mul(a: Array, b: Array) -> Array:
    """Return the Hamilton products a * b of quaternions (..., 4): rotate by b, then by a."""
    xp = array_namespace(a, b)
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return xp.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def cross(a: Array, b: Array) -> Array:
    """Return the cross products of vectors (..., 3)."""
    xp = array_namespace(a, b)
    a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
    b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
    return xp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)


def quat_rotate(quat: Array, vec: Array) -> Array:
    """Return vectors (..., 3) rotated by unit quaternions (..., 4)."""
    xyz = quat[..., 1:]
    t = 2.0 * cross(xyz, vec)
    return vec + quat[..., :1] * t + cross(xyz, t)


def quat_rotate_inv(quat: Array, vec: Array) -> Array:
    """Return vectors (..., 3) rotated by the inverses of unit quaternions (..., 4)."""
    return quat_rotate(quat_conj(quat), vec)


def quat_from_axis_angle(axis: Array, angle: Array) -> Array:
    """Return quaternions (..., 4) for unit axes (..., 3) and angles (...) in radians."""
    xp = array_namespace(axis)
    half = 0.5 * angle
    return xp.concat([xp.cos(half)[..., None], axis * xp.sin(half)[..., None]], axis=-1)


def quat_from_rotvec(rotvec: Array) -> Array:
    """Return quaternions (..., 4) of rotation vectors (..., 3) in radians, exact through zero."""
    xp = array_namespace(rotvec)
    angle = xp.sqrt(xp.sum(rotvec * rotvec, axis=-1, keepdims=True))
    small = angle < 1e-6
    safe = xp.where(small, xp.ones_like(angle), angle)
    scale = xp.where(small, 0.5 - angle * angle / 48.0, xp.sin(0.5 * safe) / safe)
    return xp.concat([xp.cos(0.5 * angle), rotvec * scale], axis=-1)


def quat_to_rotvec(quat: Array) -> Array:
    """Return the rotation vectors (..., 3), of at most pi radians, of unit quaternions (..., 4)."""
    xp = array_namespace(quat)
    quat = xp.where(quat[..., :1] < 0, -quat, quat)
    xyz = quat[..., 1:]
    norm = xp.sqrt(xp.sum(xyz * xyz, axis=-1, keepdims=True))
    small = norm < 1e-6
    safe = xp.where(small, xp.ones_like(norm), norm)
    scale = xp.where(small, 2.0 * xp.ones_like(norm), 2.0 * xp.atan2(safe, quat[..., :1]) / safe)
    return xyz * scale


def quat_error(quat: Array, target: Array) -> Array:
    """Return the rotation vector (..., 3), in the world frame, that takes `quat` to `target`."""
    return quat_to_rotvec(quat_mul(target, quat_conj(quat)))


def quat_angle(a: Array, b: Array) -> Array:
    """Return the angles (...), in radians within [0, pi], between orientations a and b (..., 4).

    Kahan's form: unit vectors at an angle x have |a - b| / |a + b| = tan(x / 2), exact for small and large angles; a
    rotation's angle is twice that of its quaternions, and b and -b are the same rotation.
    """
    xp = array_namespace(a, b)
    difference, total = a - b, a + b
    apart = xp.sqrt(xp.sum(difference * difference, axis=-1))
    together = xp.sqrt(xp.sum(total * total, axis=-1))
    return 4.0 * xp.atan2(xp.minimum(apart, together), xp.maximum(apart, together))


def quat_to_matrix(quat: Array) -> Array:
    """Return the rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    xp = array_namespace(quat)
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    rows = [
        xp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=-1),
        xp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=-1),
        xp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1),
    ]
    return xp.stack(rows, axis=-2)


def yaw_angle(quat: Array) -> Array:
    """Return the headings (...), in radians about world Z, of orientations (..., 4)."""
    xp = array_namespace(quat)
    w, x, y, z = quat[..., 0], quat[..., 1], quat[..., 2], quat[..., 3]
    return xp.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def yaw_quat(quat: Array) -> Array:
    """Return the heading parts (..., 4) of orientations (..., 4): rotations about world Z alone."""
    xp = array_namespace(quat)
    half = 0.5 * yaw_angle(quat)
    zero = xp.zeros_like(half)
    return xp.stack([xp.cos(half), zero, zero, xp.sin(half)], axis=-1)


def heading_rotate_inv(quat: Array, vec: Array) -> Array:
    """Return vectors (..., 3) as seen from the headings of orientations (..., 4): turned about world Z alone."""
    xp = array_namespace(quat, vec)
    yaw = yaw_angle(quat)
    cos, sin = xp.cos(yaw), xp.sin(yaw)
    x, y, z = vec[..., 0], vec[..., 1], vec[..., 2]
    x, y = cos * x + sin * y, cos * y - sin * x
    return xp.stack([x, y, z], axis=-1)


def quat_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return unit quaternions (..., 4) of rotation matrices (..., 3, 3) (numpy), with w >= 0.

    Builds all four of Shepperd's candidates and keeps the best conditioned one.
    """
    m = np.asarray(matrix, dtype=np.float64)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = np.stack(
        [
            np.stack([1 + m00 + m11 + m22, a, b, c], axis=-1),
            np.stack([a, 1 + m00 - m11 - m22, d, e], axis=-1),
            np.stack([b, d, 1 - m00 + m11 - m22, f], axis=-1),
            np.stack([c, e, f, 1 - m00 - m11 + m22], axis=-1),
        ],
        axis=-2,
    )
    diagonal = np.stack([candidates[..., i, i] for i in range(4)], axis=-1)
    best = np.argmax(diagonal, axis=-1)
    quat = np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return np.where(quat[..., :1] < 0, -quat, quat)


def quat_slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Return the orientations (..., 4) a share `t` (...) of the shorter way from a to b (numpy)."""
    t = np.asarray(t, dtype=np.float64)[..., None]
    delta = quat_to_rotvec(quat_mul(quat_conj(a), b))
    return quat_mul(a, quat_from_rotvec(delta * t))


def wxyz_from_xyzw(quat: Array) -> Array:
    """Return quaternions (..., 4) in bodydouble's order from ROS's x, y, z, w."""
    xp = array_namespace(quat)
    return xp.concat([quat[..., 3:], quat[..., :3]], axis=-1)


def xyzw_from_wxyz(quat: Array) -> Array:
    """Return quaternions (..., 4) in ROS's order x, y, z, w."""
    xp = array_namespace(quat)
    return xp.concat([quat[..., 1:], quat[..., :1]], axis=-1)


def make_se3(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return transforms (..., 4, 4) of rotation matrices (..., 3, 3) and translations (..., 3) in metres."""
    rotation, translation = np.asarray(rotation, np.float64), np.asarray(translation, np.float64)
    shape = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    out = np.zeros((*shape, 4, 4))
    out[..., :3, :3] = rotation
    out[..., :3, 3] = translation
    out[..., 3, 3] = 1.0
    return out


def se3_inverse(transform: np.ndarray) -> np.ndarray:
    """Return the inverses (..., 4, 4) of rigid transforms."""
    rotation_t = np.swapaxes(transform[..., :3, :3], -1, -2)
    return make_se3(rotation_t, -(rotation_t @ transform[..., :3, 3:])[..., 0])


def se3_apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (..., N, 3) taken through rigid transforms (..., 4, 4)."""
    return points @ np.swapaxes(transform[..., :3, :3], -1, -2) + transform[..., None, :3, 3]


def fix_rotation(rotation: np.ndarray) -> np.ndarray:
    """Return the closest proper rotations (..., 3, 3), in the Frobenius norm, to nearly orthonormal matrices."""
    u, _, vt = np.linalg.svd(np.asarray(rotation, dtype=np.float64))
    sign = np.linalg.det(u @ vt)
    u = u.copy()
    u[..., :, 2] *= sign[..., None]
    return u @ vt

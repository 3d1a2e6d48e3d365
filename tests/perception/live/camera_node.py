"""A camera for the tests: publishes RGB-D, poses and an Imu until it is stopped, and skips every tenth colour image.

With the argument `compressed` colour is JPEG and depth is compressedDepth of 32FC1 (inverse depth, quantised).
"""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
from geometry_msgs.msg import PoseStamped
from PIL import Image as PilImage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu

from robot.nodes.process import reliable, running_node

WIDTH, HEIGHT, HZ = 64, 48, 30.0
FRAME = "cam_color_optical_frame"
INVERSE_A, INVERSE_B = 10100.0, -1009.0
"""Quantisation of compressedDepth: value = A / metres + B, by default A = 100 * 101 and B = 1 - A / 10."""


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def main() -> int:
    compressed = sys.argv[1:] == ["compressed"]
    kind = CompressedImage if compressed else Image
    with running_node("camera", []) as running:
        node = running.node
        depth = node.create_publisher(kind, "/cam/depth", reliable(10))
        color = node.create_publisher(kind, "/cam/color", reliable(10))
        info = node.create_publisher(CameraInfo, "/cam/info", reliable(10))
        pose = node.create_publisher(PoseStamped, "/cam/pose", reliable(10))
        imu = node.create_publisher(Imu, "/cam/imu", reliable(10))
        count = 0
        while not running.stop.wait(1 / HZ):
            stamp = node.get_clock().now().to_msg()

            def image(encoding: str, data: np.ndarray, stamp: object = stamp) -> Image:
                message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=data.nbytes // HEIGHT)
                message.header.stamp, message.header.frame_id = stamp, FRAME
                message.data = data.tobytes()
                return message

            def file(text: str, data: bytes, stamp: object = stamp) -> CompressedImage:
                message = CompressedImage(format=text, data=data)
                message.header.stamp, message.header.frame_id = stamp, FRAME
                return message

            mm = np.full((HEIGHT, WIDTH), 1500 + count, np.uint16)
            rgb = np.full((HEIGHT, WIDTH, 3), count % 256, np.uint8)
            inverse = np.rint(INVERSE_A / (mm / 1000) + INVERSE_B).astype(np.uint16)
            head = struct.pack("<iff", 0, INVERSE_A, INVERSE_B)
            if compressed:
                depth.publish(file("32FC1; compressedDepth png", head + encoded(inverse, "PNG")))
            else:
                depth.publish(image("16UC1", mm))
            if count % 10 != 9:
                color.publish(file("rgb8; jpeg", encoded(rgb, "JPEG")) if compressed else image("rgb8", rgb))
            k = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
            k.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
            k.header.stamp, k.header.frame_id = stamp, FRAME
            info.publish(k)
            where = PoseStamped()
            where.header.stamp, where.header.frame_id = stamp, "world"
            where.pose.position.x = 0.01 * count
            where.pose.orientation.w = 1.0
            pose.publish(where)
            felt = Imu()
            felt.header.stamp, felt.header.frame_id = stamp, FRAME
            felt.linear_acceleration.x, felt.linear_acceleration.y = 0.01 * count, -9.81
            imu.publish(felt)
            count += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

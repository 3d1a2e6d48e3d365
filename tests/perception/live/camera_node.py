"""A camera for the tests: publishes RGB-D with poses until it is stopped, and skips every tenth colour image."""

from __future__ import annotations

import sys

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, Image

from robot.nodes.process import reliable, running_node

WIDTH, HEIGHT, HZ = 64, 48, 30.0


def main() -> int:
    with running_node("camera", []) as running:
        node = running.node
        depth = node.create_publisher(Image, "/cam/depth", reliable(10))
        color = node.create_publisher(Image, "/cam/color", reliable(10))
        info = node.create_publisher(CameraInfo, "/cam/info", reliable(10))
        pose = node.create_publisher(PoseStamped, "/cam/pose", reliable(10))
        count = 0
        while not running.stop.wait(1 / HZ):
            stamp = node.get_clock().now().to_msg()

            def image(encoding: str, data: np.ndarray, stamp: object = stamp) -> Image:
                message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=data.nbytes // HEIGHT)
                message.header.stamp, message.header.frame_id = stamp, "cam_optical"
                message.data = data.tobytes()
                return message

            depth.publish(image("16UC1", np.full((HEIGHT, WIDTH), 1500 + count, np.uint16)))
            if count % 10 != 9:
                color.publish(image("rgb8", np.full((HEIGHT, WIDTH, 3), count % 256, np.uint8)))
            k = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
            k.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
            k.header.stamp, k.header.frame_id = stamp, "cam_optical"
            info.publish(k)
            where = PoseStamped()
            where.header.stamp, where.header.frame_id = stamp, "world"
            where.pose.position.x = 0.01 * count
            where.pose.orientation.w = 1.0
            pose.publish(where)
            count += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

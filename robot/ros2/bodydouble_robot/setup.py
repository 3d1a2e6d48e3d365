"""The ament_python form of the packages `bodydouble` and `robot`: the same files, built in a colcon workspace.

What ROS does not ship (onnxruntime, onnx, mcap, ...) comes from `pip install bodydouble[robot]`'s dependencies, see
docs/robot.md. `--symlink-install` is not supported: the sources lie beside this folder, not below it.
"""

import os
from pathlib import Path

from setuptools import find_packages, setup

# setuptools wants sources by paths relative to here.
ROOT = os.path.relpath(Path(__file__).resolve().parents[3], Path.cwd())
NAME = "bodydouble_robot"

setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(ROOT, include=["bodydouble", "bodydouble.*", "robot", "robot.*"]),
    package_dir={"bodydouble": f"{ROOT}/bodydouble", "robot": f"{ROOT}/robot"},
    package_data={"bodydouble": ["**/*.html", "**/*.j2", "**/*.msg", "**/*.json", "**/*.txt"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/robot.launch.py"]),
        (f"share/{NAME}/config", ["config/policy.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    license="Apache-2.0",
    description="Runs ONNX policies with their contract under ROS 2, behind a safety layer, and records them.",
    entry_points={
        "console_scripts": [
            "policy_node = robot.nodes.policy_node:main",
            "recorder_node = robot.nodes.recorder_node:main",
            "replayer_node = robot.nodes.replayer_node:main",
        ]
    },
)

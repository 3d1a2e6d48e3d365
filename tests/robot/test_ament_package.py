"""The form of the ament_python package: what colcon and `ros2 launch` would read. It is not built by colcon here."""

from __future__ import annotations

import ast
import configparser
import filecmp
import importlib
import runpy
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import setuptools

import bodydouble

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "robot" / "ros2" / "bodydouble_robot"
NAME = "bodydouble_robot"


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(PACKAGE / "package.xml").getroot()


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.chdir(PACKAGE)
    monkeypatch.setattr(setuptools, "setup", lambda **words: given.update(words))
    runpy.run_path("setup.py")
    return given


def test_manifest(manifest: ElementTree.Element, arguments: dict[str, Any]) -> None:
    assert manifest.tag == "package" and manifest.get("format") == "3"
    text = {child.tag: (child.text or "").strip() for child in manifest}
    assert text["name"] == arguments["name"] == NAME and (PACKAGE / "resource" / NAME).is_file()
    assert text["version"] == arguments["version"] == bodydouble.__version__
    assert text["license"] == "Apache-2.0" and text["description"] == arguments["description"]
    assert manifest.findtext("export/build_type") == "ament_python"


def test_every_ros_package_that_is_imported_is_a_dependency(manifest: ElementTree.Element) -> None:
    imported = set()
    for path in [*ROOT.glob("robot/**/*.py"), *ROOT.glob("robot/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported |= {name.split(".")[0] for name in names}
    others = ("rclpy", "launch", "launch_ros")
    ros = {name for name in imported if name.endswith(("_msgs", "_interfaces", "_srvs")) or name in others}
    wanted = {child.text for child in manifest.findall("exec_depend")}
    assert {"rclpy", "launch", "sensor_msgs", "std_srvs"} <= ros <= wanted


def test_scripts_go_where_ros2_run_looks() -> None:
    config = configparser.ConfigParser()
    config.read(PACKAGE / "setup.cfg")
    assert config["develop"]["script_dir"] == config["install"]["install_scripts"] == f"$base/lib/{NAME}"


def test_entry_points_are_there(arguments: dict[str, Any]) -> None:
    names = set()
    for entry in arguments["entry_points"]["console_scripts"]:
        name, _, target = entry.partition(" = ")
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        names.add(name)
    assert names == {"policy_node", "recorder_node", "replayer_node"}


def test_files_that_are_installed_exist(arguments: dict[str, Any]) -> None:
    installed = dict(arguments["data_files"])
    assert f"resource/{NAME}" in installed["share/ament_index/resource_index/packages"]
    assert "package.xml" in installed[f"share/{NAME}"]
    assert all((PACKAGE / file).is_file() for files in installed.values() for file in files)


def test_it_builds_the_same_code(tmp_path: Path) -> None:
    argv = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path)]
    done = subprocess.run(argv, cwd=PACKAGE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for package in ("robot", "robot/nodes", "bodydouble", "bodydouble/recording"):
        sources = sorted(path.name for path in (ROOT / package).glob("*.py"))
        equal, different, missing = filecmp.cmpfiles(ROOT / package, tmp_path / "lib" / package, sources, shallow=False)
        assert sources == sorted(equal) and not different and not missing
    assert not (tmp_path / "lib" / "sim").exists() and not list(PACKAGE.glob("*.egg-info"))


def test_launch_file_names_what_there_is(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with stand-ins for `launch` and `launch_ros`, which the wheels do not hold."""
    made: list[tuple[str, dict[str, Any]]] = []

    def module(name: str, **content: Any) -> None:
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))

    def record(kind: str) -> Any:
        return lambda *args, **words: made.append((kind, words | {"args": args})) or (kind, args)

    module("launch", LaunchDescription=lambda entities: entities)
    module("launch.actions", DeclareLaunchArgument=record("argument"))
    module("launch.substitutions", LaunchConfiguration=record("value"), PathJoinSubstitution=record("path"))
    module("launch_ros")
    module("launch_ros.actions", LifecycleNode=record("node"), Node=record("node"))
    module("launch_ros.substitutions", FindPackageShare=record("share"))
    space = runpy.run_path(str(PACKAGE / "launch" / "robot.launch.py"))
    entities = space["generate_launch_description"]()
    declared = {words["args"][0] for kind, words in made if kind == "argument"}
    used = {words["args"][0] for kind, words in made if kind == "value"}
    nodes = [words for kind, words in made if kind == "node"]
    assert used == declared and len(entities) == len(declared) + len(nodes)
    scripts = {entry.partition(" = ")[0] for entry in arguments["entry_points"]["console_scripts"]}
    assert all(node["package"] == NAME and node["executable"] in scripts for node in nodes)


def test_parameters_of_the_file_are_the_nodes() -> None:
    """A parameter that the node does not declare would be ignored without a word."""
    import dataclasses

    from robot.nodes.policy_node import RECEIVERS
    from robot.safety import SafetyConfig

    lines = (PACKAGE / "config" / "policy.yaml").read_text().splitlines()
    given = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines if ":" in line)}
    safety = {field.name for field in dataclasses.fields(SafetyConfig)}
    assert given.pop("receiver") in RECEIVERS and given.pop("hold_at_start") == "true"
    for heading in ("/**/policy", "ros__parameters", "safety"):
        assert given.pop(heading) == ""
    assert set(given) <= safety and len(given) == 3

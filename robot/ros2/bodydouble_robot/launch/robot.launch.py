"""The policy and its recorder on a robot whose driver and ros2_control run already.

ros2 launch bodydouble_robot robot.launch.py policy:=/data/policy.onnx reference:=/data/reference.npz namespace:=g1

The policy's node is left unconfigured. Configure and activate it with `ros2 lifecycle set /g1/policy configure` and
`activate`, or with a lifecycle manager; `hold_at_start` then waits for `ros2 service call /g1/policy/resume`.
"""

# launch and launch_ros come with ROS 2, not with the wheels that bodydouble is developed with.
# pyright: reportMissingImports=false
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = "bodydouble_robot"


def generate_launch_description() -> LaunchDescription:
    """Return the nodes and their arguments."""
    default_parameters = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", "policy.yaml"])
    arguments = [
        DeclareLaunchArgument("policy", description="the policy (.onnx)"),
        DeclareLaunchArgument("reference", default_value="", description="the stage's reference.npz"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the robot"),
        DeclareLaunchArgument("record", default_value="run.mcap", description="file to record into"),
        DeclareLaunchArgument("params_file", default_value=default_parameters, description="parameters of the policy"),
    ]
    value = {name: LaunchConfiguration(name) for name in ("policy", "reference", "namespace", "record", "params_file")}
    policy = LifecycleNode(
        package=PACKAGE,
        executable="policy_node",
        name="policy",
        namespace=value["namespace"],
        parameters=[value["params_file"], {"policy": value["policy"], "reference": value["reference"]}],
        output="screen",
    )
    recorder = Node(
        package=PACKAGE,
        executable="recorder_node",
        namespace=value["namespace"],
        arguments=["--out", value["record"]],
        output="screen",
    )
    return LaunchDescription([*arguments, policy, recorder])

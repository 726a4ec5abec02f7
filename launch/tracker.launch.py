"""Start the tracker: `ros2 launch taptr_ros tracker.launch.py image:=/camera/image_raw`."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from taptr_ros.nodes.process import IMAGE_TRANSPORT, TRANSPORT_VARIABLE

ARGUMENTS = [
    DeclareLaunchArgument("image", default_value="image", description="Topic of the camera's images."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([FindPackageShare("taptr_ros"), "config", "tracker.yaml"]),
        description="File with the node's parameters.",
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="lucas_kanade, a model file or an exported folder; empty: as the parameter file says, which by "
        "default is lucas_kanade, the only model that needs no weights.",
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        description="auto, torch, onnxruntime or opencv; empty: as the parameter file says.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="true or false: whether the node configures and activates itself; empty: as the parameter file "
        "says.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics."),
]


def tracker(context: LaunchContext) -> list[Node]:
    """Return the node. Arguments that are not empty go before the parameter file."""
    kinds = {"model": str, "backend": str, "autostart": bool}
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in kinds.items()
        if LaunchConfiguration(name).perform(context)
    }
    return [
        Node(
            package="taptr_ros",
            executable="tracker",
            name="tracker",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), *([given] if given else [])],
            remappings=[("image", LaunchConfiguration("image"))],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the launch: its arguments, the transport that lets images through, and the one node."""
    transport = EnvironmentVariable(TRANSPORT_VARIABLE, default_value=IMAGE_TRANSPORT)
    return LaunchDescription(
        [*ARGUMENTS, SetEnvironmentVariable(TRANSPORT_VARIABLE, transport), OpaqueFunction(function=tracker)]
    )

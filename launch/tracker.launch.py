"""Start the tracker: `ros2 launch taptr_ros tracker.launch.py image:=/camera/image_raw`.

Arguments can add a source of images, in place of a camera, and a recorder.
"""

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
        description="File with the tracker's parameters.",
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="taptr_small, lucas_kanade, a model file or an exported folder; empty: as the parameter file says, "
        "which by default is taptr_small.",
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        description="auto, torch, onnxruntime or opencv; empty: as the parameter file says.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="true or false: whether the tracker configures and activates itself; empty: as the parameter file "
        "says.",
    ),
    DeclareLaunchArgument(
        "compressed",
        default_value="",
        description="true or false: whether images are CompressedImage; empty: as the parameter file says.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes and their topics."),
    DeclareLaunchArgument(
        "source",
        default_value="",
        description="Video file, folder of images or number of a camera to publish as images; empty: none.",
    ),
    DeclareLaunchArgument(
        "bag",
        default_value="",
        description="rosbag2 whose images to publish, with their own stamps; empty: none.",
    ),
    DeclareLaunchArgument(
        "record",
        default_value="",
        description="Folder of a new rosbag2 in which to record images and tracks; empty: none.",
    ),
]


def nodes(context: LaunchContext) -> list[Node]:
    """Return the tracker and, beside it, only what was asked for."""
    given = {name: value for name in ("source", "bag", "record") if (value := _value(context, name))}
    if "source" in given and "bag" in given:
        raise RuntimeError("Both source and bag are given, but images can come from one only; leave one out.")
    started = [_tracker(context)]
    if "record" in given:
        recording = {"directory": _text(given["record"])}
        if _value(context, "compressed"):
            recording["compressed"] = ParameterValue(LaunchConfiguration("compressed"), value_type=bool)
        started.append(_node("recorder", recording))
    subscribers = len(started)  # the source waits until all of them can hear it
    if "source" in given and given["source"].isdigit():
        started.append(_node("video_source", {"camera": int(given["source"]), "subscribers": subscribers}))
    elif played := given.get("source") or given.get("bag"):
        started.append(_node("video_source", {"source": _text(played), "subscribers": subscribers}))
    return started


def _tracker(context: LaunchContext) -> Node:
    """Return the tracker. Arguments that are not empty go before the parameter file."""
    kinds = {"model": str, "backend": str, "autostart": bool, "compressed": bool}
    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in kinds.items()
        if _value(context, name)
    }
    return _node("tracker", LaunchConfiguration("params_file"), *([given] if given else []))


def _node(name: str, *parameters: object) -> Node:
    return Node(
        package="taptr_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[*parameters],
        remappings=[("image", LaunchConfiguration("image"))],
        output="screen",
    )


def _value(context: LaunchContext, name: str) -> str:
    return LaunchConfiguration(name).perform(context)


def _text(value: str) -> ParameterValue:
    return ParameterValue(value, value_type=str)


def generate_launch_description() -> LaunchDescription:
    """Describe the launch: its arguments, the transport that lets images through, and the nodes."""
    transport = EnvironmentVariable(TRANSPORT_VARIABLE, default_value=IMAGE_TRANSPORT)
    return LaunchDescription(
        [*ARGUMENTS, SetEnvironmentVariable(TRANSPORT_VARIABLE, transport), OpaqueFunction(function=nodes)]
    )

"""Start the tracker: `ros2 launch taptr_ros tracker.launch.py image:=/camera/image_raw`.

Arguments can add a source of images, in place of a camera, points to start with, and a recorder. The launch ends when
the tracker ends, or when one of the others fails.
"""

from functools import partial

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from taptr_ros.bodies.topics import camera_info_topic

TRUTH = ["", "true", "false"]

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
        description="taptr_small, lucas_kanade, a model file or an exported folder. Overrides the parameter file when "
        "set.",
    ),
    DeclareLaunchArgument(
        "backend",
        default_value="",
        choices=["", "auto", "torch", "onnxruntime", "opencv"],
        description="What runs the model. Overrides the parameter file when set.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="Where the model runs: cpu, cuda, cuda:INDEX or tensorrt. Overrides the parameter file when set.",
    ),
    DeclareLaunchArgument(
        "precision",
        default_value="",
        choices=["", "auto", "float32", "bfloat16", "int8"],
        description="Numbers that the model computes with. Overrides the parameter file when set.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=TRUTH,
        description="Whether the tracker configures and activates itself. Overrides the parameter file when set.",
    ),
    DeclareLaunchArgument(
        "compressed",
        default_value="",
        choices=TRUTH,
        description="Whether images are sensor_msgs/CompressedImage. Overrides the parameter file when set.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=TRUTH,
        description="Whether the nodes take the time from /clock; the source of images keeps its own.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes and their topics."),
    DeclareLaunchArgument(
        "grid",
        default_value="",
        description="N: track N x N points from the first image on, and start again when few are located; empty: none.",
    ),
    DeclareLaunchArgument(
        "depth",
        default_value="",
        description="Topic of depth images registered to the tracked ones, raw or ending with compressedDepth: start "
        "the node depth beside the tracker, which places points and bodies in space; empty: none.",
    ),
    DeclareLaunchArgument(
        "camera_info",
        default_value="",
        description="Topic of the tracked camera's CameraInfo; empty: camera_info beside the depth images.",
    ),
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
        "image_topic",
        default_value="",
        description="Topic of the images in the bag; empty if it has only one.",
    ),
    DeclareLaunchArgument(
        "rate",
        default_value="",
        description="Images per second of the source or the bag; empty: their own timing.",
    ),
    DeclareLaunchArgument(
        "loop",
        default_value="",
        choices=TRUTH,
        description="Whether the source or the bag starts again at its end.",
    ),
    DeclareLaunchArgument(
        "view",
        default_value="",
        choices=TRUTH,
        description="Whether to serve a page for a browser that shows and steers the tracker: http://127.0.0.1:8765/.",
    ),
    DeclareLaunchArgument(
        "view_address",
        default_value="",
        description="Address of this machine at which the page is served; it asks for a token, which is printed.",
    ),
    DeclareLaunchArgument(
        "record",
        default_value="",
        description="Folder of a new rosbag2 in which to record images and tracks; empty: none.",
    ),
]

KINDS = {
    "model": str,
    "backend": str,
    "device": str,
    "precision": str,
    "autostart": bool,
    "compressed": bool,
    "use_sim_time": bool,
    "grid": int,
    "image_topic": str,
    "rate": float,
    "loop": bool,
    "view": bool,
}
"""Arguments that are parameters of a node, and the types of these."""


def nodes(context: LaunchContext) -> list[object]:
    """Return the tracker and, beside it, only what was asked for."""
    given = {name: value for name in ("source", "bag", "record", "grid") if (value := _value(context, name))}
    if "source" in given and "bag" in given:
        raise RuntimeError("Both source and bag are given, but images can come from one only; leave one out.")
    clock = _parameters(context, "use_sim_time")
    # Arguments that are not empty override the parameter file.
    overrides = clock | _parameters(context, "model", "backend", "device", "precision", "autostart", "compressed")
    started = [_node("tracker", LaunchConfiguration("params_file"), *([overrides] if overrides else []))]
    if "record" in given:
        started.append(_node("recorder", {"directory": _text(given["record"])} | clock))
    subscribers = len(started)  # the source waits until all of them can hear it
    if "grid" in given:
        started.append(_node("grid", {"side": _parameters(context, "grid")["grid"]} | clock))
    if depth := _value(context, "depth"):
        started.append(_depth_node(depth, _value(context, "camera_info"), clock))
    playing = {"subscribers": subscribers} | _parameters(context, "image_topic", "rate", "loop")
    if _parameters(context, "view").get("view"):
        address = _value(context, "view_address")
        started.append(_node("view", ({"address": _text(address)} if address else {}) | clock))
    if "source" in given and given["source"].isdigit():
        started.append(_node("video_source", {"camera": int(given["source"])} | playing))
    elif played := given.get("source") or given.get("bag"):
        started.append(_node("video_source", {"source": _text(played)} | playing))
    return [*started, *map(_ending, started)]


def _depth_node(depth: str, camera_info: str, clock: dict[str, object]) -> Node:
    parameters = clock | ({"compressed": True} if depth.endswith("/compressedDepth") else {})
    remappings = [("depth", depth), ("camera_info", camera_info or camera_info_topic(depth))]
    return _node("depth", *([parameters] if parameters else []), remappings=remappings)


def _node(name: str, *parameters: object, remappings: list[tuple[str, object]] | None = None) -> Node:
    return Node(
        package="taptr_ros",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[*parameters],
        remappings=[("image", LaunchConfiguration("image"))] if remappings is None else remappings,
        output="screen",
    )


def _ending(node: Node) -> RegisterEventHandler:
    """Return what ends the launch when a node ends that must not."""
    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=partial(_after_exit, node.node_executable)))


def _after_exit(name: str, event: ProcessExited, context: LaunchContext) -> list[object]:
    """Say that a node has ended, and end the launch if it was the tracker, or if the node failed."""
    if context.is_shutdown:
        return []
    if name != "tracker" and not event.returncode:
        return [LogInfo(msg=f"{name} has ended; the others go on.")]
    reason = f"{name} has ended with status {event.returncode}: the launch ends"
    return [LogInfo(msg=f"{reason}."), Shutdown(reason=reason)]


def _parameters(context: LaunchContext, *names: str) -> dict[str, object]:
    """Return the parameters that the arguments of these names set; empty arguments set none."""
    return {name: _typed(name, value) for name in names if (value := _value(context, name))}


def _typed(name: str, value: str) -> object:
    kind = KINDS[name]
    if kind is str:
        return _text(value)
    if kind is bool:
        return value == "true"
    try:
        return kind(value)
    except ValueError:
        raise RuntimeError(f"{name} is {value!r}; use a number.") from None


def _value(context: LaunchContext, name: str) -> str:
    return LaunchConfiguration(name).perform(context)


def _text(value: str) -> ParameterValue:
    return ParameterValue(value, value_type=str)


def generate_launch_description() -> LaunchDescription:
    """Describe the launch: its arguments and the nodes, which choose the transport for images themselves."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])

"""Track the images of several cameras in one process: `ros2 launch taptr_ros cameras.launch.py cameras:="front rear"`.

Each camera has a tracker of its own in the namespace of its name, with its own tracks, topics and services; all share
one model. The launch ends when the process ends.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = [
    DeclareLaunchArgument(
        "cameras", default_value="front rear", description="Namespaces of the cameras, separated by spaces."
    ),
    DeclareLaunchArgument(
        "image", default_value="image_raw", description="Topic of the images in the namespace of each camera."
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([FindPackageShare("taptr_ros"), "config", "tracker.yaml"]),
        description="File with the parameters of all trackers, or of each by its name: /front/tracker, /rear/tracker.",
    ),
    DeclareLaunchArgument(
        "grid",
        default_value="",
        description="N: track N x N points of every camera from its first image on; empty: none.",
    ),
    DeclareLaunchArgument(
        "view",
        default_value="",
        choices=["", "true", "false"],
        description="Whether to serve a page for a browser, http://127.0.0.1:8765/, on which a camera can be chosen.",
    ),
]


def nodes(context: LaunchContext) -> list[Node]:
    """Return the process of the trackers, and one that chooses points for each camera if there is a grid."""
    cameras = LaunchConfiguration("cameras").perform(context).split()
    image = LaunchConfiguration("image").perform(context)
    grid = LaunchConfiguration("grid").perform(context)
    if not cameras:
        raise RuntimeError('No camera is given; name at least one, as in cameras:="front rear".')
    if grid and not grid.isdigit():
        raise RuntimeError(f"grid is {grid!r}; use a whole number.")
    trackers = Node(
        package="taptr_ros",
        executable="tracker",
        arguments=["--cameras", *cameras],
        parameters=[LaunchConfiguration("params_file")],
        remappings=[(f"/{camera}/image", f"/{camera}/{image}") for camera in cameras],
        output="screen",
        on_exit=Shutdown(reason="the trackers have ended"),
    )
    grids = [
        Node(
            package="taptr_ros",
            executable="grid",
            name="grid",
            namespace=camera,
            parameters=[{"side": int(grid)}],
            remappings=[("image", image)],
            output="screen",
        )
        for camera in cameras
        if grid
    ]
    view = Node(package="taptr_ros", executable="view", name="view", output="screen")
    return [trackers, *grids, *([view] if LaunchConfiguration("view").perform(context) == "true" else [])]


def generate_launch_description() -> LaunchDescription:
    """Describe the launch: its arguments and the nodes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])

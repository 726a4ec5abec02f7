"""ROS messages to arrays and back. Only `taptr_ros.messages.ros` needs ROS; the rest reads plain attributes."""

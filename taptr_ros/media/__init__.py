"""ROS messages as arrays, and tracks as ROS messages."""

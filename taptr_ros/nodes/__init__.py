"""ROS nodes on the tracker: topics, services, parameters, lifecycle, diagnostics."""

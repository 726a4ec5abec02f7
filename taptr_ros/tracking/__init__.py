"""`PointTracker`: tracks, memory, scene cuts and frame history. Knows no ROS, PyTorch or ONNX."""

"""`PointTracker`: tracks, memory, scene cuts and frame history. Knows no ROS, PyTorch or ONNX."""

from taptr_ros.tracking.config import TrackerConfig
from taptr_ros.tracking.states import Tracks, TrackState
from taptr_ros.tracking.stream import Step, TrackStream
from taptr_ros.tracking.tracker import PointTracker

__all__ = ["PointTracker", "Step", "TrackState", "TrackStream", "TrackerConfig", "Tracks"]

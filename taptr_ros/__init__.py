"""Track any point, live, in ROS 2: TAPTRv3 as a streaming tracker."""

from pkgutil import extend_path

# The messages that rosidl generates live in a second directory of this same package.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

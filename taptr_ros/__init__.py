"""Track any point, live, in ROS 2: TAPTRv3 as a streaming tracker."""

import os
from pkgutil import extend_path

# The messages that rosidl generates live in a second directory of this same package.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

MAX_IMAGE_PIXELS = 1 << 26
"""Most pixels of an image that is decoded, 8192x8192: a header may claim any size."""

# OpenCV reads this when it is imported, and refuses larger images of every kind before it takes memory for them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_IMAGE_PIXELS))

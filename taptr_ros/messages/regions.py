"""Regions from messages, whoever made the message types: rclpy, rosbags or a test."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from taptr_ros.errors import InvalidRegionError
from taptr_ros.messages.images import labels_of_image
from taptr_ros.tracking.regions import Box, Label, LabelMask, Region

_GROUP = re.compile("[0-9]{1,10}", re.ASCII)
"""What the id of a detection may be to become a group; Python refuses to read thousands of digits at all."""


@dataclasses.dataclass(frozen=True)
class RequestedRegions:
    """R regions of one image."""

    regions: Sequence[Region]
    """In the order of the request."""
    groups: list[int]
    """[R] the groups that they shall have, 0 for new ones."""

    @property
    def labels(self) -> list[int]:
        """Their labels [R] in the mask, 0 for boxes."""
        return [region.label if isinstance(region, Label) else 0 for region in self.regions]


@functools.cache
def detection_array_kind() -> Any:
    """Return the class vision_msgs/Detection2DArray, or None if vision_msgs is not installed."""
    try:
        from vision_msgs.msg import Detection2DArray
    except ImportError:
        return None
    return Detection2DArray


def requested_regions(message: Any) -> RequestedRegions:
    """Return the regions of a QueryRegions message.

    Raises `InvalidRegionError` for a request with boxes and a mask, or neither, or with another number of groups than
    regions, and `InvalidImageError` for a mask that cannot be read.
    """
    has_mask = bool(message.mask.width or message.mask.height or len(message.mask.data))
    if has_mask == bool(message.boxes):
        both = "both boxes and a mask" if has_mask else "neither boxes nor a mask"
        raise InvalidRegionError(f"The request holds {both}; send one of the two.")
    labels = [int(label) for label in message.labels]
    regions: Sequence[Region]
    if has_mask:
        regions = LabelMask.of(labels_of_image(message.mask)).regions(labels or None)
    elif labels:
        raise InvalidRegionError(f"The request holds {len(labels)} labels but no mask; leave them out, or send one.")
    else:
        regions = [
            Box(f"boxes[{index}]", box.x_offset, box.y_offset, box.width, box.height)
            for index, box in enumerate(message.boxes)
        ]
    groups = [int(group) for group in message.groups] or [0] * len(regions)
    if len(groups) != len(regions):
        raise InvalidRegionError(
            f"The request holds {len(regions)} regions but {len(groups)} groups; send one for each region, or none."
        )
    return RequestedRegions(regions, groups)


def detected_regions(message: Any) -> RequestedRegions:
    """Return the boxes of a vision_msgs/Detection2DArray.

    The `id` of a detection, if it is a whole number from 1 to 2^32 - 1, is its group: detectors that recognise bodies
    again give each its own.
    """
    regions, groups = [], []
    for index, detection in enumerate(message.detections):
        box = detection.bbox
        # The centre is a place in pixels, (0, 0) the middle of the first one.
        left = box.center.position.x - box.size_x / 2 + 0.5
        top = box.center.position.y - box.size_y / 2 + 0.5
        regions.append(Box(f"detections[{index}]", left, top, box.size_x, box.size_y, box.center.theta))
        is_group = _GROUP.fullmatch(detection.id) is not None and int(detection.id) < 2**32
        groups.append(int(detection.id) if is_group else 0)
    return RequestedRegions(regions, groups)

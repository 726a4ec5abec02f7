"""What `taptr replay` writes with depth images: points in metres, bodies and their poses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taptr_ros.bodies.stream import BodyStream, PlacedTracks
from taptr_ros.cli.offline import bodies_config
from taptr_ros.sources.bag_depth import BagDepth
from taptr_ros.sources.bags import BagWriter, RecordedMessage
from taptr_ros.sources.frames import Frame
from taptr_ros.sources.interfaces import PLACES, serialized_places
from taptr_ros.tracking.states import Tracks

if TYPE_CHECKING:
    from taptr_ros.sources.bag_source import BagSource


class Places:
    """Places tracks in space and writes them, each at the time at which its image was recorded.

    Images without depth are counted, and the first of each kind is reported. Raises `SourceError` for topics that are
    not in the bag.
    """

    def __init__(self, arguments: argparse.Namespace, source: BagSource) -> None:
        self._depth = BagDepth(Path(source.name), arguments.depth_topic, arguments.camera_info_topic)
        self._stream = BodyStream(bodies_config(arguments), self._report)
        tracks = arguments.tracks_topic
        namespace = tracks.rpartition("/")[0]
        self._topics = (f"{tracks}/points", f"{namespace}/bodies", f"{namespace}/bodies/poses")
        self._recorded: dict[int, int] = {}
        """Times of recording of images that have not been placed yet, by their stamps."""
        self._bag: BagWriter | None = None
        self._said: set[str] = set()

    def open(self, bag: BagWriter) -> None:
        """Announce the topics."""
        self._bag = bag
        for topic, kind in zip(self._topics, PLACES, strict=True):
            bag.add_topic(topic, kind)

    def add(self, frame: Frame, tracks: Tracks) -> None:
        """Take the tracks of the next image, and write what is placed now."""
        self._recorded[tracks.stamp] = frame.recorded
        self._write(self._depth.add_to(self._stream, tracks, frame.frame_id))

    def finish(self) -> None:
        """Write what still waits, and say how many images have no place."""
        self._write(self._stream.finish())
        counts = self._stream.counts
        if counts.unpaired or counts.refused:
            _say(
                f"{counts.placed} images were placed, {counts.unpaired} found no depth image, and of {counts.refused} "
                "the depth image or camera_info was refused."
            )

    def _write(self, placed: list[PlacedTracks]) -> None:
        assert self._bag is not None  # noqa: S101  # `open` comes first
        for entry in placed:
            recorded = self._recorded.pop(entry.lifted.tracks.stamp)
            for topic, data in zip(self._topics, serialized_places(entry), strict=True):
                self._bag.write(topic, RecordedMessage(recorded, data))

    def _report(self, sentence: str) -> None:
        kind = " ".join(sentence.split()[:4])
        if kind not in self._said:
            self._said.add(kind)
            _say(sentence)


def _say(sentence: str) -> None:
    print(f"taptr: {sentence}", file=sys.stderr)

"""The scene cut detector."""

from __future__ import annotations

import pickle
import tracemalloc

import cv2
import numpy as np
from scenedetect import ContentDetector, FrameTimecode, StatsManager
from streams import HEIGHT, WIDTH, stamp, texture, view

from taptr_ros.tracking.scene_cuts import SceneCutDetector


def test_a_cut_is_reported_in_its_own_frame_and_only_there():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=0.0)
    images = [view(frame, seed=frame // 8) for frame in range(32)]
    found = [detector.update(image, stamp(frame)) for frame, image in enumerate(images)]
    assert [frame for frame, cut in enumerate(found) if cut] == [8, 16, 24]


def test_cuts_in_a_grey_stream_count_as_much():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=0.0)
    images = [np.repeat(view(frame, seed=frame // 8)[:, :, :1], 3, axis=2) for frame in range(16)]
    found = [detector.update(image, stamp(frame)) for frame, image in enumerate(images)]
    assert [frame for frame, cut in enumerate(found) if cut] == [8]


def test_a_gap_counts_only_beyond_its_length():
    detector = SceneCutDetector(threshold=0.0, gap_seconds=0.5)
    stamps = [0, 500_000_000, 1_000_000_001, 1_100_000_000]
    assert [detector.update(view(0), at) for at in stamps] == [False, False, True, False]


def test_both_can_be_switched_off():
    detector = SceneCutDetector(threshold=0.0, gap_seconds=0.0)
    assert not any(detector.update(view(0, seed=frame), frame * 10**12) for frame in range(4))


def test_after_a_reset_frames_of_another_size_begin_anew():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=1.0)
    detector.update(view(0), stamp(100))
    detector.reset()
    assert not detector.update(view(0, seed=1)[:60], stamp(0))


def test_any_image_size_is_compared():
    for height, width in [(1, 1), (2, 5000), (5000, 2), (255, 257), (1080, 1920)]:
        detector = SceneCutDetector(threshold=27.0, gap_seconds=0.0)
        black, white = np.zeros((height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)
        assert [detector.update(image, at) for at, image in enumerate([black, black, white])] == [False, False, True]


def pan(offset: float, seed: int = 0) -> np.ndarray:
    """An image of a camera that has turned by `offset` pixels over the texture."""
    shift = np.array([[1, 0, offset], [0, 1, 100]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(texture(seed), shift, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_WRAP)


def test_a_fast_pan_is_no_cut_but_a_cut_within_it_is():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=0.0)
    offsets = np.cumsum(np.minimum(1.5 * np.arange(24), 12.0))
    images = [pan(offset) if frame < 20 else pan(offset, seed=1) // 8 for frame, offset in enumerate(offsets)]
    found = [detector.update(image, stamp(frame)) for frame, image in enumerate(images)]
    plain = ContentDetector()
    scores = [score_of(plain, image) for image in images]
    assert sum(score >= 27.0 for score in scores[:20]) >= 3, "the pan must be fast enough to look like cuts"
    assert [frame for frame, cut in enumerate(found) if cut] == [20]


def score_of(detector: ContentDetector, image: np.ndarray) -> float:
    """PySceneDetect's own score of an image at full size."""
    detector.stats_manager = detector.stats_manager or StatsManager()
    time = FrameTimecode(0, fps=1.0)
    detector.process_frame(time, image[..., ::-1])
    (score,) = detector.stats_manager.get_metrics(time, [ContentDetector.FRAME_SCORE_KEY])
    return float(score or 0.0)


def test_a_stream_of_nothing_but_changes_is_not_cut_in_every_frame():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=0.0)
    found = [detector.update(pan(60.0 * frame), stamp(frame)) for frame in range(30)]
    assert found[1:4].count(True) >= 1, "the first change is not to be told from a cut"
    assert sum(found[4:]) == 0


def test_the_detector_does_not_grow():
    detector = SceneCutDetector(threshold=27.0, gap_seconds=1.0)
    images = [np.ascontiguousarray(view(frame, seed=frame % 3)[:30, :40]) for frame in range(6)]
    for frame in range(50):
        detector.update(images[frame % 6], stamp(frame))
    size = len(pickle.dumps(detector._detector.__dict__))
    for frame in range(50, 18_000):
        detector.update(images[frame % 6], stamp(frame))
    tracemalloc.start()
    for frame in range(18_000, 20_000):
        detector.update(images[frame % 6], stamp(frame))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(pickle.dumps(detector._detector.__dict__)) == size
    assert grown < 20_000  # the last frame alone; 10 bytes for each frame would be seen

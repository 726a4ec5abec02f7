"""The scene cut detector."""

from __future__ import annotations

import itertools
import tracemalloc

import cv2
import numpy as np
from streams import HEIGHT, WIDTH, texture, view

from taptr_ros.tracking.scene_cuts import SceneCutDetector


def test_a_cut_is_reported_in_its_own_frame_and_only_there():
    detector = SceneCutDetector(threshold=27.0)
    images = [view(frame, seed=frame // 8) for frame in range(32)]
    found = [detector.update(image) for frame, image in enumerate(images)]
    assert [frame for frame, cut in enumerate(found) if cut] == [8, 16, 24]


def test_cuts_in_a_grey_stream_count_as_much():
    detector = SceneCutDetector(threshold=27.0)
    images = [np.repeat(view(frame, seed=frame // 8)[:, :, :1], 3, axis=2) for frame in range(16)]
    found = [detector.update(image) for frame, image in enumerate(images)]
    assert [frame for frame, cut in enumerate(found) if cut] == [8]


def test_it_can_be_switched_off():
    detector = SceneCutDetector(threshold=0.0)
    assert not any(detector.update(view(0, seed=frame)) for frame in range(4))


def test_after_a_reset_frames_of_another_size_begin_anew():
    detector = SceneCutDetector(threshold=27.0)
    detector.update(view(0))
    detector.reset()
    assert not detector.update(view(0, seed=1)[:60])


def test_any_image_size_is_compared():
    for height, width in [(1, 1), (2, 5000), (5000, 2), (255, 257), (1080, 1920)]:
        detector = SceneCutDetector(threshold=27.0)
        black, white = np.zeros((height, width, 3), np.uint8), np.full((height, width, 3), 255, np.uint8)
        assert [detector.update(image) for image in [black, black, white]] == [False, False, True]


def pan(offset: float, seed: int = 0) -> np.ndarray:
    """An image of a camera that has turned by `offset` pixels over the texture."""
    shift = np.array([[1, 0, offset], [0, 1, 100]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(texture(seed), shift, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_WRAP)


def test_a_fast_pan_is_no_cut_but_a_cut_within_it_is():
    detector = SceneCutDetector(threshold=27.0)
    offsets = np.cumsum(np.minimum(1.5 * np.arange(24), 12.0))
    images = [pan(offset) if frame < 20 else pan(offset, seed=1) // 8 for frame, offset in enumerate(offsets)]
    found = [detector.update(image) for frame, image in enumerate(images)]
    scores = [score(before, image) for before, image in itertools.pairwise(images)]
    assert sum(score >= 27.0 for score in scores[:20]) >= 3, "the pan must be fast enough to look like cuts"
    assert [frame for frame, cut in enumerate(found) if cut] == [20]


def score(before: np.ndarray, image: np.ndarray) -> float:
    """The mean change of hue, saturation and brightness between two images, at full size."""
    hue, saturation, brightness = (
        np.abs(cv2.cvtColor(before, cv2.COLOR_RGB2HSV).astype(int) - cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        .mean(axis=(0, 1))
        .tolist()
    )
    return (hue + saturation + brightness) / 3


def test_the_score_is_the_mean_change_of_hue_saturation_and_brightness():
    detector = SceneCutDetector(threshold=27.0)
    red, green, dark = (np.full((24, 32, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0), (0, 50, 0)))
    # Hues of 0 and 60 (of 180), the same saturation; then the same hue, and 150 less bright.
    assert [detector._score(image) for image in (red, green, dark)] == [0.0, 20.0, 50.0]


def test_a_stream_of_nothing_but_changes_is_not_cut_in_every_frame():
    detector = SceneCutDetector(threshold=27.0)
    found = [detector.update(pan(60.0 * frame)) for frame in range(30)]
    assert found[1:4].count(True) >= 1, "the first change is not to be told from a cut"
    assert sum(found[4:]) == 0


def test_the_detector_does_not_grow():
    detector = SceneCutDetector(threshold=27.0)
    images = [np.ascontiguousarray(view(frame, seed=frame % 3)[:30, :40]) for frame in range(6)]
    for frame in range(50):
        detector.update(images[frame % 6])
    for frame in range(50, 18_000):
        detector.update(images[frame % 6])
    tracemalloc.start()
    for frame in range(18_000, 20_000):
        detector.update(images[frame % 6])
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 20_000  # the last frame alone; 10 bytes for each frame would be seen

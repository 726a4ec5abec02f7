"""Lucas-Kanade against image motion that is known exactly."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.errors import InvalidConfigError
from taptr_ros.runtime.backend import Decoded, TrackArrays
from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend, visibility_from_error

HEIGHT, WIDTH = 120, 160


def texture(shift: tuple[float, float] = (0.0, 0.0), size: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.uint8]:
    """Return a smooth random texture, uint8 [H,W,3], moved by `shift` (x, y) pixels."""
    noise = np.random.default_rng(0).random((2 * size[0], 2 * size[1]), np.float32)
    wide = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3.0), None, 0, 255, cv2.NORM_MINMAX)
    to_frame = np.array([[1.0, 0.0, shift[0] - size[1] / 2], [0.0, 1.0, shift[1] - size[0] / 2]])
    moved = cv2.warpAffine(wide, to_frame, (size[1], size[0]), flags=cv2.INTER_CUBIC)
    return np.repeat(np.clip(moved, 0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def grid() -> NDArray[np.float32]:
    """Return 12 points [N,2] in pixels, well inside."""
    x, y = np.meshgrid([40, 66.25, 92.5, 118], [35, 60.5, 85.75])
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def unit(pixels: NDArray[np.floating]) -> NDArray[np.float32]:
    return ((pixels + 0.5) / (WIDTH, HEIGHT)).astype(np.float32)


def start(backend: LucasKanadeBackend, image: NDArray[np.uint8], pixels: NDArray[np.float32]) -> TrackArrays:
    tracks = backend.allocate(capacity=len(pixels) + 3, slots=2)
    tracks.start(np.arange(len(pixels)), backend.init_queries(backend.encode(image), unit(pixels)))
    return tracks


def follow(
    backend: LucasKanadeBackend,
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    updated: NDArray[np.bool_] | None = None,
) -> Decoded:
    tracks = start(backend, before, pixels)
    updated = np.ones(len(pixels), np.bool_) if updated is None else updated
    return backend.decode(backend.encode(after), backend.encode(before), tracks, len(pixels), 2, updated, 1)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.6), (5.5, 2.25), (-8.0, 6.0)])
@pytest.mark.parametrize("size", [None, (HEIGHT, WIDTH), (90, 200)])
def test_points_follow_the_image(shift: tuple[float, float], size: tuple[int, int] | None) -> None:
    decoded = follow(LucasKanadeBackend(size), texture(), texture(shift), grid())
    error = np.abs((decoded.xy - unit(grid() + np.array(shift))) * (WIDTH, HEIGHT))
    # Resampling twice costs some accuracy; half a pixel would mean a wrong convention.
    assert error.max() < (0.1 if size in (None, (HEIGHT, WIDTH)) else 0.3)
    assert (decoded.visibility > 0.9).all()


def test_query_coordinates_are_half_pixel_aligned() -> None:
    backend = LucasKanadeBackend()
    features = backend.encode(texture())
    corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.5 / WIDTH, 0.5 / HEIGHT]], np.float32)
    state = backend.init_queries(features, corners).state
    assert state == pytest.approx(np.array([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5], [0.0, 0.0]]), abs=1e-4)


def test_a_scene_that_is_replaced_is_not_visible() -> None:
    other = np.ascontiguousarray(texture()[::-1, ::-1])
    decoded = follow(LucasKanadeBackend(), texture(), other, grid())
    assert (decoded.visibility < 0.5).mean() > 0.8


def test_a_point_that_leaves_the_image_is_not_visible() -> None:
    pixels = np.array([[4.0, 60.0], [80.0, 60.0]], np.float32)
    decoded = follow(LucasKanadeBackend(), texture(), texture((-9.0, 0.0)), pixels)
    assert decoded.visibility[0] == 0.0
    assert decoded.visibility[1] > 0.9


def test_an_image_without_texture_has_nothing_to_follow() -> None:
    blank = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert (follow(LucasKanadeBackend(), blank, blank, grid()).visibility == 0.0).all()


def test_visibility_falls_with_the_forward_backward_error_and_crosses_half_at_one_pixel() -> None:
    errors = np.linspace(0.0, 20.0, 201)
    visibility = visibility_from_error(errors)
    assert visibility[0] == 1.0
    assert (np.diff(visibility) < 0).all()
    assert (visibility > 0).all()
    assert ((visibility > 0.5) == (errors < 1.0)).all()


def test_frozen_tracks_keep_their_state() -> None:
    updated = np.arange(len(grid())) % 2 == 0
    shift = np.array([3.0, 2.0])
    decoded = follow(LucasKanadeBackend(), texture(), texture((3.0, 2.0)), grid(), updated)
    assert decoded.state[~updated] == pytest.approx(grid()[~updated], abs=1e-4)
    assert (decoded.visibility[~updated] == 1.0).all()
    assert decoded.state[updated] == pytest.approx(grid()[updated] + shift, abs=0.1)


def test_no_track_moves_without_a_previous_frame() -> None:
    backend = LucasKanadeBackend()
    tracks = start(backend, texture(), grid())
    updated = np.arange(len(grid())) > 2
    decoded = backend.decode(backend.encode(texture()), None, tracks, len(grid()), 2, updated, 0)
    assert decoded.state == pytest.approx(grid(), abs=1e-4)
    assert (decoded.visibility == ~updated).all()


def test_no_tracks_at_all() -> None:
    backend = LucasKanadeBackend()
    features = backend.encode(texture())
    decoded = backend.decode(features, features, backend.allocate(4, 2), 0, 2, np.zeros(0, np.bool_), 1)
    assert decoded.xy.shape == (0, 2)


def test_the_three_functions_change_nothing_and_repeat_exactly() -> None:
    backend = LucasKanadeBackend((100, 100))
    image = texture()
    tracks = start(backend, image, grid())
    features, previous = backend.encode(texture((2.0, 1.0))), backend.encode(image)
    kept = image.copy(), tracks.state.copy(), features.copy(), previous.copy()
    updated = np.ones(len(grid()), np.bool_)
    first, second = (backend.decode(features, previous, tracks, len(grid()), 2, updated, 1) for _ in range(2))
    for name in ("xy", "visibility", "state", "content"):
        assert (getattr(first, name) == getattr(second, name)).all()
    for array, copy in zip((image, tracks.state, features, previous), kept, strict=True):
        assert (array == copy).all()


def test_each_track_moves_as_it_would_alone() -> None:
    backend = LucasKanadeBackend()
    before, after = texture(), texture((4.0, -3.0))
    together = follow(backend, before, after, grid()).state
    for row, point in enumerate(grid()):
        assert follow(backend, before, after, point[np.newaxis]).state[0] == pytest.approx(together[row], abs=1e-6)


def test_arrays_have_the_shapes_that_info_tells() -> None:
    backend = LucasKanadeBackend((64, 96))
    assert (backend.info.height, backend.info.width) == (64, 96)
    assert (LucasKanadeBackend().info.height, LucasKanadeBackend().info.width) == (0, 0)
    query = backend.init_queries(backend.encode(texture()), unit(grid()))
    assert query.content.shape == (12, backend.info.content_dim)
    assert query.context.shape == (12, 3, 3, backend.info.content_dim)
    assert query.state.shape == (12, backend.info.state_dim)
    decoded = follow(backend, texture(), texture(), grid())
    assert decoded.content.shape == (12, backend.info.content_dim)
    assert {decoded.xy.dtype, decoded.visibility.dtype, decoded.state.dtype} == {np.dtype(np.float32)}


def test_an_input_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="20x64"):
        LucasKanadeBackend((20, 64))


def test_it_runs_where_torch_and_onnxruntime_are_not_installed() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None\n"
        "from taptr_ros.runtime.lucas_kanade import LucasKanadeBackend; print(LucasKanadeBackend().info.model)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "lucas_kanade"

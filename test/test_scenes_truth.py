"""Tracks and visibility against what is really painted: textures whose colours say where on which layer they are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.training.scenes import SceneConfig
from taptr_ros.training.scenes.choice import choose_points
from taptr_ros.training.scenes.layer import Layer, Waves
from taptr_ros.training.scenes.layered import layered_scene
from taptr_ros.training.scenes.motion import rotation, scaling, translation
from taptr_ros.training.scenes.painting import Painter
from taptr_ros.training.scenes.scene import Scene
from taptr_ros.training.scenes.spatial import spatial_scene
from taptr_ros.training.scenes.tracks import locate_points, track_points
from taptr_ros.training.scenes.world import LayeredWorld

PERIOD = 64
"""Texels after which the coordinate code repeats."""
CODE_STEP = 2 * 255 / PERIOD
"""Grey levels per texel."""
BLUE_STEP = 3
"""Grey levels from one layer's code to the next."""
CONFIG = SceneConfig(height=160, width=200, frames=6, points=400, slowest=2.0, fastest=12.0)


def coordinate_code(texels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red and green that say where a texel is: triangle waves, which interpolation keeps."""
    phase = texels % PERIOD
    return 255 - CODE_STEP * np.abs(phase - PERIOD / 2)


def coded(scene: Scene) -> Scene:
    """The scene with coded textures: red and green for the place on the layer, blue for the layer."""
    layers = []
    for index, layer in enumerate(scene.layers):
        height, width = layer.texture.shape[:2]
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        red, green = np.moveaxis(coordinate_code(np.stack([x, y], axis=-1)), -1, 0)
        texture = np.stack([red, green, np.full_like(red, layer_code(index))], axis=-1)
        mask = layer.mask
        if mask is not None and mask.max() < 128:
            # A shadow: it hides nothing, but would change the colours.
            mask = np.zeros_like(mask)
        painted = np.rint(texture).astype(np.uint8)
        layers.append(dataclasses.replace(layer, texture=painted, mask=mask, gain=None, shadow=None))
    return dataclasses.replace(scene, layers=layers)


def layer_code(index: int) -> int:
    return BLUE_STEP * index


def reflected(texels: NDArray[np.float64], extent: int) -> NDArray[np.float64]:
    """Where a background that is continued by reflection gets a texel from."""
    folded = (texels + 0.5) % (2 * extent)
    return np.where(folded < extent, folded, 2 * extent - folded) - 0.5


def between_pixels(image: NDArray[np.uint8], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values [N,3] at positions [N,2]."""
    return cv2.remap(image.astype(np.float32), xy[np.newaxis].astype(np.float32), None, cv2.INTER_LINEAR)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("compose", [layered_scene, spatial_scene])
def test_painted_colours_agree_with_tracks_and_visibility(compose, seed) -> None:
    rng = np.random.default_rng(seed)
    scene = coded(compose(rng, CONFIG, np.arange(CONFIG.frames, dtype=np.float64)))
    assert len(scene.layers) < 256 // BLUE_STEP, "more layers than the code can tell apart"
    world = LayeredWorld(scene, 0.0)
    frames = np.stack([world.paint(frame) for frame in range(scene.frames)])
    chosen = choose_points(rng, world, frames, CONFIG.points, np.arange(scene.frames))
    layers, texels = locate_points(scene, *chosen)
    xy, visible = track_points(scene, layers, texels)
    assert visible.any(axis=1).all()
    checked = agreeing = 0
    errors = []
    for frame in range(scene.frames):
        inside = ((xy[:, frame] > 2) & (xy[:, frame] < np.array([CONFIG.width, CONFIG.height]) - 3)).all(axis=1)
        rows = np.flatnonzero(inside)
        column, row = np.rint(xy[rows, frame]).astype(int).T
        blue = frames[frame, ..., 2].astype(np.int64)
        # Where all neighbours show one layer, what is seen there is beyond doubt.
        around = np.stack([blue[row + dy, column + dx] for dy in range(-2, 3) for dx in range(-2, 3)])
        certain = (np.ptp(around, axis=0) == 0) & (blue[row, column] % BLUE_STEP == 0)
        shown = blue[row, column] == layer_code(1) * layers[rows]
        checked += certain.sum()
        agreeing += (shown == visible[rows, frame])[certain].sum()
        errors.append(pixel_errors(scene, frames[frame], layers, texels, xy, rows[certain & shown], frame))
    assert checked > 300
    assert agreeing == checked
    error = np.concatenate(errors)
    assert len(error) > 100
    # Grey levels and OpenCV's 1/32 pixel limit what can be read off the picture.
    assert np.median(error) < 0.08
    assert np.quantile(error, 0.99) < 0.3


def pixel_errors(scene, image, layers, texels, xy, rows, frame) -> NDArray[np.float64]:
    """Distances in pixels between where points are said to be and where their codes are painted."""
    found = between_pixels(image, xy[rows, frame])[:, :2]
    errors = []
    for point, colours in zip(rows, found, strict=True):
        layer = scene.layers[layers[point]]
        height, width = layer.texture.shape[:2]
        place = np.array([reflected(texels[point, 0], width), reflected(texels[point, 1], height)])
        turning = np.abs(place % (PERIOD / 2) - PERIOD / 4)
        near_border = (place < 8).any() or (place > np.array([width, height]) - 9).any()
        if (turning > PERIOD / 4 - 8).any() or near_border:
            continue
        nudged = layer.to_image(texels[point] + np.array([[0, 0], [0.5, 0], [0, 0.5]]))[:, frame]
        pixels_per_texel = 2 * np.sqrt(abs(np.linalg.det(nudged[1:] - nudged[0])))
        off = np.abs(colours - coordinate_code(place)) / CODE_STEP
        errors.append(float(np.hypot(*off)) * pixels_per_texel)
    return np.array(errors)


def turning_layer(frames: int, waves: Waves | None = None) -> Layer:
    """A disc of noise that turns, moves and grows."""
    rng = np.random.default_rng(0)
    time = np.arange(frames, dtype=np.float64)
    mask = np.zeros((60, 80), np.uint8)
    cv2.ellipse(mask, (40, 30), (34, 24), 0, 0, 360, 255, cv2.FILLED)
    texture = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    moved = translation(40 + 3 * time, 60 - time) @ rotation(0.2 * time) @ scaling(np.exp(0.05 * time))
    placed = moved @ translation(-40, -30)
    return Layer(texture, mask, placed, np.gradient(placed, axis=0), time, waves)


@pytest.mark.parametrize("bent", [False, True])
def test_maps_between_texels_and_pixels_are_inverse(bent) -> None:
    rng = np.random.default_rng(1)
    waves = Waves(rng.normal(0, 2, (3, 2)), rng.normal(0, 0.05, (3, 2)), rng.normal(0, 0.2, 3), rng.random(3))
    layer = turning_layer(5, waves if bent else None)
    texels = rng.uniform(0, 60, (50, 2))
    xy = layer.to_image(texels)
    for frame in range(5):
        assert np.allclose(layer.to_texels(xy[:, frame], np.full(50, frame)), texels, atol=1e-6)


def test_nearer_layer_hides_only_where_it_covers_more_than_half() -> None:
    time = np.arange(1.0)
    still = np.eye(3)[np.newaxis]
    ground = Layer(np.zeros((40, 40, 3), np.uint8), None, still, 0 * still, time)
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 255
    cover = Layer(np.full((40, 40, 3), 255, np.uint8), mask, still, 0 * still, time)
    scene = Scene([ground, cover], np.array([[0, 1]]), 40, 40)
    x = np.array([10.0, 19.4, 19.6, 30.0, 39.4, 39.6])
    texels = np.stack([x, np.full_like(x, 15.0)], axis=-1)
    _, visible = track_points(scene, np.zeros(6, np.int64), texels)
    # The cover ends half a pixel right of its last texel, like the image.
    assert visible[:, 0].tolist() == [True, True, False, False, False, False]
    _, behind = track_points(dataclasses.replace(scene, order=np.array([[1, 0]])), np.zeros(6, np.int64), texels)
    assert behind[:, 0].tolist() == [True, True, True, True, True, False]


def test_layers_that_are_not_drawn_hide_nothing_and_show_nothing() -> None:
    still = np.tile(np.eye(3), (2, 1, 1))
    ground = Layer(np.zeros((40, 40, 3), np.uint8), None, still, 0 * still, np.arange(2.0))
    full = np.full((40, 40), 255, np.uint8)
    drawn = np.array([True, False])
    cover = Layer(np.full((40, 40, 3), 255, np.uint8), full, still, 0 * still, np.arange(2.0), drawn=drawn)
    scene = Scene([ground, cover], np.array([[0, 1], [0, 1]]), 40, 40)
    _, visible = track_points(scene, np.array([0, 1]), np.array([[9.0, 9.0], [9.0, 9.0]]))
    assert visible.tolist() == [[False, True], [True, False]]
    painter = Painter(scene, 0.0)
    assert [int(painter.paint(frame)[9, 9, 0]) for frame in range(2)] == [255, 0]


def test_motion_blur_is_centred_on_the_track() -> None:
    time = np.arange(5.0)
    dot = np.zeros((21, 21), np.uint8)
    cv2.circle(dot, (10, 10), 5, 255, cv2.FILLED)
    placed = translation(20 + 9 * time, 30 + 4 * time)
    layer = Layer(np.full((21, 21, 3), 255, np.uint8), dot, placed, np.gradient(placed, axis=0), time)
    ground = Layer(np.zeros((80, 99, 3), np.uint8), None, 0 * placed + np.eye(3), 0 * placed, time)
    scene = Scene([ground, layer], np.tile([0, 1], (5, 1)), 80, 99)
    track, _ = track_points(scene, np.array([1]), np.array([[10.0, 10.0]]))
    sharp, blurred = (Painter(scene, shutter).paint(2)[..., 0].astype(float) for shutter in (0.0, 1.0))
    y, x = np.mgrid[:80, :99]
    for image in (sharp, blurred):
        centre = np.array([(x * image).sum(), (y * image).sum()]) / image.sum()
        assert np.abs(centre - track[0, 2]).max() < 0.05
    assert np.count_nonzero(blurred) > 1.5 * np.count_nonzero(sharp)
    assert blurred.sum() == pytest.approx(sharp.sum(), rel=0.02)

"""Scenes made many at a time: the same as one at a time, to within rounding."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from taptr_ros.cli import main  # noqa: E402
from taptr_ros.errors import BackendUnavailableError  # noqa: E402
from taptr_ros.training.batches import GeneratedClips  # noqa: E402
from taptr_ros.training.clip_files import Generators, load_clip, pool_files  # noqa: E402
from taptr_ros.training.config import DataConfig  # noqa: E402
from taptr_ros.training.scenes import Clip, SceneConfig, generate, generate_many  # noqa: E402
from taptr_ros.training.scenes.batched.compression import recompressed  # noqa: E402

SMALL = SceneConfig(height=96, width=112, frames=4, points=40, compression_share=0.0)


def differences(first: Clip, second: Clip) -> NDArray[np.int64]:
    return np.abs(first.frames.astype(np.int64) - second.frames)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """A picture with plain and textured parts, and colours."""
    return generate(SceneConfig(height=height, width=width, frames=1, compression_share=0.0), 1).frames[0]


@pytest.mark.parametrize(("kind", "height"), [("layered", 96), ("layered", 75), ("spatial", 96)])
def test_uncompressed_clips_differ_by_rounding(kind, height) -> None:
    config = dataclasses.replace(SMALL, kind=kind, height=height, cut_share=0.4, motion_blur_share=0.5)
    points = []
    for seed, clip in enumerate(generate_many(config, range(14), "cpu")):
        alone = generate(config, seed)
        # A step of brightness by one may become several where the exposure's gain is high.
        assert differences(clip, alone).mean() < 0.4, seed
        assert np.percentile(differences(clip, alone), 99.5) <= 6, seed
        same = np.abs(clip.xy - alone.xy).max(axis=(1, 2)) < 1e-3
        points.append(same.mean())
        np.testing.assert_array_equal(clip.visible[same], alone.visible[same])
    # Points are drawn by what is seen.
    assert np.median(points) == 1.0
    assert np.mean(points) > 0.9


def test_batches_do_not_depend_on_what_else_is_made() -> None:
    config = dataclasses.replace(SMALL, compression_share=0.5, motion_blur_share=0.5)
    first = generate_many(config, [3, 4, 5], "cpu")
    for clip, again in zip(first[1:], generate_many(config, [4, 5], "cpu"), strict=True):
        np.testing.assert_array_equal(clip.xy, again.xy)
        assert differences(clip, again).max() <= 1


def test_compressed_clips_are_alike() -> None:
    """Rounding decides about whole steps of quantisation now and then, which predictive compression passes on."""
    config = dataclasses.replace(SMALL, compression_share=1.0, frames=14)
    for seed, clip in enumerate(generate_many(config, range(6), "cpu")):
        alone = generate(config, seed)
        raw = generate(dataclasses.replace(config, compression_share=0.0), seed)
        lost = differences(alone, raw).mean()
        assert lost > 0.5
        assert differences(clip, alone).mean() < 0.6 * lost, seed


@pytest.mark.parametrize("quality", [5, 35, 50, 75, 94, 100])
@pytest.mark.parametrize("size", [(64, 96), (67, 83)])
def test_compression_is_that_of_opencv(size, quality) -> None:
    image = photo(*size)
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    expected = cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.int64)
    both = torch.from_numpy(np.stack([image[::-1].copy(), image]))
    found = recompressed(both, torch.tensor([1, quality]))[1].numpy()
    lost = np.abs(expected - image).mean()
    assert np.abs(expected - found).mean() < 0.25 * lost + 0.5
    assert abs((expected - found).mean()) < 0.1 * lost + 0.05


@pytest.mark.parametrize("device", ["cuda", "abacus"])
def test_absent_devices_are_named(device) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendUnavailableError, match=device):
        generate_many(SMALL, [0], device)


def test_generators_and_draws_make_them(tmp_path: Path) -> None:
    kinds = (SMALL, dataclasses.replace(SMALL, kind="spatial"))
    generators = Generators(tmp_path, kinds, processes=1, clips=20, uses=1.0, device="cpu")
    try:
        end = time.monotonic() + 120.0
        while len(pool_files(tmp_path)) < 20:
            generators.check()
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        generators.stop()
    for seed in (0, 1, 2):
        (expected,) = generate_many(kinds[seed % 2], [seed], "cpu")
        found = load_clip(tmp_path / f"{seed:012d}.clip.npz")
        assert differences(found, expected).max() <= 1
    drawn = GeneratedClips(DataConfig(scenes=(SMALL,), device="cpu")).draw(np.random.default_rng(7))
    seeds = np.random.default_rng(7)
    seeds.integers(1)
    alone = generate(SMALL, int(seeds.integers(1 << 62)))
    assert 0.0 < differences(drawn, alone).mean() < 0.6


def test_command_makes_them(tmp_path, capfd) -> None:
    options = ["--size", "64x80", "--frames", "3", "--clips", "2", "--columns", "3", "--scale", "1"]
    sheets = []
    for index, device in enumerate(([], ["--device", "cpu"])):
        out = tmp_path / f"{index}.png"
        assert main(["scenes", "--out", str(out), *options, *device]) == 0
        sheets.append(cv2.imread(str(out)).astype(np.int64))
    assert "2 clips, " in capfd.readouterr().out
    assert 0.0 < np.abs(sheets[0] - sheets[1]).mean() < 3.0
    assert main(["scenes", "--out", str(tmp_path / "no.png"), *options, "--device", "abacus"]) == 2
    assert "abacus" in capfd.readouterr().err

"""The training loop: recipes, batches, and runs that are interrupted or short."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
yaml = pytest.importorskip("yaml", reason="recipes are YAML")

from tiny_network import tiny_small_config  # noqa: E402

from taptr_ros.cli import EXIT_BAD_INPUT, main  # noqa: E402
from taptr_ros.errors import InvalidConfigError, ModelFileError  # noqa: E402
from taptr_ros.model.files import load_model  # noqa: E402
from taptr_ros.model.small_network import SmallNetwork  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.training import processes  # noqa: E402
from taptr_ros.training.batches import (  # noqa: E402
    SEGMENT,
    Batch,
    SequenceClips,
    choose_points,
    contrast,
    crop,
    draw_batch,
    in_time,
    longest_occlusion,
    median_step,
    mirror,
    seen_differently,
    turn,
    with_gap,
)
from taptr_ros.training.clip_files import Generators, load_clip, pool_files, save_clip  # noqa: E402
from taptr_ros.training.config import (  # noqa: E402
    DataConfig,
    EvaluationConfig,
    LossConfig,
    StageConfig,
    TrainingConfig,
    load_training_config,
    to_yaml,
)
from taptr_ros.training.loop import train  # noqa: E402
from taptr_ros.training.losses import losses  # noqa: E402
from taptr_ros.training.recipes import smoke_recipe  # noqa: E402
from taptr_ros.training.scenes import Clip, SceneConfig, generate  # noqa: E402
from taptr_ros.training.unroll import unroll  # noqa: E402

SCENES = SceneConfig(height=64, width=64, frames=5, points=48)
RECIPES = Path(__file__).resolve().parent.parent / "config" / "training"


def tiny_recipe(**changes: Any) -> TrainingConfig:
    recipe = TrainingConfig(
        model=tiny_small_config(width=64),
        stages=(
            StageConfig(steps=3, frames=2, size=48, clips=2, points=8, rate=(1e-3, 1e-3)),
            StageConfig(steps=3, frames=4, size=64, clips=1, points=8, rate=(1e-3, 1e-4), lead=1, frozen_norms=True),
        ),
        data=DataConfig(scenes=(SCENES,)),
        evaluation=EvaluationConfig(every=2, scenes=SCENES, clips=1),
        log_every=2,
    )
    return dataclasses.replace(recipe, **changes)


def dot_clip(position: tuple[int, int] = (20, 12), frames: int = 4) -> Clip:
    """A white pixel that moves one pixel to the right in every frame, in a black image of 40x48 pixels."""
    images = np.zeros((frames, 40, 48, 3), np.uint8)
    xy = np.zeros((16, frames, 2), np.float32)
    for frame in range(frames):
        images[frame, position[1], position[0] + frame] = 255, 128, 64
        xy[:, frame] = position[0] + frame, position[1]
    return Clip(images, xy, np.ones((16, frames), bool))


def test_recipes_survive_yaml_and_shipped_ones_are_valid(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert load_training_config(tmp_path / "recipe.yaml") == recipe
    for path in RECIPES.glob("*.yaml"):
        assert load_training_config(path).steps > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not YAML"),
        ("stages: []", "stages is empty"),
        ("steps: 3", "no 'steps'"),
        ("stages: [{steps: 3}]", "incomplete"),
        ("stages: [{steps: 3, frames: 2, size: 40, clips: 1, points: 4, rate: [1e-3, 1e-4]}]", "multiple of 16"),
        ("stages: [{steps: 3, frames: 4, lead: 3, size: 48, clips: 1, points: 4, rate: [1e-3, 1e-4]}]", "than lead"),
        ("stages: [{steps: 0, frames: 2, size: 48, clips: 1, points: 4, rate: [1e-3, 1e-4]}]", "steps is 0"),
        ("stages: [{steps: 3, frames: 2, size: 48, clips: 1, points: 4, rate: fast}]", "rate"),
        ("{stages: [{steps: 3, frames: 2, size: 48, clips: 1, points: 4, rate: [1e-3, 1]}], seed: many}", "seed"),
    ],
)
def test_wrong_recipes_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InvalidConfigError, match=words):
        load_training_config(tmp_path / "recipe.yaml")


def test_learning_rate_follows_the_stages() -> None:
    stage = StageConfig(steps=100, frames=2, size=48, clips=1, points=4, rate=(1e-3, 1e-4))
    recipe = tiny_recipe(stages=(stage, dataclasses.replace(stage, rate=(1e-4, 1e-4))), warmup_steps=10)
    assert recipe.rate_at(0) == pytest.approx(1e-4)
    assert recipe.rate_at(50) == pytest.approx(5.5e-4)
    assert recipe.rate_at(150) == pytest.approx(1e-4)
    assert recipe.stage_at(199) == (recipe.stages[1], 99)


def test_crops_flips_and_time_keep_points_on_their_pixels() -> None:
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        clip = mirror(crop(in_time(dot_clip(), 3, rng), 32, rng), rng)
        assert clip.frames.shape == (3, 32, 32, 3)
        for frame in range(3):
            if not clip.visible[0, frame]:
                continue
            brightness = clip.frames[frame].sum(axis=-1).astype(float)
            if brightness.sum() == 0:
                continue
            y, x = np.mgrid[:32, :32]
            centroid = [(brightness * axis).sum() / brightness.sum() for axis in (x, y)]
            np.testing.assert_allclose(clip.xy[0, frame], centroid, atol=0.8)
            seen += 1
    assert seen > 60


def test_turned_cameras_keep_points_on_their_pixels() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (64, 80, 3), np.uint8), (0, 0), 3.0)
    xy = np.repeat(rng.uniform(8, 55, (40, 1, 2)).astype(np.float32), 6, axis=1)
    clip = Clip(np.repeat(picture[np.newaxis], 6, axis=0), xy, np.ones((40, 6), bool))
    turned = turn(clip, rng)
    assert np.linalg.norm(turned.xy - xy, axis=-1).max() > 2.0
    inside = ((turned.xy > 1) & (turned.xy < [78, 62])).all(axis=-1)
    assert inside.mean() > 0.5
    for frame in range(6):
        shown = inside[:, frame]
        before = cv2.remap(picture, xy[shown, frame, np.newaxis], None, cv2.INTER_LINEAR)
        after = cv2.remap(turned.frames[frame], turned.xy[shown, frame, np.newaxis], None, cv2.INTER_LINEAR)
        np.testing.assert_allclose(after, before, atol=4)


def test_a_gap_leaves_out_frames_in_the_middle_only() -> None:
    clip = dot_clip(frames=20)
    seen = set()
    for seed in range(60):
        shown, gap = with_gap(clip, 8, np.random.default_rng(seed))
        steps = np.diff(shown.xy[0, :, 0])
        direction = np.sign(steps[0])
        left_out = direction * steps[gap - 1] - 1
        assert SEGMENT <= gap <= 8 - SEGMENT
        assert 1 <= left_out <= 12
        assert (np.delete(steps, gap - 1) == direction).all()
        for frame, (x, y) in zip(shown.frames, shown.xy[0].astype(int), strict=True):
            assert frame[y, x].any()
        assert median_step(shown, gap) == 1.0
        seen.add((gap, direction))
    assert len(seen) == 6


def test_after_a_gap_points_are_on_their_pixels_in_another_light() -> None:
    rng = np.random.default_rng(2)
    picture = cv2.GaussianBlur(rng.integers(60, 200, (64, 80, 3), np.uint8), (0, 0), 3.0)
    xy = np.repeat(rng.uniform(20, 45, (40, 1, 2)).astype(np.float32), 6, axis=1)
    clip = Clip(np.repeat(picture[np.newaxis], 6, axis=0), xy, np.ones((40, 6), bool))
    changes = []
    for _ in range(8):
        other = seen_differently(clip, 4, rng)
        np.testing.assert_array_equal(other.frames[:4], clip.frames[:4])
        np.testing.assert_array_equal(other.xy[:, :4], clip.xy[:, :4])
        np.testing.assert_array_equal(other.xy[:, 4], other.xy[:, 5])
        np.testing.assert_array_equal(other.frames[4], other.frames[5])
        inside = ((other.xy[:, 4] > 1) & (other.xy[:, 4] < [78, 62])).all(axis=-1)
        before = cv2.remap(picture, xy[inside, 4, np.newaxis], None, cv2.INTER_LINEAR).reshape(-1, 3).astype(float)
        after = cv2.remap(other.frames[4], other.xy[inside, 4, np.newaxis], None, cv2.INTER_LINEAR).reshape(-1, 3)
        for colour in range(3):
            # One line fits all points: they show what they showed, with another gain and level.
            line = np.polyfit(before[:, colour], after[:, colour], 1)
            np.testing.assert_allclose(np.polyval(line, before[:, colour]), after[:, colour], atol=5)
            changes.append(line[0])
        assert np.linalg.norm(other.xy[:, 4] - xy[:, 4], axis=-1).max() > 1.0
    assert np.std(changes) > 0.05


def test_points_start_visible_and_crops_without_points_are_refused() -> None:
    rng = np.random.default_rng(0)
    clip = dot_clip()
    hidden = Clip(clip.frames, clip.xy, clip.visible & (np.arange(16) % 2 == 0)[:, None])
    points = choose_points(hidden, 12, rng)
    assert points is not None
    assert len(points) == 12
    assert (points % 2 == 0).all()
    assert choose_points(Clip(clip.frames, clip.xy, ~clip.visible), 12, rng) is None


def test_longest_occlusion_is_one_that_ends() -> None:
    rows = ["#..#...#", "###.....", "...#.#..", "########"]
    visible = np.array([[letter == "#" for letter in row] for row in rows])
    assert longest_occlusion(visible).tolist() == [3, 0, 1, 0]
    assert longest_occlusion(visible[:, :1]).tolist() == [0, 0, 0, 0]


def test_fast_crops_and_flat_places_are_noticed() -> None:
    clip = dot_clip()
    assert median_step(clip) == pytest.approx(1.0)
    assert median_step(Clip(clip.frames, clip.xy, clip.visible & (np.arange(4) % 2 == 0))) == np.inf
    flat, textured = contrast(clip.frames[0], np.array([[40.0, 30.0], [21.0, 13.0]], np.float32))
    assert flat == 0.0
    assert textured > 10.0


def test_batches_repeat_and_differ_between_steps() -> None:
    def source(rng: np.random.Generator) -> Clip:
        return generate(SCENES, int(rng.integers(3)))

    stage = StageConfig(steps=1, frames=3, size=48, clips=2, points=8, rate=(1.0, 1.0))
    first, again, other = (draw_batch(source, stage, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.images.shape == (3, 2, 48, 48, 3)
    assert first.xy.shape == (3, 2, 8, 2)
    assert first.visible[0].all()
    torch.testing.assert_close(first.images, again.images)
    torch.testing.assert_close(first.xy, again.xy)
    assert not torch.equal(first.images, other.images)


def test_own_sequences_are_drawn_without_what_is_unknown(tmp_path: Path) -> None:
    """Two tracks: one hidden in frame 1, whose position there is garbage; one of unknown visibility in frame 2."""
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), np.uint8)
    encoded = [cv2.imencode(".jpg", image)[1].ravel() for image in images]
    points = np.full((2, 3, 2), 20.5, np.float32)
    points[0, 1] = 999.0
    np.savez(
        tmp_path / "own.npz",
        jpeg=np.concatenate(encoded),
        jpeg_offsets=np.cumsum([0, *map(len, encoded)]),
        size_hw=np.array([40, 64]),
        points=points,
        occluded=np.array([[False, True, False], [False, False, False]]),
        valid=np.array([[True, True, True], [True, True, False]]),
    )
    clip = SequenceClips(tmp_path)(np.random.default_rng(0))
    assert clip.frames.shape == (3, 40, 64, 3)
    assert clip.visible.tolist() == [[True, False, True]]
    np.testing.assert_allclose(clip.xy[0, [0, 2]], 20.0)
    assert np.isnan(clip.xy[0, 1]).all()


def test_unknown_positions_cost_nothing() -> None:
    stage = StageConfig(steps=1, frames=2, size=48, clips=1, points=8, rate=(1.0, 1.0))
    batch = draw_batch(lambda _: generate(SCENES, 0), stage, np.random.default_rng(0))
    visible, xy = batch.visible.clone(), batch.xy.clone()
    visible[1, 0, :4] = False
    totals = []
    for value in (5.0, torch.nan):
        xy[1, 0, :4] = value
        torch.manual_seed(0)
        network = SmallNetwork(tiny_recipe().model)
        unrolled = unroll(network, Batch(batch.images, xy, visible), fused=False, bfloat16=False)
        loss = losses(unrolled, Batch(batch.images, xy, visible), LossConfig())
        unrolled.backward(loss.total)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        totals.append(loss.total.item())
    assert totals[0] == pytest.approx(totals[1])


def test_generators_fill_a_pool_and_replace_the_oldest_clips(tmp_path: Path) -> None:
    save_clip(tmp_path / "000000000000.clip.npz", dot_clip())
    np.testing.assert_array_equal(load_clip(pool_files(tmp_path)[0]).xy, dot_clip().xy)
    generators = Generators(tmp_path, [SCENES], processes=1, clips=4, uses=2.0)
    try:
        wait_until(lambda: len(pool_files(tmp_path)) == 4)
        generators.count(5)
        # Five draws use up two and a half clips, so three are replaced; fewer are only a passing state.
        wait_until(lambda: [int(path.name[:12]) for path in pool_files(tmp_path)] == [3, 4, 5, 6])
        generators.check()
    finally:
        generators.stop()
    np.testing.assert_array_equal(load_clip(tmp_path / "000000000003.clip.npz").frames, generate(SCENES, 3).frames)


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """To the bit: weights, averaged weights and optimizer, although the run stopped in the middle of a stage."""
    whole = train(tiny_recipe(), tmp_path / "whole")
    short = dataclasses.replace(tiny_recipe().stages[1], steps=1)
    shortened = tiny_recipe(stages=(tiny_recipe().stages[0], short))
    # The learning rate of the last step depends on the stage's length, so it is cut between two stages' steps.
    train(dataclasses.replace(shortened, stages=(shortened.stages[0],)), tmp_path / "parts")
    resumed = train(tiny_recipe(), tmp_path / "parts")
    assert whole.step == resumed.step == 6
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
        if name in whole.averaged:
            assert torch.equal(whole.averaged[name], resumed.averaged[name]), name
    first, second = (state.optimizer.state_dict()["state"] for state in (whole, resumed))
    for index, entry in first.items():
        assert torch.equal(entry["exp_avg_sq"], second[index]["exp_avg_sq"])
    assert "resumed at step 3" in (tmp_path / "parts" / "log.txt").read_text()
    config, _ = load_model(tmp_path / "whole" / "best.safetensors")
    assert config == tiny_recipe().model


def test_checkpoints_of_another_network_are_refused(tmp_path: Path) -> None:
    train(tiny_recipe(stages=tiny_recipe().stages[:1]), tmp_path)
    wider = dataclasses.replace(tiny_recipe().model, hidden_dim=64)
    with pytest.raises(ModelFileError, match="does not fit the recipe"):
        train(tiny_recipe(model=wider), tmp_path)


def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    """Two processes run, agree to the bit, and leave one checkpoint."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(tiny_recipe(processes=2)))
    processes.start(2, processes.command_line(["train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run")]))
    checkpoint = torch.load(tmp_path / "run" / "latest.pt", weights_only=True)
    assert checkpoint["step"] == 6
    assert "2 processes" in (tmp_path / "run" / "log.txt").read_text()


def test_command_line_reports_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run", str(tmp_path)]) == EXIT_BAD_INPUT
    assert "--smoke" in capsys.readouterr().err
    (tmp_path / "recipe.yaml").write_text("stages: 3")
    assert main(["train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path)]) == EXIT_BAD_INPUT
    assert "recipe.yaml" in capsys.readouterr().err


def test_smoke_training_lowers_the_loss_and_beats_no_motion(tmp_path: Path) -> None:
    from taptr_ros.training.measure import EvaluationScenes

    recipe = smoke_recipe()
    state = train(recipe, tmp_path)
    totals = [float(line.split(" total ")[1].split()[0]) for line in log_lines(tmp_path) if " total " in line]
    assert totals[2] < 0.8 * totals[0]
    scenes = EvaluationScenes(recipe.evaluation)
    scores = scenes.scores(TorchBackend(recipe.model, state.averaged_weights()))
    still = state.averaged_weights()
    for name, value in still.items():
        if name.startswith("decoder.layers") and ("position_head" in name or "logit" in name):
            value[:] = 0.0
    assert scores["delta_avg"] > scenes.scores(TorchBackend(recipe.model, still))["delta_avg"] + 5.0
    assert scenes.picture(TorchBackend(recipe.model, still)).shape == (96, 96, 3)


def log_lines(folder: Path) -> list[str]:
    return (folder / "log.txt").read_text().splitlines()

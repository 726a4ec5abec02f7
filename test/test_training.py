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
from taptr_ros.errors import DatasetError, InvalidConfigError, ModelFileError  # noqa: E402
from taptr_ros.model.files import load_model  # noqa: E402
from taptr_ros.model.small_network import SmallNetwork  # noqa: E402
from taptr_ros.model.trunk import Trunk  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.training import processes  # noqa: E402
from taptr_ros.training.batches import (  # noqa: E402
    DISPLACED_SHARE,
    DISPLACEMENT,
    Batch,
    Batches,
    ClipSource,
    Drawn,
    SequenceClips,
    StoredClips,
    draw_shot,
)
from taptr_ros.training.clip_files import Generators, load_frames, load_tracks, pool_files, save_clip  # noqa: E402
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
from taptr_ros.training.state import TrainingState  # noqa: E402
from taptr_ros.training.trunk_weights import load_trunk_weights, read_trunk_weights  # noqa: E402
from taptr_ros.training.unroll import unroll  # noqa: E402
from taptr_ros.training.views import (  # noqa: E402
    SEGMENT,
    ClipTracks,
    View,
    another_light,
    another_view,
    choose_points,
    contrast,
    draw_view,
    film,
    frames_with_gap,
    longest_occlusion,
    median_step,
)

SCENES = SceneConfig(height=64, width=64, frames=5, points=48)
RECIPES = Path(__file__).resolve().parent.parent / "config" / "training"


def tiny_recipe(**changes: Any) -> TrainingConfig:
    recipe = TrainingConfig(
        model=tiny_small_config(width=64),
        stages=(
            StageConfig(steps=3, frames=2, size=48, clips=2, points=8, rate=(1e-3, 1e-3)),
            StageConfig(steps=3, frames=4, size=64, clips=1, points=8, rate=(1e-3, 1e-4), lead=1),
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
        ("seed: 2001-99-99", "not YAML"),
        ("[" * 5000, "not YAML"),
        (
            "{stages: [{steps: 3, frames: 2, size: 48, clips: 1, points: 4, rate: [1" + "0" * 400 + ", 1]}]}",
            "too large",
        ),
        ("{stages: [], data: {uses: .nan}}", "uses is nan; use a number from 0 on"),
        ("{stages: [], data: {recording_share: 1.5}}", "recording_share is 1.5; use a number from 0 to 1"),
        ("{stages: [], data: {pool: 3}}", "pool is 3; use a string, or none at all"),
        ("{stages: [], data: {scenes: [{kind: opera}]}}", "kind is 'opera'; choose one of layered, spatial, simulated"),
        ("{stages: [], evaluation: {every: 0}}", "every is 0; use a whole number from 1 on"),
        ("{stages: [], gradient_norm: 0}", r"gradient_norm is 0\.0; use a number above 0\."),
        ("{stages: [], bfloat16: 1}", "bfloat16 is 1; use true or false"),
        ("{stages: [], model: {context_renewal: 1}}", "use a number from 0 to below 1"),
        (
            "stages: [{steps: 3, frames: 2, size: 48, clips: 1, points: 4, rate: [.inf, 1e-4]}]",
            "use 2 values, each a number above 0 to 1e",
        ),
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


def blurred_clip(frames: int, seed: int = 0) -> Clip:
    """A soft picture that stands still, with points on it."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(40, 216, (64, 80, 3), np.uint8), (0, 0), 3.0)
    xy = np.repeat(rng.uniform(8, 55, (40, 1, 2)).astype(np.float32), frames, axis=1)
    return Clip(np.repeat(picture[np.newaxis], frames, axis=0), xy, np.ones((40, frames), bool))


def colours_at(image: Any, xy: Any) -> Any:
    """Return the colours [N,3] of an image at points [N,2]."""
    return cv2.remap(np.asarray(image), xy[:, np.newaxis], None, cv2.INTER_LINEAR)[:, 0].astype(float)


def view_of(clip: Clip, rng: np.random.Generator, frames: int = 6, size: int = 48) -> View | None:
    stage = StageConfig(steps=1, frames=frames, size=size, clips=1, points=20, rate=(1.0, 1.0))
    return draw_view(ClipTracks.of(clip), lambda frame: contrast(clip.frames[frame], clip.xy[:, frame]), stage, rng)


def test_views_keep_points_on_their_pixels() -> None:
    """Crops, mirrors, turns, gaps and exchanged colours: what a point shows is what it showed in the clip."""
    rng = np.random.default_rng(0)
    clip = blurred_clip(9)
    turned = lit = exchanged = 0
    for _ in range(60):
        view = view_of(clip, rng)
        if view is None:
            continue
        frames = film(torch.from_numpy(clip.frames[view.frames])[None], [view], 48)[0]
        assert frames.shape == (6, 48, 48, 3)
        inverse = np.linalg.inv(view.matrices)
        for frame in range(6):
            inside = ((view.xy[:, frame] > 1.0) & (view.xy[:, frame] < 46.0)).all(axis=-1)
            shown = view.xy[inside, frame]
            source = (shown @ inverse[frame, :2, :2].T + inverse[frame, :2, 2]).astype(np.float32)
            before = colours_at(clip.frames[0], source)[:, view.channels]
            after = colours_at(frames[frame], shown)
            expected = before * view.light[frame, 0][view.channels] + view.light[frame, 1][view.channels]
            np.testing.assert_allclose(after, expected.clip(0, 255), atol=6)
        turned += len(np.unique(view.matrices[:, 0, 1].round(6))) > 2
        lit += (view.light[-1] != view.light[0]).any()
        exchanged += (view.channels != [0, 1, 2]).any()
    assert min(turned, lit, exchanged) > 3


def test_views_show_true_tracks() -> None:
    """A dot is where its view says, whatever was done to time and space."""
    rng = np.random.default_rng(1)
    clip = dot_clip(frames=9)
    seen = 0
    for _ in range(60):
        view = view_of(clip, rng, frames=4, size=32)
        if view is None:
            continue
        dark = dataclasses.replace(view, background=np.zeros(3, np.float32))
        frames = film(torch.from_numpy(clip.frames[view.frames])[None], [dark], 32)[0].numpy()
        for frame in range(4):
            brightness = frames[frame].sum(axis=-1).astype(float)
            brightness -= np.median(brightness)
            if view.visible[0, frame] and brightness.max() > 30:
                y, x = np.mgrid[:32, :32]
                centroid = [(brightness * axis).sum() / brightness.sum() for axis in (x, y)]
                np.testing.assert_allclose(view.xy[0, frame], centroid, atol=0.9)
                seen += 1
    assert seen > 60


def test_a_gap_leaves_out_frames_in_the_middle_only() -> None:
    seen = set()
    for seed in range(60):
        chosen, gap = frames_with_gap(20, 8, np.random.default_rng(seed))
        steps = np.diff(chosen)
        direction = np.sign(steps[0])
        assert SEGMENT <= gap <= 8 - SEGMENT
        assert 1 <= direction * steps[gap - 1] - 1 <= 12
        assert (np.delete(steps, gap - 1) == direction).all()
        seen.add((gap, direction))
    assert len(seen) == 6


def test_after_a_gap_view_and_light_are_others() -> None:
    rng = np.random.default_rng(2)
    moved = np.stack([another_view((64, 80), rng) for _ in range(20)])
    assert np.std(np.arctan2(moved[:, 1, 0], moved[:, 0, 0])) > 0.1
    assert np.std([another_light(rng)[0].mean() for _ in range(20)]) > 0.05


def test_points_start_visible_and_views_without_points_are_refused() -> None:
    rng = np.random.default_rng(0)
    clip = dot_clip()
    textured = np.full(16, 50.0, np.float32)
    visible = clip.visible & (np.arange(16) % 2 == 0)[:, None]
    points = choose_points(clip.xy, visible, textured, 12, rng)
    assert points is not None
    assert len(points) == 12
    assert (points % 2 == 0).all()
    assert choose_points(clip.xy, ~clip.visible, textured, 12, rng) is None


def test_longest_occlusion_is_one_that_ends() -> None:
    rows = ["#..#...#", "###.....", "...#.#..", "########"]
    visible = np.array([[letter == "#" for letter in row] for row in rows])
    assert longest_occlusion(visible).tolist() == [3, 0, 1, 0]
    assert longest_occlusion(visible[:, :1]).tolist() == [0, 0, 0, 0]


def test_fast_views_and_flat_places_are_noticed() -> None:
    clip = dot_clip()
    assert median_step(clip.xy, clip.visible) == pytest.approx(1.0)
    assert median_step(clip.xy, clip.visible & (np.arange(4) % 2 == 0)) == np.inf
    places = np.array([[40.0, 30.0], [21.0, 13.0], [-5.0, 2.0], [np.nan, np.nan]], np.float32)
    flat, textured, outside, unknown = contrast(clip.frames[0], places)
    assert flat == outside == unknown == 0.0
    assert textured > 10.0


class SceneSource:
    """Draws one of a few scenes."""

    def __init__(self, scenes: int) -> None:
        self._scenes = scenes

    def draw(self, rng: np.random.Generator) -> Drawn:
        return Drawn.of(generate(SCENES, int(rng.integers(self._scenes))))


def batches_of(source: ClipSource, stage: StageConfig, seed: int = 0, **data: Any) -> list[Batch]:
    recipe = tiny_recipe(stages=(stage,), seed=seed, data=DataConfig(scenes=(SCENES,), **data))
    return list(Batches(recipe, source, 0, torch.device("cpu")).draw(range(stage.steps)))


def test_batches_repeat_and_differ_between_steps() -> None:
    stage = StageConfig(steps=2, frames=3, size=48, clips=2, points=8, rate=(1.0, 1.0))
    (first, other), (again, _) = (batches_of(SceneSource(3), stage, seed=1) for _ in range(2))
    assert first.images.shape == (3, 2, 48, 48, 3)
    assert first.xy.shape == (3, 2, 8, 2)
    assert first.visible[0].all()
    torch.testing.assert_close(first.images, again.images)
    torch.testing.assert_close(first.xy, again.xy)
    torch.testing.assert_close(first.displaced, again.displaced)
    assert not torch.equal(first.images, other.images)


def test_loader_processes_draw_the_same_batches(tmp_path: Path) -> None:
    for number in range(3):
        save_clip(tmp_path / f"{number:012d}.clip.npz", generate(SCENES, number))
    stage = StageConfig(steps=3, frames=3, size=48, clips=2, points=8, rate=(1.0, 1.0))
    alone = batches_of(StoredClips(tmp_path), stage)
    ahead = batches_of(StoredClips(tmp_path), stage, loaders=1)
    for one, other in zip(alone, ahead, strict=True):
        torch.testing.assert_close(one.images, other.images)
        torch.testing.assert_close(one.xy, other.xy)


def test_few_points_are_displaced_by_the_given_distances() -> None:
    stage = StageConfig(steps=2, frames=5, size=64, clips=4, points=40, rate=(1.0, 1.0))
    batch = batches_of(SceneSource(2), stage)[0]
    distance = 64 * batch.displaced.norm(dim=-1)
    moved = distance[distance > 0]
    assert 0.3 * DISPLACED_SHARE < len(moved) / distance.numel() < 3.0 * DISPLACED_SHARE
    assert moved.min() >= DISPLACEMENT[0] * 0.999
    assert moved.max() <= DISPLACEMENT[1] * 1.001


def test_clips_that_are_too_short_are_refused() -> None:
    stage = StageConfig(steps=1, frames=9, size=48, clips=1, points=8, rate=(1.0, 1.0))
    with pytest.raises(DatasetError, match="fewer than 9 frames"):
        draw_shot(SceneSource(1), stage, np.random.default_rng(0))


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
    drawn = SequenceClips(tmp_path).draw(np.random.default_rng(0))
    assert isinstance(drawn.frames, np.ndarray)
    assert drawn.frames.shape == (3, 40, 64, 3)
    assert drawn.tracks.visible.tolist() == [[True, False, True], [True, True, False]]
    assert drawn.tracks.known.tolist() == [[True, True, True], [True, True, False]]
    np.testing.assert_allclose(drawn.tracks.xy[0, [0, 2]], 20.0)
    assert np.isnan(drawn.tracks.xy[0, 1]).all()


def test_what_is_unknown_costs_nothing() -> None:
    """Positions of hidden points that are unknown, and points of which nothing is known in a frame."""
    stage = StageConfig(steps=1, frames=2, size=48, clips=1, points=8, rate=(1.0, 1.0))
    (batch,) = batches_of(SceneSource(1), stage)
    visible, known = batch.visible.clone(), batch.known.clone()
    visible[1, 0, :4] = False
    known[1, 0, 2:4] = False
    totals = []
    for value, claimed in ((5.0, False), (torch.nan, False), (torch.nan, True)):
        xy = batch.xy.clone()
        xy[1, 0, :4] = value
        # Whatever is said of an unknown point is not listened to.
        xy[1, 0, 2:4], shown = (0.5 if claimed else value), visible.clone()
        changed = dataclasses.replace(batch, xy=xy, visible=shown, known=known)
        torch.manual_seed(0)
        network = SmallNetwork(tiny_recipe().model)
        unrolled = unroll(network, changed, fused=False, bfloat16=False)
        loss = losses(unrolled, changed, LossConfig())
        unrolled.backward(loss.total)
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        totals.append(loss.total.item())
    assert totals[0] == pytest.approx(totals[1])
    assert totals[0] == pytest.approx(totals[2])


def test_gradients_are_finite_where_there_is_nothing_to_see() -> None:
    """Points outside the image, whose surroundings are empty, whenever contexts are renewed."""
    torch.manual_seed(0)
    network = SmallNetwork(dataclasses.replace(tiny_recipe().model, height=48, width=48))
    shape = 6, 1, 4
    xy = torch.full((*shape, 2), 0.5)
    xy[1:] = 3.0
    displaced = torch.zeros(*shape, 2)
    displaced[0] = 3.0
    images = torch.randint(0, 256, (6, 1, 48, 48, 3), dtype=torch.uint8)
    visible = torch.zeros(shape, dtype=torch.bool)
    batch = Batch(images, xy, visible, torch.ones(shape, dtype=torch.bool), displaced)
    unrolled = unroll(network, batch, fused=False, bfloat16=False)
    unrolled.backward(losses(unrolled, batch, LossConfig()).total)
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_the_trunk_starts_from_its_weights_and_learns_more_slowly(tmp_path: Path) -> None:
    state = TrainingState(tiny_recipe(), torch.device("cpu"))
    weights = load_trunk_weights()
    for name, value in state.network.encoder.trunk.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    assert {group["share"] for group in state.optimizer.param_groups} == {0.2, 1.0}
    other = TrainingState(tiny_recipe(pretrained_trunk=False), torch.device("cpu"))
    assert not torch.equal(other.network.encoder.trunk.stem.conv.weight, weights["stem.conv.weight"])
    (tmp_path / "weights.pth").write_bytes(b"other")
    with pytest.raises(ModelFileError, match="SHA-256"):
        read_trunk_weights(tmp_path / "weights.pth")


def test_a_random_trunk_measures_its_norms_on_the_first_images(tmp_path: Path) -> None:
    """Otherwise its signals would die out within a few layers, and no comparison with trained weights were fair."""
    torch.manual_seed(1)
    trunk = Trunk().train()
    images = torch.from_numpy(generate(SCENES, 2).frames).permute(0, 3, 1, 2).float()
    before = trunk(images)[-1].std()
    trunk.measure_norms(images)
    assert trunk(images)[-1].std() > 10.0 * before
    outputs: list[torch.Tensor] = []
    trunk.blocks[5].project.norm.register_forward_hook(lambda _, __, output: outputs.append(output))
    trunk(images)
    assert float(outputs[0].detach().mean((0, 2, 3)).abs().max()) < 0.2
    assert float((outputs[0].detach().std((0, 2, 3)) - 1.0).abs().max()) < 0.2

    measured = train(tiny_recipe(pretrained_trunk=False), tmp_path, minutes=0.0).network.encoder.trunk
    mean = measured.stem.norm.get_buffer("running_mean")
    assert mean.abs().max() > 0.0
    resumed = train(tiny_recipe(pretrained_trunk=False), tmp_path).network.encoder.trunk
    torch.testing.assert_close(resumed.stem.norm.get_buffer("running_mean"), mean)


def test_a_run_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    stopped = train(tiny_recipe(), tmp_path, minutes=0.0)
    assert stopped.step == 1
    assert train(tiny_recipe(), tmp_path).step == 6


def test_generators_fill_a_pool_and_replace_the_oldest_clips(tmp_path: Path) -> None:
    save_clip(tmp_path / "000000000000.clip.npz", dot_clip())
    tracks, _ = load_tracks(pool_files(tmp_path)[0])
    np.testing.assert_array_equal(tracks.xy, dot_clip().xy)
    generators = Generators(tmp_path, [SCENES], processes=1, clips=4, uses=2.0)
    try:
        wait_until(lambda: len(pool_files(tmp_path)) == 4)
        generators.count(5)
        # Five draws use up two and a half clips, so three are replaced; fewer are only a passing state.
        wait_until(lambda: [int(path.name[:12]) for path in pool_files(tmp_path)] == [3, 4, 5, 6])
        generators.check()
    finally:
        generators.stop()
    np.testing.assert_array_equal(load_frames(tmp_path / "000000000003.clip.npz"), generate(SCENES, 3).frames)


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

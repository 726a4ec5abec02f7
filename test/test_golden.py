"""The network against vectors of the released code.

The folder that holds them is named by the environment variable TAPTR_GOLDEN; without it these tests are skipped.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the network is written in PyTorch")

from taptr_ros.model.config import ModelConfig  # noqa: E402
from taptr_ros.model.conversion import convert_weights, infer_config  # noqa: E402
from taptr_ros.model.encoder import position_encoding  # noqa: E402
from taptr_ros.model.layers import inverse_sigmoid  # noqa: E402
from taptr_ros.model.network import TaptrNetwork  # noqa: E402
from taptr_ros.runtime.images import fit_image  # noqa: E402
from taptr_ros.runtime.torch_backend import TorchBackend  # noqa: E402
from taptr_ros.tracking.config import TrackerConfig  # noqa: E402
from taptr_ros.tracking.tracker import PointTracker  # noqa: E402

FOLDER = os.environ.get("TAPTR_GOLDEN")
FILES = ("small", "small_long", "small_r50")
FEATURE_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 1e-3

pytestmark = pytest.mark.skipif(not FOLDER, reason="TAPTR_GOLDEN names no folder with vectors of the released code")


@dataclasses.dataclass
class Golden:
    """One file of vectors and the network built from its weights."""

    arrays: dict[str, NDArray[Any]]
    config: ModelConfig
    weights: dict[str, Any]

    def network(self) -> TaptrNetwork:
        network = TaptrNetwork(self.config, form="grid")
        network.load_state_dict(self.weights)
        return network.requires_grad_(False).eval()

    def backend(self) -> TorchBackend:
        return TorchBackend(self.config, {name: tensor.numpy() for name, tensor in self.weights.items()})

    @property
    def starts(self) -> NDArray[np.int64]:
        return self.arrays["in_queries_txy_px"][:, 0].astype(np.int64)


def load(name: str) -> Golden:
    with np.load(Path(str(FOLDER)) / f"{name}.npz") as file:
        arrays = dict(file)
    official = {key[2:]: torch.from_numpy(array) for key, array in arrays.items() if key.startswith("w/")}
    height, width = arrays["in_frames_u8"].shape[1:3]
    config = dataclasses.replace(infer_config(official), height=height, width=width)
    return Golden(arrays, config, convert_weights(official, config)[0])


def follow(golden: Golden, tracker_config: TrackerConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Track the file's queries with `PointTracker`; returns positions in 0..1 and visibilities, NaN before a start."""
    tracker = PointTracker(golden.backend(), tracker_config)
    frames, queries = golden.arrays["in_frames_u8"], golden.arrays["in_queries_txy_px"]
    xy = np.full((len(frames), len(queries), 2), np.nan, np.float32)
    visibility = np.full((len(frames), len(queries)), np.nan, np.float32)
    for index, frame in enumerate(frames):
        for point in np.flatnonzero(golden.starts == index):
            tracker.add(queries[point : point + 1, 1:], ids=[point + 1])
        tracks = tracker.step(frame, stamp=index + 1)
        points = tracks.ids.astype(np.int64) - 1
        xy[index, points] = tracks.xy / np.array([golden.config.width - 1, golden.config.height - 1])
        visibility[index, points] = tracks.visibility
    return xy, visibility


def logit(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    probability = probability.astype(np.float64)
    return np.log(probability / (1.0 - probability))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [(name, "out") for name in FILES] + [("small", "limited"), ("small_long", "limited")],
)
def test_tracker_reproduces_positions_and_visibility(name: str, prefix: str) -> None:
    golden = load(name)
    frames = len(golden.arrays["in_frames_u8"])
    slots = frames if prefix == "out" else int(golden.arrays["limited_size"]) - 1
    xy, visibility = follow(
        golden,
        # The method alone: no points are sought.
        TrackerConfig(
            memory_slots=slots,
            pin_query_frame=False,
            support="none",
            scene_cut_threshold=0.0,
            lost_after=0,
            rematch_interval=0,
        ),
    )
    started = np.arange(frames)[:, None] >= golden.starts
    moved = np.arange(frames)[:, None] > golden.starts
    boxes, logits = golden.arrays[f"{prefix}_boxes"], golden.arrays[f"{prefix}_logits"]
    np.testing.assert_allclose(xy[started], boxes[started][:, :2], atol=FEATURE_TOLERANCE)
    np.testing.assert_allclose(logit(visibility[moved]), logits[moved][:, 1], atol=LOGIT_TOLERANCE)
    assert moved.sum() > len(golden.starts)


@pytest.mark.parametrize("name", ["small", "small_r50"])
def test_image_features_match_stage_by_stage(name: str) -> None:
    golden = load(name)
    network, arrays = golden.network(), golden.arrays
    frame = arrays["in_frames_u8"][0]
    normalised = (torch.from_numpy(frame).float() - network.mean) / network.std
    np.testing.assert_allclose(normalised.permute(2, 0, 1), arrays["in_frames_norm"][0], atol=FEATURE_TOLERANCE)

    levels = network.backbone(normalised.permute(2, 0, 1).unsqueeze(0))
    encodings = position_encoding(network.levels, golden.config.hidden_dim).split(network.levels.counts)
    for index, (level, encoding) in enumerate(zip(levels, encodings, strict=True)):
        np.testing.assert_allclose(level[0], arrays[f"backbone_l{index}"][0], atol=FEATURE_TOLERANCE)
        projected = network.encoder.projections[index](level)
        np.testing.assert_allclose(projected, arrays[f"proj_l{index}"], atol=FEATURE_TOLERANCE)
        image = encoding.t().reshape(arrays[f"pe_l{index}"].shape)
        np.testing.assert_allclose(image, arrays[f"pe_l{index}"], atol=FEATURE_TOLERANCE)

    captured: dict[str, Any] = {}
    for index, layer in enumerate(network.encoder.layers):
        layer.register_forward_hook(lambda _m, _i, output, index=index: captured.update({f"enc{index}_out": output}))
        layer.attention.register_forward_hook(
            lambda _m, _i, output, index=index: captured.update({f"enc{index}_attn": output})
        )
        for part, module in (
            ("offsets", layer.attention.sampling_offsets),
            ("attnlogits", layer.attention.attention_weights),
        ):
            module.register_forward_hook(
                lambda _m, _i, output, key=f"enc{index}_{part}": captured.update({key: output})
            )
    (tokens,) = network.encode(torch.from_numpy(frame).float())
    np.testing.assert_allclose(tokens, arrays["enc1_out"][0], atol=FEATURE_TOLERANCE)
    np.testing.assert_allclose(captured["enc0_out"], arrays["enc0_out"][0], atol=FEATURE_TOLERANCE)
    for key in {"enc0_offsets", "enc0_attnlogits"} & arrays.keys():
        value = captured[key][::8]
        if key.endswith("offsets"):
            # Ours has the axis first, the file's last.
            value = torch.stack(value.chunk(2, dim=-1), dim=-1).flatten(1)
        np.testing.assert_allclose(value, arrays[key], atol=LOGIT_TOLERANCE)
    if "enc_pos" in arrays:
        counts = torch.tensor(network.levels.counts)
        position = network.encoder.position + network.encoder.level_embedding.repeat_interleave(counts, dim=0)
        np.testing.assert_allclose(position, arrays["enc_pos"], atol=FEATURE_TOLERANCE)
        unit = (network.encoder.reference[..., 0] + 0.5) / network.levels.width_height.t()
        np.testing.assert_allclose(unit, arrays["enc_ref"][..., None].repeat(4, -1), atol=FEATURE_TOLERANCE)
    for index in range(2):
        if f"enc{index}_attn" in arrays:
            np.testing.assert_allclose(captured[f"enc{index}_attn"], arrays[f"enc{index}_attn"], atol=FEATURE_TOLERANCE)


@pytest.mark.parametrize("name", ["small", "small_r50"])
def test_contexts_match(name: str) -> None:
    golden = load(name)
    network, arrays = golden.network(), golden.arrays
    for point, start in enumerate(golden.starts):
        tokens = network.features(network.encode(torch.from_numpy(arrays["in_frames_u8"][start]).float()))
        content, context, _ = network.init_queries(
            tokens, torch.from_numpy(arrays["in_query_xy_norm"][point : point + 1])
        )
        np.testing.assert_allclose(context[0], arrays["context_features"][point], atol=FEATURE_TOLERANCE)
        np.testing.assert_allclose(content[0], arrays["init_feature"][point], atol=FEATURE_TOLERANCE)


@pytest.mark.parametrize("form", ["grid", "gather"])
@pytest.mark.parametrize("name", ["small", "small_r50"])
def test_every_decoder_stage_matches(name: str, form: str) -> None:
    """Feed the released code's own state and memory to the decoder and compare what every part of it returns."""
    golden = load(name)
    arrays = golden.arrays
    backend = golden.backend()
    network = backend.network
    network.form = form
    captured = capture_decoder(network)
    frames, starts = arrays["in_frames_u8"], golden.starts
    tracks = backend.allocate(len(starts), len(frames))
    point_of_row = np.argsort(starts, kind="stable")
    compared = 0
    for frame, image in enumerate(frames):
        features = backend.encode(image)
        points = point_of_row[starts[point_of_row] <= frame]
        rows = np.arange(len(points))
        new = starts[points] == frame
        if new.any():
            tracks.start(rows[new], backend.init_queries(features, arrays["in_query_xy_norm"][points[new]]))
        content = tracks.content[rows]
        updated = arrays["update_mask"][frame][points]
        if updated.any():
            captured.clear()
            decoded = backend.decode(features, None, tracks, len(rows), frame, updated, frame)
            check_decoder(captured, arrays, frame, points)
            tracks.state[rows] = decoded.state
            content = decoded.content
            np.testing.assert_allclose(content, arrays["out_feature_bank"][frame][points], atol=FEATURE_TOLERANCE)
            compared += 1
        weight = np.where(updated, arrays["out_visible_prob"][frame][points], 1.0).astype(np.float32)
        tracks.remember(rows, frame - starts[points], content, weight, frame)
    assert compared >= 2


def capture_decoder(network: TaptrNetwork) -> dict[str, list[Any]]:
    """Collect the outputs of the decoder's parts, one entry per layer, under the names of the file's arrays."""
    captured: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        captured.setdefault(name, []).append(value.clone())

    def hook(module: Any, *names: str) -> None:
        def collect(_module: Any, _inputs: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            for name, value in zip(names, outputs, strict=True):
                note(name, value)

        module.register_forward_hook(collect)

    def collect_inputs(_module: Any, inputs: Any) -> None:
        for name, value in zip(("dec_in_content", "dec_in_querypos", "dec_in_ref"), inputs, strict=False):
            note(name, value)

    for layer in network.decoder.layers:
        layer.register_forward_pre_hook(collect_inputs)
        hook(layer.temporal_attention, "vlta_attn_out")
        hook(layer.temporal_norm, "vlta_out")
        hook(layer.cross_attention, "cca_attn_out", "cca_logits", "cca_offsets")
        hook(layer.cross_norm, "cca_out")
        hook(layer.position_update.weights, "apu_logits")
        hook(layer.updated_position_head, "apu_querypos")
        hook(layer.self_norm, "sa_out")
        hook(layer, "dec_out_content", "dec_ref_after_apu")
    hook(network.decoder.position_change_fuser, "hs")
    return captured


def check_decoder(
    captured: dict[str, list[Any]], arrays: dict[str, Any], frame: int, points: NDArray[np.int64]
) -> None:
    for name, layers in captured.items():
        tolerance = LOGIT_TOLERANCE if name.endswith("logits") else FEATURE_TOLERANCE
        for index, value in enumerate(layers):
            expected = arrays[name][frame, index][points]
            if name == "cca_offsets":
                value = value.permute(0, 2, 3, 4, 1)  # noqa: PLW2901 - ours has the axis first
            np.testing.assert_allclose(
                value.reshape(expected.shape), expected, atol=tolerance, err_msg=f"{name}, layer {index}, frame {frame}"
            )
    before, after = torch.stack(captured["dec_in_ref"]), torch.stack(captured["dec_ref_after_apu"])
    np.testing.assert_allclose((after - before)[..., :2], arrays["apu_delta"][frame][:, points], atol=FEATURE_TOLERANCE)
    np.testing.assert_allclose(
        inverse_sigmoid(after), arrays["out_box_ca_logit_layers"][frame][:, points], atol=LOGIT_TOLERANCE
    )


def test_preprocessing_matches() -> None:
    golden = load("small")
    network = golden.network()
    for image, expected in zip(golden.arrays["pre_in_u8"], golden.arrays["pre_out_norm"], strict=True):
        fitted = torch.from_numpy(fit_image(image, *expected.shape[1:]))
        normalised = ((fitted - network.mean) / network.std).permute(2, 0, 1)
        np.testing.assert_allclose(normalised, expected, atol=FEATURE_TOLERANCE)

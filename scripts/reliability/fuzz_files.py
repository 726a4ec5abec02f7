"""Mutated files: bags, images, videos, model files, manifests, graphs, CSVs, datasets and configurations."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
import zstandard
from rosbags.rosbag2 import StoragePlugin, Writer

from reliability import scene
from reliability.mutators import Generator, mutated, odd_float, odd_integer, odd_json, odd_text
from taptr_ros.cli.points import RequestedPoints, parse_points
from taptr_ros.errors import TaptrError
from taptr_ros.evaluation.datasets import load_dataset
from taptr_ros.messages.encoded import decode_image
from taptr_ros.model.architectures import Config, config_from_dict
from taptr_ros.model.files import load_model, save_model
from taptr_ros.runtime.exported import GRAPHS, MANIFEST, read_manifest
from taptr_ros.runtime.loading import MODEL_FILE, TAPTR_SMALL, WEIGHTS, load_backend
from taptr_ros.sources.interfaces import typestore
from taptr_ros.sources.opening import open_source
from taptr_ros.tracking import PointTracker, TrackerConfig

FRAMES = 5
"""Images in every bag, folder and video."""

MOST_FRAMES = 1000
"""Images after which a damaged file that goes on and on counts as one that hangs."""

IMAGE_ENDINGS = (".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm")

RECIPE = Path(__file__).parents[2] / "config" / "training" / "small.yaml"
"""A recipe for training."""

REFUSALS = (TaptrError, OSError)
"""What the commands and nodes answer with one sentence."""


class FuzzedFiles:
    """Good files in a folder, and what becomes of them."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._needs_network = target == "networks"
        self._images = [scene.view(0.033 * frame)[:48, :64] for frame in range(FRAMES)]
        self._encoded = [cv2.imencode(ending, self._images[0])[1].tobytes() for ending in IMAGE_ENDINGS]
        self._videos = {ending: _video(folder / f"good{ending}", self._images) for ending in (".avi", ".mp4")}
        self._bags = {
            ".mcap": _bag(folder / "mcap_bag", self._images, StoragePlugin.MCAP),
            ".db3": _bag(folder / "sqlite_bag", self._images, StoragePlugin.SQLITE3),
        }
        self._bags[".mcap.zstd"] = zstandard.compress(self._bags[".mcap"])
        self._manifest = json.loads((WEIGHTS / TAPTR_SMALL / MANIFEST).read_text())
        self._graphs = {name: (WEIGHTS / TAPTR_SMALL / f"{name}.onnx").read_bytes() for name in GRAPHS}
        weights = {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 3), np.float32)}
        save_model(folder / "good.safetensors", config_from_dict(self._manifest["config"]), weights)
        self._model = (folder / "good.safetensors").read_bytes()
        self._weights = load_model(WEIGHTS / TAPTR_SMALL / MODEL_FILE)[1]
        # Not zipped, so that most mutations reach the pickle.
        self._checkpoint = _checkpoint(folder / "good.pth") if target == "checkpoints" else b""
        if target == "checkpoints":
            convert_checkpoint(folder / "good.pth", folder / "none")  # imports what it needs
        self._recipe = RECIPE.read_bytes()
        self._csv = b"x,y,frame,id\n10,20,0,1\n30.5,40,2,7\n-0.5,0,1,3\n"
        self._pickle = pickle.dumps(_dataset(self._images))
        np.savez(folder / "good.npz", **_npz(self._encoded[1]))
        self._npz = (folder / "good.npz").read_bytes()
        self.targets: dict[str, Callable[[Generator], bool]] = {
            "points": self._give_points,
            "CSV files": self._give_csv,
            "image files": self._give_image,
            "bags, mcap": lambda rng: self._give_source(self._bags[".mcap"], ".mcap", rng),
            "bags, sqlite3": lambda rng: self._give_source(self._bags[".db3"], ".db3", rng),
            "bags, compressed": lambda rng: self._give_source(self._bags[".mcap.zstd"], ".mcap.zstd", rng),
            "videos": self._give_video,
            "model files": self._give_model,
            "manifests": self._give_manifest,
            "graphs": self._give_graph,
            "exported models": self._give_exported_model,
            "networks": self._give_network,
            "checkpoints": self._give_checkpoint,
            "recipes": self._give_recipe,
            "datasets, pickle": lambda rng: self._give_dataset(self._pickle, ".pkl", rng),
            "datasets, npz": lambda rng: self._give_dataset(self._npz, ".npz", rng),
        }

    def good_stream(self) -> list[float]:
        """Read one good file of every kind; return a number of each."""
        numbers: list[float] = []
        for ending, data in {**self._bags, **self._videos}.items():
            numbers += [float(frame.image.mean()) for frame in open_source(self._write(data, ending))]
        numbers += parse_points(str(self._write(self._csv, ".csv"))).xy.ravel().tolist()
        numbers += [weights.sum() for weights in load_model(self._write(self._model, ".safetensors"))[1].values()]
        numbers += [float(decode_image(np.frombuffer(data, np.uint8), "it").mean()) for data in self._encoded]
        if self._needs_network:
            self._build(config_from_dict(self._manifest["config"]))
        return numbers

    def close(self) -> None:
        """Do nothing: the folder is the caller's."""

    def _write(self, data: bytes, ending: str) -> Path:
        path = self._folder / f"fuzzed{ending}"
        path.write_bytes(data)
        return path

    def _give_source(self, good: bytes, ending: str, rng: Generator) -> bool:
        path = self._write(mutated(good, rng), ending)
        try:
            for count, frame in enumerate(open_source(path)):
                assert frame.image.dtype == np.uint8
                assert count < MOST_FRAMES, "it goes on and on"
        except REFUSALS:
            return False
        return True

    def _give_video(self, rng: Generator) -> bool:
        ending = (".avi", ".mp4")[int(rng.integers(2))]
        return self._give_source(self._videos[ending], ending, rng)

    def _give_image(self, rng: Generator) -> bool:
        data = mutated(self._encoded[int(rng.integers(len(self._encoded)))], rng)
        try:
            decode_image(np.frombuffer(data, np.uint8), "it")
        except REFUSALS:
            return False
        return True

    def _give_points(self, rng: Generator) -> bool:
        text = ";".join(f"{rng.random() * 60},{rng.random() * 40}" for _ in range(int(rng.integers(1, 30))))
        if rng.random() < 0.5:
            text += f";{odd_float(rng, 20.0)},{odd_float(rng, 20.0)}"
        return _is_taken(odd_text(rng, text) if rng.random() < 0.5 else text)

    def _give_csv(self, rng: Generator) -> bool:
        if rng.random() < 0.5:
            return _is_taken(str(self._write(mutated(self._csv, rng), ".csv")))
        rows = [f"{rng.random() * 60},{rng.random() * 40},{rng.integers(9)},{row}" for row in range(1, 9)]
        row = odd_integer(rng, -2, 2**63), odd_integer(rng, -2, 2**65)
        rows.append(f"{odd_float(rng, 9.0)},{odd_float(rng, 9.0)},{row[0]},{row[1]}")
        return _is_taken(str(self._write("\n".join(["x,y,frame,id", *rows]).encode(), ".csv")))

    def _give_model(self, rng: Generator) -> bool:
        """A damaged file, or one with a header that was written on purpose, whose checksum is right."""
        data = self._model
        if rng.random() < 0.5:
            data = mutated(data, rng)
        else:
            size = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8 : 8 + size])
            metadata = header["__metadata__"]
            if rng.random() < 0.7:
                metadata["config"] = json.dumps(odd_json(json.loads(metadata["config"]), rng))
            else:
                header = odd_json(header, rng)
            text = json.dumps(header).encode()
            data = struct.pack("<Q", len(text)) + text + data[8 + size :]
        try:
            load_model(self._write(data, ".safetensors"))
        except REFUSALS:
            return False
        return True

    def _give_manifest(self, rng: Generator) -> bool:
        folder = self._folder / "manifest"
        if not folder.is_dir():
            folder.mkdir()
            for name in GRAPHS:
                (folder / f"{name}.onnx").write_bytes(b"graph")
        manifest = copy.deepcopy(self._manifest)
        manifest["sha256"] = dict.fromkeys(GRAPHS, hashlib.sha256(b"graph").hexdigest())
        text = json.dumps(odd_json(manifest, rng)).encode()
        (folder / MANIFEST).write_bytes(text if rng.random() < 0.7 else mutated(json.dumps(manifest).encode(), rng))
        try:
            read_manifest(folder)
        except REFUSALS:
            return False
        return True

    def _exported(self, config: Any, graphs: dict[str, bytes]) -> Path:
        """Write an exported model with right checksums."""
        folder = self._folder / "exported"
        folder.mkdir(exist_ok=True)
        for name, data in graphs.items():
            (folder / f"{name}.onnx").write_bytes(data)
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in graphs.items()}
        (folder / MANIFEST).write_text(json.dumps({**self._manifest, "config": config, "sha256": checksums}))
        return folder

    def _give_graph(self, rng: Generator) -> bool:
        """A graph that was damaged on purpose: its checksum is right. The small one, `init_queries`, is as good."""
        graphs = {**self._graphs, "encode": mutated(self._graphs["init_queries"], rng)}
        return _is_loaded(self._exported(self._manifest["config"], graphs))

    def _give_exported_model(self, rng: Generator) -> bool:
        """Good graphs with a configuration that is not theirs."""
        return _is_loaded(self._exported(odd_json(self._manifest["config"], rng), self._graphs))

    def _give_network(self, rng: Generator) -> bool:
        """The weights of a good network with a configuration that is not theirs."""
        try:
            self._build(config_from_dict(odd_json(self._manifest["config"], rng)))
        except REFUSALS:
            return False
        return True

    def _build(self, config: Config) -> None:
        from taptr_ros.runtime.torch_backend import TorchBackend

        TorchBackend(config, self._weights)

    def _give_checkpoint(self, rng: Generator) -> bool:
        path = self._write(mutated(self._checkpoint, rng), ".pth")
        return convert_checkpoint(path, self._folder / "converted.safetensors")

    def _give_recipe(self, rng: Generator) -> bool:
        from taptr_ros.training.config import load_training_config

        data = mutated(self._recipe, rng)
        if rng.random() < 0.5:
            data = yaml.safe_dump(odd_json(yaml.safe_load(self._recipe), rng)).encode()
        try:
            load_training_config(self._write(data, ".yaml"))
        except REFUSALS:
            return False
        return True

    def _give_dataset(self, good: bytes, ending: str, rng: Generator) -> bool:
        try:
            for sequence in load_dataset(self._write(mutated(good, rng), ending)):
                for number in range(min(len(sequence.frames), MOST_FRAMES)):
                    _ = sequence.frames[number]
        except REFUSALS:
            return False
        return True


def convert_checkpoint(checkpoint: Path, out: Path) -> bool:
    """Convert a checkpoint; return whether it is one. PyTorch is imported for this only."""
    from taptr_ros.model.conversion import convert

    try:
        convert(checkpoint, out)
    except REFUSALS:
        return False
    return True


def _is_taken(points: str) -> bool:
    try:
        queries = parse_points(points)
        queries.check_inside(64, 48)
    except REFUSALS:
        return False
    assert isinstance(queries, RequestedPoints)
    return True


def _is_loaded(folder: Path) -> bool:
    """Return whether a model is taken, and tracks a point."""
    try:
        tracker = PointTracker(load_backend(str(folder), threads=1), TrackerConfig(capacity=4, memory_slots=4))
        tracker.warm_up(64, 48)
    except REFUSALS:
        return False
    return True


def _video(path: Path, images: list[Any]) -> bytes:
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    return path.read_bytes()


def _bag(folder: Path, images: list[Any], storage: StoragePlugin) -> bytes:
    store = typestore()
    header, time, image = (
        store.types[name] for name in ("std_msgs/msg/Header", "builtin_interfaces/msg/Time", "sensor_msgs/msg/Image")
    )
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/image", image.__msgtype__, typestore=store)
        for index, pixels in enumerate(images):
            height, width = pixels.shape[:2]
            message = image(header(time(1, index), "camera"), height, width, "rgb8", 0, 3 * width, pixels.reshape(-1))
            writer.write(connection, 10**9 + index, store.serialize_cdr(message, image.__msgtype__))
    (file,) = (path for path in folder.iterdir() if path.suffix != ".yaml")
    return file.read_bytes()


def _checkpoint(path: Path) -> bytes:
    """Return a checkpoint with the tensors that a network's shape is read from; not zipped, so that mutations count."""
    import torch

    shapes = {
        "transformer.level_embed": (4, 32),
        "backbone.0.body.conv1.weight": (4, 3, 7, 7),
        "transformer.encoder.layers.0.self_attn.attention_weights.weight": (64, 32),
        "transformer.encoder.layers.0.linear1.weight": (16, 32),
        "transformer.decoder.ref_point_head.layers.0.weight": (32, 32),
        "transformer.decoder.layers.0.norm1.weight": (32,),
    }
    tensors = {f"module.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save({"ema_model": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def _dataset(images: list[Any]) -> dict[str, Any]:
    points = np.zeros((2, len(images), 2), np.float32)
    return {"one": {"video": np.stack(images), "points": points, "occluded": np.zeros((2, len(images)), bool)}}


def _npz(jpeg: bytes) -> dict[str, Any]:
    shape = (2, FRAMES)
    return {
        "jpeg": np.frombuffer(jpeg * FRAMES, np.uint8),
        "jpeg_offsets": np.arange(FRAMES + 1) * len(jpeg),
        "size_hw": np.array([48, 64]),
        "points": np.zeros((*shape, 2), np.float32),
        "occluded": np.zeros(shape, bool),
        "valid": np.ones(shape, bool),
    }

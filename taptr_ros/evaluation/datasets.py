"""Reads sequences with ground-truth tracks: npz files and the official TAP-Vid pickles, without trusting either.

Points are kept in TAP-Vid's raster convention: the image spans [0, width] x [0, height], so the centre of the first
pixel is (0.5, 0.5).

An npz file NAME.npz holds one sequence: `jpeg` (uint8, all frames one after another), `jpeg_offsets` [T+1], `size_hw`,
`points` [N,T,2] in pixels, `occluded` [N,T] and `valid` [N,T] (False where the ground truth is unknown).

A TAP-Vid pickle holds a dict of name to example (DAVIS, RoboTAP) or a list of examples (RGB-Stacking, Kinetics); an
example has `video` (uint8 [T,H,W,3], or T JPEG files as bytes), `points` [N,T,2] in 0..1 and `occluded` [N,T].
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taptr_ros.errors import DatasetError, InvalidImageError
from taptr_ros.evaluation.array_pickle import ArrayUnpickler
from taptr_ros.evaluation.metrics import QueryMode
from taptr_ros.messages.encoded import decode_image
from taptr_ros.runtime.images import fit_image
from taptr_ros.sources.order import in_natural_order

QUERY_STRIDE = 5
"""Frames between the query frames of the strided mode."""

NPZ_SUFFIXES = (".npz",)
PICKLE_SUFFIXES = (".pkl", ".pickle")


class Frames(Sized, Protocol):
    """The frames of a video, decoded when asked for; a uint8 array [T,H,W,3] is one already."""

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Return frame `index`, uint8 [H,W,3] RGB."""


@dataclasses.dataclass(frozen=True)
class AnnotatedSequence:
    """One video with ground-truth tracks.

    Raises `DatasetError` if the arrays do not fit each other.
    """

    name: str
    """Name of the sequence in its dataset."""
    frames: Frames
    """T frames."""
    points: NDArray[np.float32]
    """[N,T,2] positions (x, y) in the raster convention, in pixels of the frames."""
    occluded: NDArray[np.bool_]
    """[N,T] whether the point is hidden or out of view."""
    valid: NDArray[np.bool_]
    """[N,T] whether the ground truth is known; entries without it are left out of every metric."""
    size: tuple[int, int]
    """(height, width) of the frames in pixels."""

    def __post_init__(self) -> None:
        shape = self.occluded.shape
        if len(shape) != 2 or self.points.shape != (*shape, 2) or self.valid.shape != shape:
            raise DatasetError(
                f"sequence {self.name} has points {self.points.shape}, occluded {shape} and valid {self.valid.shape}; "
                "they must be [N,T,2], [N,T] and [N,T]."
            )
        if len(self.frames) != shape[1]:
            raise DatasetError(f"sequence {self.name} has {len(self.frames)} frames but tracks of {shape[1]} frames.")
        if min(self.size) < 1:
            raise DatasetError(f"sequence {self.name} has frames of {self.size[0]}x{self.size[1]} pixels.")
        if not np.isfinite(self.points[self.valid & ~self.occluded]).all():
            raise DatasetError(f"sequence {self.name} has a visible point whose position is not a finite number.")


@dataclasses.dataclass(frozen=True)
class Queries:
    """Where Q tracks of a sequence start. A track may start several times."""

    tracks: NDArray[np.int64]
    """[Q] row of the track in the sequence's arrays."""
    frames: NDArray[np.int64]
    """[Q] frame of the query, ascending."""


def sample_queries(sequence: AnnotatedSequence, mode: QueryMode) -> Queries:
    """Choose the query points of a sequence as TAP-Vid defines it.

    "first": every track once, where it is first visible. "strided": every track in each of the frames 0, 5, 10, ...
    where it is visible. Tracks that are never visible (in these frames) are left out.
    """
    visible = sequence.valid & ~sequence.occluded
    candidates = np.zeros_like(visible)
    if mode == "first":
        seen = np.flatnonzero(visible.any(axis=1))
        candidates[seen, visible[seen].argmax(axis=1)] = True
    else:
        candidates[:, ::QUERY_STRIDE] = visible[:, ::QUERY_STRIDE]
    frames, tracks = np.nonzero(candidates.T)
    return Queries(tracks=tracks, frames=frames)


def resize_frame(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an image, uint8 [H,W,3], to `size` (height, width), still uint8.

    TAP-Vid resizes with an antialiasing Lanczos filter. Of OpenCV's filters only area averaging, which `fit_image`
    shrinks with, is antialiasing; its Lanczos reads eight pixels whatever the factor.
    """
    return np.rint(fit_image(image, *size)).astype(np.uint8)


def load_dataset(path: Path) -> Iterator[AnnotatedSequence]:
    """Yield the sequences of an npz file, a TAP-Vid pickle, or a folder of such files in name order.

    One file is held in memory at a time, and its frames are decoded when asked for.

    Raises:
        DatasetError: nothing to read at `path`, or, when its turn comes, a file that is damaged or holds anything but
            plain arrays.
    """
    if path.is_dir():
        files = in_natural_order(file for file in path.iterdir() if file.suffix in NPZ_SUFFIXES + PICKLE_SUFFIXES)
        if not files:
            raise DatasetError(f"The folder {path} holds no .npz, .pkl or .pickle file; pass a folder of sequences.")
    elif not path.is_file():
        raise DatasetError(f"There is no dataset at {path}; pass an npz file, a TAP-Vid pickle or a folder of them.")
    else:
        files = [path]
    return (sequence for file in files for sequence in _load_file(file))


def _load_file(path: Path) -> Iterator[AnnotatedSequence]:
    """Yield the sequences of one file."""
    if path.suffix in NPZ_SUFFIXES:
        yield _load_npz(path)
    elif path.suffix in PICKLE_SUFFIXES:
        yield from _load_pickle(path)
    else:
        raise DatasetError(f"{path} is neither an .npz nor a .pkl or .pickle file; pass one of these.")


def _load_npz(path: Path) -> AnnotatedSequence:
    """Read the one sequence of an npz file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays: dict[str, Any] = {
                name: file[name] for name in ("jpeg", "jpeg_offsets", "size_hw", "points", "occluded", "valid")
            }
    except KeyError as error:
        raise DatasetError(f"{path} is no evaluation sequence ({error.args[0]}); pass another file.") from error
    # numpy and zipfile raise whatever the damaged part made them stumble over.
    except Exception as error:
        raise DatasetError(f"{path} is damaged or no npz file of plain arrays ({error}); fetch it again.") from error

    with _errors_naming(str(path)):
        for name, array in arrays.items():
            # numpy returns the bytes of a member that is no array.
            if not isinstance(array, np.ndarray):
                raise DatasetError(f"{name} is no array.")
        if arrays["size_hw"].shape != (2,) or arrays["size_hw"].dtype.kind not in "iu":
            raise DatasetError("size_hw must be two whole numbers.")
        height, width = (int(side) for side in arrays["size_hw"])
        encoded = _split_jpeg(arrays["jpeg"], arrays["jpeg_offsets"])
        return AnnotatedSequence(
            name=path.stem,
            frames=JpegFrames(encoded, (height, width), str(path)),
            points=_points(arrays["points"]),
            occluded=_mask(arrays["occluded"], "occluded"),
            valid=_mask(arrays["valid"], "valid"),
            size=(height, width),
        )


def _split_jpeg(jpeg: NDArray[Any], offsets: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Cut the concatenated JPEG files `jpeg` at `offsets` [T+1]."""
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offsets.dtype.kind not in "iu" or offsets.ndim != 1:
        raise DatasetError("jpeg must be uint8 bytes and jpeg_offsets whole numbers, both one-dimensional.")
    if len(offsets) < 2 or offsets[0] < 0 or offsets[-1] > len(jpeg) or (offsets[1:] <= offsets[:-1]).any():
        raise DatasetError(f"jpeg_offsets must ascend within the {len(jpeg)} bytes of jpeg, for one frame or more.")
    return [jpeg[start:end] for start, end in itertools.pairwise(offsets)]


def _load_pickle(path: Path) -> Iterator[AnnotatedSequence]:
    """Yield the sequences of a TAP-Vid pickle."""
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file).load()
    # A damaged pickle makes the unpickler raise nearly anything.
    except Exception as error:
        raise DatasetError(f"{path} is damaged or no pickle of plain arrays ({error}); fetch it again.") from error
    if isinstance(content, list):
        content = {f"{path.stem}_{index:04d}": example for index, example in enumerate(content)}
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path} holds a {type(content).__name__}; a TAP-Vid file holds a dict or a list of examples."
        )
    for name, example in content.items():
        source = f"{path}, example {name}"
        with _errors_naming(source):
            sequence = _tapvid_sequence(str(name), example, source)
        yield sequence


def _tapvid_sequence(name: str, example: Any, source: str) -> AnnotatedSequence:
    """Make a sequence of one example of a TAP-Vid pickle; `source` is what its frames name as their origin."""
    if not isinstance(example, dict) or not {"video", "points", "occluded"} <= example.keys():
        raise DatasetError("a TAP-Vid example is a dict with video, points and occluded.")
    frames, size = _tapvid_frames(example["video"], source)
    occluded = _mask(example["occluded"], "occluded")
    height, width = size
    return AnnotatedSequence(
        name=name,
        frames=frames,
        points=_points(example["points"]) * np.array([width, height], np.float32),
        occluded=occluded,
        valid=np.ones_like(occluded),
        size=size,
    )


def _tapvid_frames(video: Any, source: str) -> tuple[Frames, tuple[int, int]]:
    """Return the frames of an example's `video` and their (height, width)."""
    if isinstance(video, np.ndarray) and video.dtype == np.uint8 and video.ndim == 4 and video.shape[3] == 3:
        return np.asarray(video), (video.shape[1], video.shape[2])
    # Kinetics comes as a list of JPEG files, or as an array of bytes.
    encoded = list(video) if isinstance(video, list | np.ndarray) else []
    if not encoded or not all(isinstance(data, bytes) for data in encoded):
        raise DatasetError("video must be uint8 [T,H,W,3] or a list of JPEG files as bytes.")
    images = [np.frombuffer(data, np.uint8) for data in encoded]
    height, width, _ = _decode(images[0], "frame 0").shape
    return JpegFrames(images, (height, width), source), (height, width)


class JpegFrames:
    """Frames kept as JPEG files and decoded when asked for.

    Args:
        encoded: T JPEG files, each uint8 [bytes].
        size: (height, width) that every frame must have.
        source: what errors name as the origin.
    """

    def __init__(self, encoded: list[NDArray[np.uint8]], size: tuple[int, int], source: str) -> None:
        self._encoded = encoded
        self._size = size
        self._source = source

    def __len__(self) -> int:
        """Return the number of frames T."""
        return len(self._encoded)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Decode frame `index`, uint8 [H,W,3] RGB; raises `DatasetError` if it is damaged or of another size."""
        source = f"{self._source}, frame {index}"
        image = _decode(self._encoded[index], source)
        if image.shape[:2] != self._size:
            found, expected = (f"{height}x{width}" for height, width in (image.shape[:2], self._size))
            raise DatasetError(f"{source} has {found} pixels but the sequence {expected}; fetch the file again.")
        return image


def _decode(encoded: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    """Decode a JPEG file, uint8 [bytes], to uint8 [H,W,3] RGB; `source` names it in the error."""
    try:
        return decode_image(encoded, source, "fetch the file again")
    except InvalidImageError as error:
        raise DatasetError(str(error)) from error


def _points(array: Any) -> NDArray[np.float32]:
    """Return points as float32 if they are an array of real numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise DatasetError("points must be an array of floating-point numbers [N,T,2].")
    return np.asarray(array, np.float32)


def _mask(array: Any, name: str) -> NDArray[np.bool_]:
    """Return a mask as bool if it is an array of truth values or whole numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biu":
        raise DatasetError(f"{name} must be an array of truth values [N,T].")
    return np.asarray(array, np.bool_)


@contextlib.contextmanager
def _errors_naming(source: str) -> Iterator[None]:
    """Put `source` before the message of a `DatasetError` raised within."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from error

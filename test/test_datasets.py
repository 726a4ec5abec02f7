"""Reading evaluation files: what they hold, and that no file can do more than hold it."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from taptr_ros.errors import DatasetError
from taptr_ros.evaluation.array_pickle import ArrayUnpickler
from taptr_ros.evaluation.datasets import AnnotatedSequence, load_dataset, resize_frame, sample_queries

FRAMES, HEIGHT, WIDTH = 7, 24, 32


def video() -> NDArray[np.uint8]:
    """Return a smooth video, uint8 [T,H,W,3], of which red, green and blue differ."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([np.stack([4 * x, 6 * y, 20 + 10 * t + 0 * x], axis=-1) for t in range(FRAMES)]).astype(np.uint8)


def jpeg_files(frames: NDArray[np.uint8]) -> list[bytes]:
    return [cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes() for frame in frames]


def unit_points() -> NDArray[np.float32]:
    """Return points [3,T,2] in 0..1."""
    return np.random.default_rng(0).random((3, FRAMES, 2), np.float32)


def occlusion() -> NDArray[np.bool_]:
    """Return [3,T]: a track visible from frame 2 on, one always, one never."""
    occluded = np.zeros((3, FRAMES), np.bool_)
    occluded[0, :2] = True
    occluded[2] = True
    return occluded


def tapvid_example(frames: Any = None) -> dict[str, Any]:
    return {"video": video() if frames is None else frames, "points": unit_points(), "occluded": occlusion()}


def npz_arrays() -> dict[str, NDArray[Any]]:
    files = jpeg_files(video())
    valid = np.ones((3, FRAMES), np.bool_)
    valid[1, 0] = False
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "jpeg_offsets": np.cumsum([0] + [len(file) for file in files]),
        "size_hw": np.array([HEIGHT, WIDTH]),
        "points": unit_points() * np.array([WIDTH, HEIGHT], np.float32),
        "occluded": occlusion(),
        "valid": valid,
        "meta": np.array("made for a test"),
    }


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def only(path: Path) -> AnnotatedSequence:
    (sequence,) = load_dataset(path)
    return sequence


def assert_is_the_test_sequence(sequence: AnnotatedSequence, tolerance: int) -> None:
    """Check frames (to `tolerance` grey levels), points and occlusion against what the files were made from."""
    assert sequence.size == (HEIGHT, WIDTH)
    assert len(sequence.frames) == FRAMES
    for t, frame in enumerate(video()):
        assert np.abs(sequence.frames[t].astype(int) - frame).max() <= tolerance
    assert sequence.points == pytest.approx(unit_points() * np.array([WIDTH, HEIGHT], np.float32))
    assert sequence.points.dtype == np.float32
    assert (sequence.occluded == occlusion()).all()


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "walk.npz", **npz_arrays())
    sequence = only(tmp_path / "walk.npz")
    assert sequence.name == "walk"
    assert_is_the_test_sequence(sequence, tolerance=8)
    assert (~sequence.valid).sum() == 1
    assert not sequence.valid[1, 0]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_dict_of_arrays_as_in_davis_and_robotap(tmp_path: Path, protocol: int) -> None:
    sequence = only(write_pickle(tmp_path / "davis.pkl", {"goat": tapvid_example()}, protocol))
    assert sequence.name == "goat"
    assert sequence.valid.all()
    assert_is_the_test_sequence(sequence, tolerance=0)


def test_list_of_arrays_as_in_rgb_stacking(tmp_path: Path) -> None:
    sequences = list(load_dataset(write_pickle(tmp_path / "rgb_stacking.pkl", [tapvid_example(), tapvid_example()])))
    assert [sequence.name for sequence in sequences] == ["rgb_stacking_0000", "rgb_stacking_0001"]
    assert_is_the_test_sequence(sequences[1], tolerance=0)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "container",
    [list, np.array],
    ids=["list", "array of bytes"],
)
def test_list_of_jpeg_files_as_in_kinetics(
    tmp_path: Path, container: Callable[[list[bytes]], Any], protocol: int
) -> None:
    example = tapvid_example(container(jpeg_files(video())))
    assert_is_the_test_sequence(only(write_pickle(tmp_path / "0000_of_0010.pkl", [example], protocol)), tolerance=8)


def test_pickles_written_by_numpy_1_and_2(tmp_path: Path) -> None:
    # The two differ in the module that the array parts are looked up in; protocol 2 spells its name on a line.
    written = pickle.dumps({"goat": tapvid_example()}, protocol=2)
    first, second = (written.replace(core, b"numpy." + name) for core, name in CORE_NAMES)
    assert first != second
    for data in (first, second):
        path = tmp_path / "davis.pkl"
        path.write_bytes(data)
        assert_is_the_test_sequence(only(path), tolerance=0)


CORE = b"numpy._core" if b"numpy._core" in pickle.dumps(np.zeros(1), protocol=2) else b"numpy.core"
CORE_NAMES = ((CORE, b"core"), (CORE, b"_core"))


def test_a_folder_is_read_in_name_order(tmp_path: Path) -> None:
    write_pickle(tmp_path / "b.pkl", {"from_b": tapvid_example()})
    np.savez(tmp_path / "c.npz", **npz_arrays())
    write_pickle(tmp_path / "a.pickle", [tapvid_example()])
    (tmp_path / "README.md").write_text("not a sequence")
    assert [sequence.name for sequence in load_dataset(tmp_path)] == ["a_0000", "from_b", "c"]


class Attack:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def nest(attack: Attack) -> list[Any]:
    """Return pickle contents that hide the attack in every place a reader looks at."""
    objects = np.empty(1, object)
    objects[0] = attack
    return [
        attack,
        {"goat": attack},
        [{**tapvid_example(), "video": [b"frame", attack]}],
        {"goat": {**tapvid_example(), "points": objects}},
        {"goat": tapvid_example(), "unread": [({"deep": attack},)]},
    ]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_cannot_run_a_command(tmp_path: Path, place: int, protocol: int) -> None:
    marker = tmp_path / "the_command_ran"
    content = nest(Attack(os.system, f"touch {marker}"))[place]
    path = write_pickle(tmp_path / "davis.pkl", content, protocol)
    with pytest.raises(DatasetError, match=r"davis\.pkl.*(system|array of type O8)"):
        list(load_dataset(path))
    assert not marker.exists()

    # The file is armed: Python's own unpickler runs it.
    pickle.loads(path.read_bytes())  # noqa: S301
    assert marker.exists()


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, __import__, open, io.open_code, np.load, np.fromfile, np.memmap, np.vectorize, Path],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_a_pickle_can_call_nothing_but_numpys_array_parts(tmp_path: Path, function: Callable[..., Any]) -> None:
    path = write_pickle(tmp_path / "davis.pkl", {"goat": Attack(function, "harmless")})
    with pytest.raises(DatasetError, match="no part of an array"):
        list(load_dataset(path))


def test_a_pickle_cannot_reach_attributes_of_what_is_allowed(tmp_path: Path) -> None:
    # Protocol 4 looks up dotted names: numpy.ndarray.dump would write files.
    path = tmp_path / "davis.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.")
    with pytest.raises(DatasetError, match=r"numpy\.ndarray\.dump"):
        list(load_dataset(path))


@pytest.mark.parametrize("number", [2**31 - 1, 2**31 - 2**20, 1000])
def test_a_pickle_cannot_take_memory_by_the_numbers_of_its_objects(tmp_path: Path, number: int) -> None:
    path = tmp_path / "davis.pkl"
    path.write_bytes(b"\x80\x04]r" + number.to_bytes(4, "little") + b".")
    with pytest.raises(DatasetError, match=f"it numbers an object {number}, after"):
        list(load_dataset(path))


def test_a_pickle_cannot_use_another_codec(tmp_path: Path) -> None:
    path = tmp_path / "davis.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.")
    with pytest.raises(DatasetError, match="codec rot13"):
        list(load_dataset(path))


def test_a_pickle_cannot_give_an_array_a_type_of_its_making(tmp_path: Path) -> None:
    # A plain type whose flags claim that its bytes are object references: numpy would follow them.
    harmless = pickle.dumps(np.zeros(4, np.float64), protocol=2)
    flags = b"J\xff\xff\xff\xffK\x00t"
    assert harmless.count(flags) == 1
    path = tmp_path / "davis.pkl"
    path.write_bytes(harmless.replace(flags, b"J\xff\xff\xff\xffK\x3ft"))
    array = ArrayUnpickler(path.open("rb")).load()
    assert array.dtype == np.float64
    assert array.dtype.flags == np.dtype(np.float64).flags
    assert array.tolist() == [0.0] * 4

    for kind in (
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "V3"),
        np.zeros(2, np.complex64),
    ):
        with pytest.raises(DatasetError, match="array of type"):
            list(load_dataset(write_pickle(path, {"goat": {**tapvid_example(), "points": kind}})))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["goat", "cow"]),
        np.float32(0.25),
        np.bool_(True),
    ],
    ids=lambda value: f"{value.dtype} {value.shape}",
)
def test_arrays_come_back_as_they_were_written(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    read = ArrayUnpickler(io.BytesIO(data)).load()
    assert read.dtype == pickle.loads(data).dtype  # noqa: S301
    assert read.shape == value.shape
    assert (read == value).all()


def test_an_npz_file_cannot_hold_a_pickle(tmp_path: Path) -> None:
    marker = tmp_path / "the_command_ran"
    objects = np.empty(1, object)
    objects[0] = Attack(os.system, f"touch {marker}")
    np.savez(tmp_path / "walk.npz", **{**npz_arrays(), "points": objects})
    with pytest.raises(DatasetError, match=r"walk\.npz"):
        list(load_dataset(tmp_path))
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".npz":
        np.savez(path, **npz_arrays())
    else:
        write_pickle(path, {"goat": tapvid_example()})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DatasetError, match=rf"cut\{suffix}"):
        list(load_dataset(path))


@pytest.mark.filterwarnings("error")
def test_a_member_of_an_npz_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("jpeg", "jpeg_offsets", "size_hw", "points", "occluded", "valid"):
            archive.writestr(name, b"no array")
    with pytest.raises(DatasetError, match=r"odd\.npz: jpeg is no array"):
        list(load_dataset(path))


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sources = {".npz": tmp_path / "source.npz", ".pkl": tmp_path / "source.pkl"}
    np.savez(sources[".npz"], **npz_arrays())
    write_pickle(sources[".pkl"], [tapvid_example(jpeg_files(video()))])
    refused = unnamed = 0
    for trial in range(1000):
        suffix = (".npz", ".pkl")[trial % 2]
        data = np.frombuffer(sources[suffix].read_bytes(), np.uint8).copy()
        # The structure sits in the first and last bytes; damage in the middle hits pixels.
        where = random.integers(0, 400, 3) * random.choice([-1, 1], 3)
        data[where] = random.integers(0, 256, 3)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(data.tobytes())
        try:
            for sequence in load_dataset(path):
                for t in range(FRAMES):
                    sequence.frames[t]
        except DatasetError as error:
            refused += path.name in str(error)
            unnamed += path.name not in str(error)
    assert unnamed == 0
    assert refused > 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": None}, "points"),
        ({"points": np.zeros((3, FRAMES, 3), np.float32)}, r"\[N,T,2\]"),
        ({"points": np.zeros((3, FRAMES, 2), np.int64)}, "floating-point"),
        ({"points": np.full((3, FRAMES, 2), np.nan, np.float32)}, "not a finite number"),
        ({"occluded": np.zeros((2, FRAMES), np.bool_)}, r"\[N,T\]"),
        ({"occluded": np.zeros((3, FRAMES))}, "truth values"),
        ({"valid": np.zeros((3, 1), np.bool_)}, r"\[N,T\]"),
        ({"size_hw": np.array([HEIGHT, WIDTH, 3])}, "size_hw"),
        ({"size_hw": np.array([0, WIDTH])}, "0x32 pixels"),
        ({"jpeg": np.zeros(9)}, "jpeg must be uint8"),
        ({"jpeg_offsets": np.arange(FRAMES + 1)[::-1]}, "ascend"),
        ({"jpeg_offsets": np.array([0, 10**9])}, "ascend"),
        ({"jpeg_offsets": np.array([0, 100])}, "1 frames but tracks of 7"),
    ],
)
def test_an_npz_file_with_unusable_arrays_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arrays = {name: array for name, array in {**npz_arrays(), **changes}.items() if array is not None}
    np.savez(tmp_path / "walk.npz", **arrays)
    with pytest.raises(DatasetError, match=message) as caught:
        list(load_dataset(tmp_path / "walk.npz"))
    assert "walk.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "holds a int"),
        ({"goat": 3}, "dict with video, points and occluded"),
        ({"goat": {**tapvid_example(), "video": video()[..., 0]}}, "video must be"),
        ({"goat": {**tapvid_example(), "video": []}}, "video must be"),
        ({"goat": {**tapvid_example(), "video": [b"no JPEG"] * FRAMES}}, r"frame 0 \(7 bytes\) cannot be decoded"),
        ({"goat": {**tapvid_example(), "points": "many"}}, "points must be"),
        ({"goat": {**tapvid_example(), "video": video()[:3]}}, "3 frames but tracks of 7"),
    ],
)
def test_a_pickle_with_unusable_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        list(load_dataset(write_pickle(tmp_path / "davis.pkl", content)))
    assert "davis.pkl" in str(caught.value)


def test_a_damaged_or_odd_frame_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    files = jpeg_files(video())
    files[3] = b"no JPEG"
    files[4] = jpeg_files(video()[:, :-2])[4]
    sequence = only(write_pickle(tmp_path / "kinetics.pkl", [tapvid_example(files)]))
    assert sequence.frames[2].shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DatasetError, match=r"kinetics\.pkl, example kinetics_0000, frame 3"):
        sequence.frames[3]
    with pytest.raises(DatasetError, match="frame 4 has 22x32 pixels but the sequence 24x32"):
        sequence.frames[4]


def test_a_path_without_a_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sequence")
    for path, message in (
        (tmp_path / "nowhere", "There is no dataset"),
        (tmp_path, "holds no .npz"),
        (tmp_path / "notes.txt", "neither an .npz"),
    ):
        with pytest.raises(DatasetError, match=message):
            list(load_dataset(path))


def sequence_of(occluded: NDArray[np.bool_], valid: NDArray[np.bool_]) -> AnnotatedSequence:
    tracks, frames = occluded.shape
    return AnnotatedSequence(
        name="made",
        frames=np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8),
        points=np.zeros((tracks, frames, 2), np.float32),
        occluded=occluded,
        valid=valid,
        size=(HEIGHT, WIDTH),
    )


def test_query_first_starts_each_track_where_it_is_first_seen() -> None:
    valid = np.ones((3, FRAMES), np.bool_)
    valid[1, 0] = False  # its position there is unknown
    queries = sample_queries(sequence_of(occlusion(), valid), "first")
    # Track 0 appears in frame 2, track 1 is known from frame 1 on, track 2 is never seen.
    assert list(zip(queries.tracks, queries.frames, strict=True)) == [(1, 1), (0, 2)]


def test_query_strided_starts_each_visible_track_every_five_frames() -> None:
    occluded = np.zeros((2, 11), np.bool_)
    occluded[0, 5] = True
    occluded[1, 1:5] = True
    valid = np.ones_like(occluded)
    valid[1, 10] = False
    queries = sample_queries(sequence_of(occluded, valid), "strided")
    assert list(zip(queries.tracks, queries.frames, strict=True)) == [(0, 0), (1, 0), (1, 5), (0, 10)]


def test_resizing_keeps_the_area_of_the_image() -> None:
    # The mean brightness per quadrant survives shrinking by any factor; picking single pixels would alias.
    image = np.zeros((96, 130, 3), np.uint8)
    image[::2, :, :] = 200  # stripes finer than the result can show
    small = resize_frame(image, (32, 32))
    assert small.shape == (32, 32, 3)
    assert np.abs(small.astype(float) - 100.0).max() < 40.0
    assert small.mean() == pytest.approx(100.0, abs=1.0)


def test_resizing_is_half_pixel_aligned() -> None:
    # A ramp over the area stays one: value = 255 * (x + 0.5) / width at every pixel centre, enlarged or shrunk.
    ramp = np.rint(255 * (np.arange(64) + 0.5) / 64).astype(np.uint8)
    image = np.broadcast_to(ramp[np.newaxis, :, np.newaxis], (64, 64, 3)).copy()
    for width in (16, 40, 128):
        row = resize_frame(image, (width, width))[0, :, 0].astype(float)
        expected = 255 * (np.arange(width) + 0.5) / width
        # Half a pixel off would be 255 / 64 / 2 = 2 grey levels or more.
        assert np.abs(row - expected)[2:-2].max() < 1.5

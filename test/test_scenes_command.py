"""`taptr scenes`: the sheet it writes, and how it answers mistakes."""

from __future__ import annotations

import cv2
import pytest

from taptr_ros.cli import main

SMALL = ["--size", "64x80", "--frames", "5", "--clips", "2", "--columns", "3", "--points", "9"]


def test_sheet_has_a_row_for_each_clip(tmp_path, capfd) -> None:
    out = tmp_path / "sheet.png"
    assert main(["scenes", "--out", str(out), *SMALL, "--scale", "2"]) == 0
    sheet = cv2.imread(str(out))
    assert sheet.shape == (2 * (2 * 64 + 2), 3 * (2 * 80 + 2), 3)
    assert "2 clips, " in capfd.readouterr().out
    assert main(["scenes", "--out", str(out), *SMALL, "--scale", "2", "--cuts", "--overwrite"]) == 0
    assert (cv2.imread(str(out)) != sheet).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kind", "opera"], ["--kind", "layered"]),
        (["--seed", "-1"], ["--seed"]),
        (["--size", "8x8"], ["height", "32"]),
        (["--photos", "{tmp}/photos"], ["{tmp}/photos", "no photos"]),
    ],
)
def test_mistakes_get_one_sentence_and_status_2(tmp_path, capfd, options, words) -> None:
    (tmp_path / "photos").mkdir()
    options = [option.format(tmp=tmp_path) for option in options]
    assert main(["scenes", "--out", str(tmp_path / "sheet.png"), *SMALL, *options]) == 2
    error = capfd.readouterr().err
    assert error.startswith("taptr: ")
    assert error.count("\n") == 1
    for word in words:
        assert word.format(tmp=tmp_path) in error

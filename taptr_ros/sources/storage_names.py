"""Names of rosbag2 files; the packages that read these are not needed to tell them."""

from __future__ import annotations

from pathlib import Path

STORAGE_SUFFIXES = frozenset({".db3", ".mcap"})
"""Endings, in lower case, of the names of storage files."""

COMPRESSED_SUFFIXES = frozenset({".zstd", ".zst"})
"""What follows if a recorder, or the program zstd, has compressed the file as a whole."""


METADATA = "metadata.yaml"
"""Name of the file that describes a rosbag2."""


def is_storage_file(path: Path) -> bool:
    """Return whether a file's name is that of a storage file."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED_SUFFIXES else path
    return plain.suffix.lower() in STORAGE_SUFFIXES and not path.name.startswith(".")


def is_bag(path: Path) -> bool:
    """Return whether a path is a storage file, or a folder that holds one or says that it is a rosbag2."""
    if not path.is_dir():
        return is_storage_file(path)
    return any(file.name == METADATA or is_storage_file(file) for file in path.iterdir())

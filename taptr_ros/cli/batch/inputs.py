"""Which recordings a batch has, and what each of them is: a path or a URL, its name, and its content."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.sources.opening import is_url
from taptr_ros.sources.order import in_natural_order

LIST_SUFFIX = ".txt"
"""Ending of the name of a file that lists recordings, one a line."""

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Input:
    """One recording to track."""

    name: str
    """What the dataset calls it: the last part of its path, or as many as were asked for."""
    location: str
    """Absolute path, or URL."""

    @property
    def is_remote(self) -> bool:
        """Whether it is named by a URL."""
        return is_url(self.location)


def recordings(inputs: Iterable[str], name_parts: int) -> list[Input]:
    """Return the recordings that inputs stand for, each named by the last `name_parts` parts of its path.

    An input is the path of a recording, a URL, a pattern of one of them with *, ? or [...], or a text file that lists
    inputs, one a line. Raises `InvalidConfigError` if a pattern matches nothing or if two recordings have one name,
    `SourceError` if a list cannot be read.
    """
    found: dict[str, Input] = {}
    for location in dict.fromkeys(location for text in inputs for location in _expanded(text)):
        name = "/".join(_parts(location)[-name_parts:])
        if name in found:
            raise InvalidConfigError(
                f"{found[name].location} and {location} have one name, {name}; rename one of them, or tell them apart "
                f"by more of their paths with --name-parts {name_parts + 1}."
            )
        found[name] = Input(name, location)
    if not found:
        raise InvalidConfigError("There are no recordings to track; name at least one.")
    return list(found.values())


def _expanded(text: str) -> Iterator[str]:
    """Yield the locations that one input stands for."""
    if is_url(text):
        yield from _matching_urls(text) if glob.has_magic(text) else [text.rstrip("/")]
    elif glob.has_magic(text) and not Path(text).exists():
        matching = in_natural_order(Path(path) for path in glob.glob(text, recursive=True))  # noqa: PTH207
        if not matching:
            raise InvalidConfigError(f"Nothing matches {text}; correct the pattern.")
        yield from (str(path.absolute()) for path in matching)
    elif Path(text).suffix.lower() == LIST_SUFFIX:
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{text} cannot be read as a list of recordings ({error}); correct its name.") from error
        for line in filter(None, map(str.strip, lines)):
            if not line.startswith("#"):
                yield from _expanded(line)
    else:
        yield str(Path(text).absolute())


def _matching_urls(pattern: str) -> list[str]:
    system, path = _filesystem(pattern)
    try:
        matching = [system.unstrip_protocol(match) for match in system.glob(path)]
    except Exception as error:
        raise SourceError(
            f"{pattern} cannot be listed ({_words(error)}); check the address and your access."
        ) from error
    if not matching:
        raise InvalidConfigError(f"Nothing matches {pattern}; correct the pattern.")
    return sorted(matching)


def _parts(location: str) -> tuple[str, ...]:
    """Return the parts of a location's path, for a name."""
    if is_url(location):
        path = location.partition("://")[2].partition("?")[0]
        return tuple(filter(None, path.split("/")))
    return Path(os.path.normpath(location)).parts[1:]


@contextlib.contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """Give the path of what a location names: the path itself, or a copy of what a URL names, for as long as needed.

    Raises `SourceError` if a URL cannot be read.
    """
    if not is_url(location):
        yield Path(location)
        return
    system, path = _filesystem(location)
    with tempfile.TemporaryDirectory(prefix="taptr_") as folder:
        copy = Path(folder) / (_parts(location) or ("recording",))[-1]
        try:
            system.get(path, str(copy), recursive=system.isdir(path))
        except Exception as error:
            raise SourceError(
                f"{location} cannot be fetched ({_words(error)}); check the address and your access to it."
            ) from error
        yield copy


def content_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder with their names; raises `OSError`."""
    digest = hashlib.sha256()
    if not path.is_dir():
        _update(digest, path)
        return digest.hexdigest()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        part = hashlib.sha256()
        _update(part, file)
        digest.update(f"{file.relative_to(path).as_posix()}\0{part.hexdigest()}\n".encode())
    return digest.hexdigest()


def _update(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system that reads a URL, and the path in it."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url} cannot be read ({_words(error)}); install what reads such addresses.") from error
    return system, path


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

"""Which recordings a batch has, and what each of them is: a path or a URL, its name, and its content."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from taptr_ros.errors import InvalidConfigError, SourceError, words_of
from taptr_ros.sources.opening import is_url
from taptr_ros.sources.order import in_natural_order

LIST_SUFFIX = ".txt"
"""Ending of the name of a file that lists recordings, one a line."""

_URL = re.compile(r"((?:[\w+-]+::)*[\w+-]+://)(.*?)(::[\w+-]+://.*)?", re.DOTALL)
"""Scheme, path, and the URL within which the path is."""

_HTTP = ("http://", "https://")

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
        if name not in found:
            found[name] = Input(name, location)
        elif not _is_same(found[name].location, location):
            raise InvalidConfigError(
                f"{found[name].location} and {location} have one name, {name}; rename one of them, or tell them apart "
                f"by more of their paths with --name-parts {name_parts + 1}."
            )
    if not found:
        raise InvalidConfigError("There are no recordings to track; name at least one.")
    return list(found.values())


def _expanded(text: str, lists: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the locations that one input stands for, which is a line of the last of `lists`, if there are any."""
    text = text if is_url(text) else _absolute(text, lists[-1] if lists else None)
    if Path(_Url.parse(text).path if is_url(text) else text).suffix.lower() == LIST_SUFFIX:
        if text in lists:
            raise InvalidConfigError(f"The list {text} names itself; remove that line.")
        for line in filter(None, map(str.strip, _lines(text))):
            if not line.startswith("#"):
                yield from _expanded(line, (*lists, text))
    elif is_url(text):
        yield from _matching_urls(text) if _Url.parse(text).has_magic else [text.rstrip("/")]
    elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110
        matching = in_natural_order(Path(path) for path in glob.glob(text, recursive=True))  # noqa: PTH207
        if not matching:
            raise InvalidConfigError(f"Nothing matches {text}; correct the pattern.")
        yield from map(str, matching)
    else:
        yield text


def _absolute(text: str, listed: str | None) -> str:
    """Return a path, or a pattern of paths, as an absolute one, or as a URL if it is a relative one in a URL's list.

    A relative one in a list that is not found from the working folder is meant from the folder of the list.
    """
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for ~ and a name that nobody has
    if listed is None or path.is_absolute():
        return str(path.absolute())
    if is_url(listed):
        url = _Url.parse(listed)
        return f"{url.scheme}{Path(url.path).parent / path}{url.rest}"
    is_here = path.exists() or glob.glob(text, recursive=True)  # noqa: PTH207
    return str(path.absolute() if is_here else Path(listed).parent / path)


def _lines(location: str) -> list[str]:
    """Return the lines of a list of recordings."""
    try:
        with local_copy(location) as path:
            return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{location} cannot be read as a list of recordings ({error}); correct its name.") from error


def _matching_urls(pattern: str) -> list[str]:
    url = _Url.parse(pattern)
    system, path = _filesystem(pattern)
    try:
        matching = [str(match) for match in system.glob(path)]
    except Exception as error:
        raise SourceError(
            f"{pattern} cannot be listed ({words_of(error)}); check the address and your access."
        ) from error
    if not matching:
        raise InvalidConfigError(f"Nothing matches {pattern}; correct the pattern.")
    # Some file systems return paths, some URLs.
    paths = in_natural_order(Path(match.removeprefix(url.scheme)) for match in matching)
    return [f"{url.scheme}{path}{url.rest}" for path in paths]


def _is_same(one: str, other: str) -> bool:
    """Return whether two paths lead to one file or folder."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _parts(location: str) -> tuple[str, ...]:
    """Return the parts of a location's path, for a name."""
    if not is_url(location):
        return Path(os.path.normpath(location)).parts[1:]
    url = _Url.parse(location)
    return (*(_parts(url.within) if url.within else ()), *filter(None, url.path.split("/")))


class _Url(NamedTuple):
    """A URL as fsspec takes it: zip://street.mp4::https://host/streets.zip has a path within what another URL names."""

    scheme: str
    """With what follows it: https://, or simplecache::s3://."""
    path: str
    """With the host before it."""
    query: str
    """Of https, with its question mark."""
    within: str
    """The other URL, or nothing."""

    @classmethod
    def parse(cls, text: str) -> _Url:
        """Take a URL apart; raises `ValueError` for what is none."""
        match = _URL.fullmatch(text)
        if match is None:
            raise ValueError(text)
        scheme, path, within = match.groups(default="")
        path, mark, query = path.partition("?") if scheme.endswith(_HTTP) else (path, "", "")
        return cls(scheme, path, mark + query, within.removeprefix("::"))

    @property
    def rest(self) -> str:
        """What follows the path."""
        return self.query + (f"::{self.within}" if self.within else "")

    @property
    def has_magic(self) -> bool:
        """Whether it is a pattern; the brackets of an address are none."""
        return glob.has_magic(self.path.partition("/")[2] if self.scheme.endswith(_HTTP) else self.path)


def beside(location: str, ending: str, *, is_folder: bool) -> str:
    """Return the location of the file beside a recording: street.csv for street.mp4, my_bag.csv for a folder."""
    path = _Url.parse(location).path if is_url(location) else location
    stem = path if is_folder else path.removesuffix(Path(path).suffix)
    if not is_url(location):
        return stem + ending
    url = _Url.parse(location)
    return f"{url.scheme}{stem}{ending}{url.rest}"


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
            # To find out whether a page of a server is a folder, fsspec reads all of it: a large video, twice.
            is_page = location.startswith(_HTTP) and copy.suffix
            if not is_page and system.isdir(path):
                system.get(path, str(copy), recursive=True)
            else:
                system.get_file(path, str(copy))
        except Exception as error:
            raise SourceError(
                f"{location} cannot be fetched ({words_of(error)}); check the address and your access to it."
            ) from error
        yield copy


FileStates = tuple[tuple[str, int, int], ...]
"""Of the files of a recording: name, size and time of the last change in nanoseconds."""


def file_states(path: Path) -> FileStates:
    """Return the states of a file, or of all files in a folder, by which a change shows; raises `OSError`."""
    states = [(file, file.stat()) for file in _files(path)]
    return tuple((str(file.relative_to(path)), state.st_size, state.st_mtime_ns) for file, state in states)


def content_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder with their names; raises `OSError`."""
    digest = hashlib.sha256()
    if not path.is_dir():
        _update(digest, path)
        return digest.hexdigest()
    for file in _files(path):
        part = hashlib.sha256()
        _update(part, file)
        digest.update(f"{file.relative_to(path).as_posix()}\0{part.hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """Return a file, or all files in a folder, in an order that is always the same."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _update(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)


def _filesystem(url: str) -> tuple[Any, str]:
    """Return the file system that reads a URL, and the path in it."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except Exception as error:
        raise SourceError(
            f"{url} cannot be read ({words_of(error)}); check the address, and install what reads such addresses."
        ) from error
    return system, path

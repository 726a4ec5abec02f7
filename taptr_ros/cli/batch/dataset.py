"""The folder of a batch's results. Only the command itself writes into it, never a worker.

Every result is written under another name first, and renamed when it is complete and on the disk. So whatever is
there under its name is whole, however a run ended.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from taptr_ros.cli.batch.files import Kind, Result, parsed_name
from taptr_ros.cli.batch.pieces import Part
from taptr_ros.cli.batch.rows import Summary, summary_in
from taptr_ros.errors import InvalidConfigError

MARK = "_batch.json"
"""Name of the file that says what the rows in the folder mean."""

REPORT = "_report.csv"
"""Name of the file with a line for each recording of the newest run."""

_FORMAT = "taptr_ros batch 1"
_UNFINISHED = ".unfinished"
_PART = ".part"
"""What follows the name of a result that is being written: no pattern for results matches it."""

_LOCK = ".lock"


class Dataset:
    """The results in a folder, which is locked as long as this is open; a context manager.

    Raises `InvalidConfigError`, and changes nothing, if the folder holds something else, results of other options, or
    if another run is writing into it.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], kinds: Iterable[Kind]) -> None:
        self._folder = folder
        self._extras = tuple(kinds)
        check_folder(folder, options)
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise InvalidConfigError(
                f"Another run of this command is writing into {folder}; wait for its end, or name another folder."
            ) from None
        try:
            shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
            (folder / _UNFINISHED).mkdir()
            self._write(MARK, {"": json.dumps({"format": _FORMAT, "options": options}, indent=1).encode()})
        except OSError:
            self.close()
            if made:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._there: dict[Kind, dict[str, dict[Result, Path]]] = {kind: defaultdict(dict) for kind in Kind}
        for kind in Kind:
            for path in (folder / kind.folder).glob("*"):
                if result := parsed_name(kind, path.name):
                    self._there[kind][result.stem][result] = path

    def keys(self, stem: str) -> frozenset[str]:
        """Return the keys under which a recording that is not cut is complete, with all that was asked for."""
        keys = {result.key for result in self._there[Kind.ROWS][stem]}
        return frozenset(key for key in keys if self.has(stem, key, Part.whole()))

    def has(self, stem: str, key: str, part: Part) -> bool:
        """Return whether a part of a recording is complete, with all that was asked for.

        Its rows are written after everything else, so that the first piece of each kind tells of all.
        """
        has_extras = all(Result(stem, part.pieces.start, key) in self._there[kind][stem] for kind in self._extras)
        return has_extras and Result(stem, part.number, key) in self._there[Kind.ROWS][stem]

    def summary(self, stem: str, key: str, part: Part) -> Summary:
        """Return what is known of a part that is complete; raises `SourceError` if its file is damaged."""
        return summary_in(self._there[Kind.ROWS][stem][Result(stem, part.number, key)])

    def forget(self, stem: str, *, but: str = "") -> None:
        """Remove the results of a recording that have another key: of an older model, or of what the file was."""
        for results in self._there.values():
            for result in [result for result in results[stem] if result.key != but]:
                _remove(results[stem].pop(result))

    def add(self, files: Mapping[str, Mapping[str, bytes]]) -> None:
        """Write results, the last of which makes them count: files, or folders of files, by their paths."""
        *_, rows = files
        (self._folder / rows).unlink(missing_ok=True)
        for path, content in files.items():
            self._write(path, content)
        for path in files:
            kind = next(kind for kind in Kind if kind.folder == path.partition("/")[0])
            result = parsed_name(kind, path.partition("/")[2])
            assert result is not None  # noqa: S101 - `result_name` made it
            self._there[kind][result.stem][result] = self._folder / path

    def write_report(self, header: Collection[str], lines: Iterable[Collection[Any]]) -> None:
        """Write what came of every recording of this run."""
        text = io.StringIO()
        csv.writer(text).writerows([header, *lines])
        self._write(REPORT, {"": text.getvalue().encode()})

    def close(self) -> None:
        """Let others write."""
        shutil.rmtree(self._folder / _UNFINISHED, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, name: str, content: Mapping[str, bytes]) -> None:
        """Write a file, or a folder of files, whole or not at all."""
        self._check_place()
        final = self._folder / name
        unfinished = self._folder / _UNFINISHED / (final.name + _PART)
        try:
            for path, data in content.items():
                file = unfinished / path
                if path:
                    file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as opened:
                    opened.write(data)
                    opened.flush()
                    os.fsync(opened.fileno())
            final.parent.mkdir(exist_ok=True)
            if final.is_dir():
                shutil.rmtree(final)
            unfinished.replace(final)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(unfinished)
            raise

    def _check_place(self) -> None:
        """Raise `InvalidConfigError` if the folder is no longer the one that was locked: results would be missing."""
        try:
            is_same = os.path.samestat((self._folder / _LOCK).stat(), os.fstat(self._lock))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise InvalidConfigError(
                f"{self._folder} was removed or replaced while results were written into it; start the command again."
            )


def check_folder(folder: Path, options: Mapping[str, Any]) -> None:
    """Raise `InvalidConfigError` if the folder is not for results of these options."""
    if folder.exists() and not folder.is_dir():
        raise InvalidConfigError(f"{folder} is a file; name a folder for the results.")
    if not folder.parent.is_dir():
        raise InvalidConfigError(f"{folder} lies in a folder that does not exist; name one in a folder that does.")
    if not folder.exists() or not any(path.name not in (_LOCK, _UNFINISHED) for path in folder.iterdir()):
        return
    try:
        mark = json.loads((folder / MARK).read_text())
        before = mark["options"] if mark["format"] == _FORMAT else {}
    except (OSError, ValueError, TypeError, KeyError):
        raise InvalidConfigError(
            f"{folder} holds something else than results of this command; name another folder."
        ) from None
    for name in sorted({*before, *options}):
        if (before.get(name) or None) != (options.get(name) or None):  # a switch that is off says nothing
            raise InvalidConfigError(
                f"{folder} holds results of another run, with {_option(name, before.get(name))} instead of "
                f"{_option(name, options.get(name))}; name another folder, or use the same options."
            )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _option(name: str, value: Any) -> str:
    """Return an option in the words of the command line."""
    if value is None or value is False:
        return f"no {name}"
    return name if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"

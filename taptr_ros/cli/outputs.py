"""What a command may write: no input, nothing inside one, and no file that it did not make itself."""

from __future__ import annotations

import argparse
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from taptr_ros.errors import InvalidConfigError


def add_overwrite_argument(parser: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace output files even if this command did not make them"
    )


def check_outputs(
    outputs: Iterable[Path | None],
    inputs: Iterable[str | Path | None],
    *,
    overwrite: bool,
    is_ours: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Raise `InvalidConfigError` for an output that would destroy something.

    That is one that is an input or lies inside one, whatever `overwrite` says, one that is named twice, or an existing
    one which `is_ours` does not know, unless `overwrite` is set. What is empty, and devices, can always be written.
    """
    sources = [Path(source) for source in inputs if source and _exists(source)]
    seen: list[Path] = []
    for output in outputs:
        if output is None:
            continue
        try:
            resolved = output.resolve()
        except RuntimeError:  # before Python 3.13
            raise InvalidConfigError(f"{output} is a link that leads to itself; name another output.") from None
        for source in sources:
            if source.resolve() == resolved or (output.exists() and output.samefile(source)):
                raise InvalidConfigError(f"{output} is an input, which would be overwritten; name another output.")
            if source.is_dir() and resolved.is_relative_to(source.resolve()):
                raise InvalidConfigError(f"{output} lies inside the input {source}; name an output outside of it.")
        if resolved in seen:
            raise InvalidConfigError(f"{output} is named for two outputs; give each its own.")
        seen.append(resolved)
        if not (overwrite or _is_empty(output) or is_ours(output)):
            raise InvalidConfigError(
                f"{output} exists and was not made by this command; name another output, or add --overwrite."
            )


def free_folder(name: str) -> Path:
    """Return a folder of this name, or with a number added, that does not exist yet: no earlier run is lost."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(folder for folder in map(Path, names) if not folder.exists())


def is_npz_with(*names: str) -> Callable[[Path], bool]:
    """Return whether a file is an npz file with all these arrays."""

    def is_ours(path: Path) -> bool:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in names} <= set(archive.namelist())

    return is_ours


def is_json_with(*keys: str) -> Callable[[Path], bool]:
    """Return whether a file holds a JSON object, or a list of some, with all these keys."""

    def is_ours(path: Path) -> bool:
        try:
            content = json.loads(path.read_text())
        except ValueError:
            return False
        first = content[0] if isinstance(content, list) and content else content
        return isinstance(first, dict) and set(keys) <= set(first)

    return is_ours


def _is_empty(output: Path) -> bool:
    """Return whether there is nothing at a path, or nothing that could be lost; devices hold nothing."""
    if output.is_dir():
        return not any(output.iterdir())
    return not output.is_file() or not output.stat().st_size


def _exists(source: str | Path) -> bool:
    """Return whether an argument that may also be something else than a path, as points are, is one that exists."""
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False

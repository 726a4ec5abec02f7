"""rosbag2 files (sqlite3 and mcap): reading, also of damaged ones, and writing."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

from mcap.records import Channel, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from taptr_ros.errors import InvalidConfigError, SourceError
from taptr_ros.sources.frames import BAG_SUFFIXES
from taptr_ros.sources.interfaces import typestore

_METADATA_VERSION: Literal[9] = 9
"""Version of metadata.yaml to write: every ROS 2 from Iron on reads it."""


class RecordedMessage(NamedTuple):
    """One message of a bag."""

    recorded: int
    """Time of recording in nanoseconds."""
    data: bytes
    """The message, serialized (CDR)."""


@dataclasses.dataclass(frozen=True)
class Topic:
    """What a bag says of a topic."""

    kind: str
    """Message type, for instance sensor_msgs/msg/Image."""
    count: int | None
    """Number of messages; None if the bag is too damaged to tell."""


class _Storage(Protocol):
    """An opened bag or storage file."""

    topics: dict[str, Topic]
    duration: int
    """Nanoseconds between the first message and the last; 0 if unknown."""

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        """Yield the messages of a topic. Whatever exception comes means that no more can be read."""


class BagReader:
    """A rosbag2: a folder, also without the metadata.yaml that an aborted recording lacks, or one storage file.

    A damaged or truncated bag gives the messages before the damage. Raises `SourceError` if nothing can be read.

    Attributes:
        topics: what the bag holds, by name.
        duration: nanoseconds between the first message and the last; 0 if the bag is too damaged to tell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = _parts(path)
        self.topics: dict[str, Topic] = {}
        self.duration = 0
        for part in self._parts:
            with part() as storage:
                self.topics = storage.topics | self.topics
                self.duration += storage.duration

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        """Yield the messages of a topic from the first on.

        Raises `SourceError` where the bag is damaged, after all that could be read before.
        """
        count = 0
        try:
            for part in self._parts:
                with part() as storage:
                    for message in storage.messages(topic):
                        count += 1
                        yield message
        except Exception as error:
            # A damaged bag raises whatever the parser of its storage happens to stumble over.
            raise SourceError(
                f"{self._path} is damaged after {count} messages on {topic} ({_words(error)}); only what comes before "
                "can be read."
            ) from error


class BagWriter:
    """A new rosbag2, complete and readable once it is closed, also by a `with` block that an error ends.

    Raises `InvalidConfigError` if the folder exists already, `OSError` if it cannot be written.
    """

    def __init__(self, path: Path, storage: str) -> None:
        if path.exists():
            raise InvalidConfigError(f"{path} exists already; name a new folder for the bag.")
        self._writer = Writer(path, version=_METADATA_VERSION, storage_plugin=StoragePlugin[storage.upper()])
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def add_topic(self, topic: str, kind: str) -> None:
        """Announce a topic of a message type, for instance sensor_msgs/msg/Image."""
        self._connections[topic] = self._writer.add_connection(topic, kind, typestore=typestore())

    def write(self, topic: str, message: RecordedMessage) -> None:
        """Append a message to a topic that was announced."""
        self._writer.write(self._connections[topic], *message)

    def close(self) -> None:
        """Complete the bag."""
        self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The writer's own context manager would leave an incomplete bag behind after an error.
        self.close()


class _SoundStorage:
    """A bag or storage file that rosbags opens."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.topics = {name: Topic(topic.msgtype or "", topic.msgcount) for name, topic in reader.topics.items()}
        self.duration = reader.duration

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        connections = [connection for connection in self._reader.connections if connection.topic == topic]
        if connections:
            for _, recorded, data in self._reader.messages(connections):
                yield RecordedMessage(recorded, bytes(data))


class _DamagedMcap:
    """An mcap file without its index, read record by record."""

    duration = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.topics: dict[str, Topic] = {}
        with contextlib.suppress(Exception):
            for _ in self._messages():
                pass

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        return (message for name, message in self._messages() if name == topic)

    def _messages(self) -> Iterator[tuple[str, RecordedMessage]]:
        kinds: dict[int, str] = {}
        names: dict[int, str] = {}
        for record in self._records():
            if isinstance(record, Schema):
                kinds[record.id] = record.name
            elif isinstance(record, Channel):
                names[record.id] = record.topic
                self.topics[record.topic] = Topic(kinds.get(record.schema_id, ""), None)
            elif isinstance(record, Message):
                yield names[record.channel_id], RecordedMessage(record.log_time, record.data)

    def _records(self) -> Iterator[McapRecord]:
        with self._path.open("rb") as file:
            # A damaged length must not make the reader ask for more than there is.
            yield from StreamReader(file, validate_crcs=True, record_size_limit=self._path.stat().st_size).records


class _DamagedSqlite:
    """A sqlite3 file with missing or damaged pages, read in the order of its rows instead of by its index."""

    duration = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connection() as connection:
            rows = connection.execute("SELECT name, type FROM topics").fetchall()
        self.topics = {name: Topic(kind, None) for name, kind in rows}

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        with self._connection() as connection:
            (number,) = connection.execute("SELECT id FROM topics WHERE name = ?", (topic,)).fetchone()
            for owner, recorded, data in connection.execute("SELECT topic_id, timestamp, data FROM messages"):
                if owner == number:
                    yield RecordedMessage(recorded, data)

    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?immutable=1", uri=True)
        # Otherwise a file shorter than its header says is refused as a whole.
        connection.execute("PRAGMA writable_schema = ON")
        return contextlib.closing(connection)


_Part = Callable[[], AbstractContextManager[_Storage]]


def _parts(path: Path) -> list[_Part]:
    """Return what opens the bag as a whole or, if that fails, each of its storage files by itself.

    Raises `SourceError` if nothing of it can be read.
    """
    try:
        return [_sound(path)]
    except Exception as error:
        files = _storage_files(path) if path.is_dir() else [path]
        parts = [part for part in map(_part, files) if part is not None]
        if not parts:
            raise SourceError(f"{path} cannot be read as a rosbag2 ({_words(error)}).") from error
        return parts


def _part(path: Path) -> _Part | None:
    """Return what opens a storage file, sound or damaged; None if nothing of it can be read."""
    with contextlib.suppress(Exception):
        return _sound(path)
    with contextlib.suppress(Exception):
        damaged: _Storage = _DamagedMcap(path) if path.suffix.lower() == ".mcap" else _DamagedSqlite(path)
        if damaged.topics:
            return lambda: contextlib.nullcontext(damaged)
    return None


def _sound(path: Path) -> _Part:
    """Return what opens a sound bag or storage file; raises what rosbags stumbles over."""

    @contextlib.contextmanager
    def part() -> Iterator[_Storage]:
        with Reader(path) as reader:
            yield _SoundStorage(reader)

    with part():
        return part


def _storage_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in BAG_SUFFIXES)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

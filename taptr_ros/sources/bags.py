"""rosbag2 files: reading sqlite3 and mcap, also damaged or compressed, and writing mcap.

Only the storage files are read: what metadata.yaml says of topics, numbers, quality of service and compression is said
there too, and a recorder that was killed, or a tool, may have left a metadata.yaml that does not fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

import zstandard
from mcap.records import Channel, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from taptr_ros.errors import InvalidConfigError, SourceError, words_of
from taptr_ros.sources.interfaces import typestore
from taptr_ros.sources.order import in_natural_order
from taptr_ros.sources.storage_names import COMPRESSED_SUFFIXES, is_storage_file

_METADATA_VERSION: Literal[9] = 9
"""Version of metadata.yaml to write: every ROS 2 from Iron on reads it."""

_ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of what Zstandard has compressed."""

_MAX_MESSAGE = 1 << 30
"""Most bytes of one message that was compressed."""


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

    def joined_with(self, other: Topic | None) -> Topic:
        """Return the topic over this storage file and another one of the bag."""
        if other is None:
            return self
        counts = (self.count, other.count)
        return Topic(other.kind or self.kind, None if None in counts else sum(filter(None, counts)))


class _Storage(Protocol):
    """An opened bag or storage file."""

    topics: dict[str, Topic]
    duration: int
    """Nanoseconds between the first message and the last; 0 if unknown."""

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        """Yield the messages of a topic. Whatever exception comes means that no more can be read."""


class BagReader:
    """A rosbag2: a folder, also without metadata.yaml, or one storage file.

    A damaged or truncated bag gives the messages before the damage. Files that are compressed, and those whose newest
    messages still lie in a file of SQLite's beside them, are read from a copy. Raises `SourceError` if nothing can be
    read, `OSError` if there is no room for a copy.

    Attributes:
        topics: what the bag holds, by name.
        duration: nanoseconds between the first message and the last; 0 if the bag is too damaged to tell.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copies = tempfile.TemporaryDirectory(prefix="taptr_")
        files = [_plain(file, Path(self._copies.name)) for file in storage_files(path)]
        if not files:
            raise SourceError(f"{path} cannot be read as a rosbag2: it holds no storage file (.mcap, .db3).")
        self._parts, self._damage = _parts(files)
        if not self._parts:
            raise SourceError(f"{path} cannot be read as a rosbag2 ({self._damage}).")
        self.topics: dict[str, Topic] = {}
        self.duration = 0
        for part in self._parts:
            with part() as storage:
                for name, topic in storage.topics.items():
                    self.topics[name] = topic.joined_with(self.topics.get(name))
                self.duration += storage.duration

    def messages(self, topic: str) -> Iterator[RecordedMessage]:
        """Yield the messages of a topic from the first on, file after file.

        Raises `SourceError` at the end if the bag is damaged, after all that could be read.
        """
        count, damage = 0, self._damage
        for part in self._parts:
            try:
                with part() as storage:
                    for message in storage.messages(topic):
                        yield _uncompressed(message)
                        count += 1
            except Exception as error:  # noqa: BLE001, PERF203
                # A damaged bag raises whatever the parser of its storage happens to stumble over.
                damage = damage or words_of(error)
        if damage:
            raise SourceError(
                f"{self._path} is damaged after {count} messages on {topic} ({damage}); only what comes before can be "
                "read."
            )


class BagWriter:
    """A new rosbag2 in mcap, complete once it is closed, also by a `with` block that an error ends.

    A process that is killed loses what it has not brought to the disk by `flush`, unlike with sqlite3, where it would
    lose all. Raises `InvalidConfigError` if the folder exists already, `OSError` if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise InvalidConfigError(f"{path} exists already; name a new folder for the bag.")
        self._writer = Writer(path, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def add_topic(self, topic: str, kind: str) -> None:
        """Announce a topic of a message type, for instance sensor_msgs/msg/Image."""
        self._connections[topic] = self._writer.add_connection(topic, kind, typestore=typestore())

    def write(self, topic: str, message: RecordedMessage) -> None:
        """Append a message to a topic that was announced."""
        self._writer.write(self._connections[topic], *message)

    def flush(self) -> None:
        """Bring what was written to the disk: it is collected up to a megabyte, which may be minutes of tracks."""
        storage: Any = self._writer.storage
        if storage.chunk.bio.tell():
            storage.close_chunk()
        storage.bio.flush()

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


def storage_files(path: Path) -> list[Path]:
    """Return the storage files of a bag in natural order: those in a folder, or the one file that `path` names."""
    if not path.is_dir():
        return [path]
    files = in_natural_order(file for file in path.iterdir() if is_storage_file(file))
    # A recorder that compresses may leave the file that it has compressed.
    return [
        file for file in files if file.suffix.lower() not in COMPRESSED_SUFFIXES or file.with_suffix("") not in files
    ]


def _plain(path: Path, folder: Path) -> Path:
    """Return the storage file itself or, if it cannot be read as it is, what it stands for, as a copy in a folder."""
    if path.suffix.lower() in COMPRESSED_SUFFIXES:
        copy = folder / path.with_suffix("").name
        try:
            with path.open("rb") as compressed, copy.open("wb") as plain:
                zstandard.ZstdDecompressor().copy_stream(compressed, plain)
        except zstandard.ZstdError as error:
            raise SourceError(f"{path} cannot be unpacked ({words_of(error)}); record or copy it again.") from error
        return copy
    # A recorder that was killed leaves messages in a write-ahead log, or a journal to roll back, beside the file.
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-journal")]
    if path.suffix.lower() == ".db3" and any(file.exists() and file.stat().st_size for file in beside):
        copy = folder / path.name
        for file in (path, *filter(Path.exists, beside)):
            shutil.copyfile(file, folder / file.name)
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        return copy
    return path


def _parts(files: Sequence[Path]) -> tuple[list[_Part], str]:
    """Return what opens each of the files that can be read, and why the first of the others cannot, if there is one."""
    parts: list[_Part] = []
    damage = ""
    for file in files:
        try:
            parts.append(_part(file))
        except Exception as error:  # noqa: BLE001, PERF203
            damage = damage or f"{file.name}: {words_of(error)}"
    return parts, damage


def _part(path: Path) -> _Part:
    """Return what opens a storage file, sound or damaged; raises what rosbags stumbles over if nothing can be read."""
    try:
        return _sound(path)
    except Exception:
        with contextlib.suppress(Exception):
            damaged: _Storage = _DamagedMcap(path) if path.suffix.lower() == ".mcap" else _DamagedSqlite(path)
            if damaged.topics:
                return lambda: contextlib.nullcontext(damaged)
        raise


def _sound(path: Path) -> _Part:
    """Return what opens a sound storage file; raises what rosbags stumbles over."""

    @contextlib.contextmanager
    def part() -> Iterator[_Storage]:
        with Reader(path) as reader:
            yield _SoundStorage(reader)

    with part():
        return part


def _uncompressed(message: RecordedMessage) -> RecordedMessage:
    """Return a message that a recorder may have compressed as it was; serialized messages begin with a zero byte."""
    if not message.data.startswith(_ZSTD):
        return message
    with zstandard.ZstdDecompressor().stream_reader(message.data) as reader:
        data = reader.read(_MAX_MESSAGE + 1)
    if len(data) > _MAX_MESSAGE:
        raise SourceError(f"a message unpacks to more than {_MAX_MESSAGE} bytes")
    return message._replace(data=data)

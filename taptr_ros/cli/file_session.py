"""A file or a camera that is tracked frame by frame while somebody looks and chooses points, in any frame."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taptr_ros.cli.frame_store import FrameStore
from taptr_ros.cli.outputs import check_outputs, free_folder
from taptr_ros.cli.tracks_file import TracksFile
from taptr_ros.drawing.overlay import OverlayVideo, TrackOverlay
from taptr_ros.drawing.trails import TRAIL_FRAMES
from taptr_ros.errors import CapacityError, InvalidImageError, InvalidPointsError, SourceError, TaptrError
from taptr_ros.runtime.backend import Backend
from taptr_ros.settings import settings_of
from taptr_ros.sources.frames import Frame, LeftOut, Source
from taptr_ros.sources.grid import grid_points
from taptr_ros.tracking import PointTracker, TrackerConfig, TrackStream
from taptr_ros.tracking.checks import outside, outside_error
from taptr_ros.tracking.regions import Box, points_in, shrunk_view
from taptr_ros.tracking.states import COLUMNS, Tracks
from taptr_ros.tracking.stream import Step
from taptr_ros.view import protocol
from taptr_ros.view.protocol import Command, frame_message
from taptr_ros.view.session import ParameterValue, RefusedError, Status, typed_value
from taptr_ros.view.stage import Stage

SETTLING_TIME = 1.0
"""Seconds without a further point in an earlier frame, after which those that came are tracked on."""

REMEMBERED_TIMES = 300
"""Frames over which times are reported."""

OUTPUTS = {"npz": "tracks.npz", "csv": "tracks.csv", "overlay": "overlay.mp4"}
"""What can be saved, and the names of the files."""

OFFERED = {entry.name: entry for entry in settings_of(TrackerConfig) if entry.live and entry.name != "replenish"}
"""The live parameters by name. Points of a box are chosen here once, so that nothing is replenished."""


@dataclasses.dataclass
class _TrackedFrame:
    """One frame that was tracked."""

    stamp: int
    source_number: int
    """Number of the frame in its source."""
    tracker_number: int
    """Number of the frame in the stream of the tracker."""
    tracks: Tracks


@dataclasses.dataclass
class _LatePoints:
    """Points that were added in an earlier frame and have yet to pass through the frames since."""

    index: int
    """Of the frame in which they start."""
    points: dict[int, tuple[float, float, int]]
    """By id: x and y in ROS pixels, and the group."""
    due: float
    """When nobody is waited for any longer, on the monotonic clock."""


class FileSession:
    """Tracks the frames of a source, one after the other while it plays, and shows any of them again.

    A point that is added in the newest frame starts there, as with `taptr track`. One that is added in an earlier frame
    starts in that frame and is tracked through all frames since, before anything else goes on. A point that is removed
    is gone from all frames. A thread of its own does all the work; it waits while nobody looks.
    """

    def __init__(self, source: Source, backend: Backend, config: TrackerConfig, folder: Path | None) -> None:
        self._source, self._backend, self._config = source, backend, config
        self._is_file = source.can_repeat
        self._folder, self._inputs = folder, [source.name]
        self._tracker = PointTracker(backend, config)
        self._stream = TrackStream(self._tracker)
        self._store = FrameStore()
        self._source.report = self._left_out = LeftOut(self._note)
        self._images = iter(source)
        self._frames: list[_TrackedFrame] = []
        self._late: list[_LatePoints] = []
        self._follower: PointTracker | None = None
        """Tracks late points through the frames since, while it does."""
        self._removed: dict[int, tuple[int, float, float, int]] = {}
        """Tracks that were removed last, by id: the index of their first frame, x and y in it, and the group."""
        self._streams = 0
        """Counts how often everything was forgotten."""
        self._next_id = 1
        self._groups = 0
        self._position = 0
        self._playing = not self._is_file
        self._ended = False
        self._due = 0.0
        self._sentence = self._busy = self._drawing = ""
        self._times: collections.deque[float] = collections.deque(maxlen=REMEMBERED_TIMES)
        self._finished: collections.deque[float] = collections.deque(maxlen=30)
        self._saving = threading.Lock()
        self._stopped = False
        self._tasks: queue.Queue[tuple[Callable[[], dict[str, Any]], concurrent.futures.Future[dict[str, Any]]]]
        self._tasks = queue.Queue()
        self.stage = Stage("file", self._on_viewers)
        self._thread = threading.Thread(target=self._run, name="file session", daemon=True)

    def start(self) -> None:
        """Show the first frame; raises `SourceError` if there is none."""
        if not self._track_next():
            raise SourceError(f"{self._source.name} holds no images; choose another source. {self._sentence}".rstrip())
        self._show(jump=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the frame in work, and forget all frames."""
        self._stopped = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self.stage.stop()
        with self._saving:  # tracks that are being saved are finished, a video is given up
            self._store.close()

    # What the server asks.

    def status(self) -> Status:
        """Return what is known now."""
        info = self._backend.info
        times = [1e3 * seconds for seconds in list(self._times)]
        finished = list(self._finished)
        seconds = finished[-1] - finished[0] if len(finished) > 1 else 0.0
        is_tracking = bool(finished) and time.monotonic() - finished[-1] < 2.0
        # The session's thread may begin anew meanwhile.
        frames, position = self._frames, self._position
        shown = frames[position].tracks if position < len(frames) else None
        return Status(
            kind="file",
            sentence=self._sentence,
            model=info.model,
            backend=info.backend,
            device=info.device,
            precision=info.precision,
            rate=round((len(finished) - 1) / seconds, 1) if seconds and is_tracking else None,
            latency_p50=round(float(np.percentile(times, 50)), 1) if times else None,
            latency_p95=round(float(np.percentile(times, 95)), 1) if times else None,
            dropped=self._left_out.count,
            points=len(shown.ids) if shown is not None else 0,
            playing=self._playing,
            frame=position,
            tracked=len(frames),
            frame_count=len(frames) if self._ended else self._source.frame_count,
            busy=self._busy or self._drawing,
        )

    def parameters(self) -> list[ParameterValue]:
        """Return the tracker's live parameters."""
        return [ParameterValue(entry, float(getattr(self._config, entry.name))) for entry in OFFERED.values()]

    async def do(self, command: Command) -> dict[str, Any]:
        """Do what a person asks for, between two frames; saving goes on beside them."""
        if isinstance(command, protocol.Save):
            if command.what not in OUTPUTS:
                raise RefusedError(f"{command.what} is nothing that can be saved; use {', '.join(OUTPUTS)}.")
            return await asyncio.to_thread(self._save, command.what)
        done: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        self._tasks.put((lambda: self._execute(command), done))
        return await asyncio.wrap_future(done)

    # The session's own thread.

    def _run(self) -> None:
        while not self._stopped:
            self._take_tasks(self._waiting_time())
            if self._stopped or not self.stage.viewers:
                continue
            try:
                self._go_on()
            except (TaptrError, OSError) as error:
                self._playing = False
                self._sentence = str(error)
            except Exception as error:
                logging.getLogger(__name__).exception("The next frame failed")
                self._playing = False
                self._sentence = f"The next frame failed with {type(error).__name__}: {error}; play to try again."

    def _waiting_time(self) -> float | None:
        """Return how long nothing is to be done but what somebody asks for; None is for ever."""
        now = time.monotonic()
        if not self.stage.viewers:
            return None
        if self._playing:
            return 0.0 if self._late else max(self._due - now, 0.0)
        return max(min(late.due for late in self._late) - now, 0.0) if self._late else None

    def _take_tasks(self, seconds: float | None) -> None:
        """Do what was asked for; wait for it so long, None for ever."""
        with contextlib.suppress(queue.Empty):
            task, done = self._tasks.get(timeout=seconds) if seconds != 0.0 else self._tasks.get_nowait()
            while not self._stopped:
                if done.set_running_or_notify_cancel():  # whoever asked may be gone
                    try:
                        done.set_result(task())
                    except Exception as error:  # noqa: BLE001  # whoever asked is told
                        done.set_exception(error)
                task, done = self._tasks.get_nowait()

    def _wake(self) -> None:
        self._tasks.put((dict, concurrent.futures.Future()))

    def _on_viewers(self, _count: int) -> None:
        """Show whoever comes the trails too, and go on."""
        self._tasks.put((self._show_again, concurrent.futures.Future()))

    def _go_on(self) -> None:
        now = time.monotonic()
        if self._late and (self._playing or now >= min(late.due for late in self._late)):
            self._track_late_points()
        elif self._playing and now >= self._due:
            self._due = max(self._due + 1.0 / self._source.rate, now - 0.1) if self._is_file else 0.0
            if not self._forward():
                self._playing = False

    def _forward(self) -> bool:
        """Show the next frame, tracking it if it was not; return whether there is one."""
        if self._position + 1 < len(self._frames):
            self._position += 1
        elif not self._track_next():
            return False
        else:
            self._position = len(self._frames) - 1
        self._show()
        return True

    def _track_next(self) -> bool:
        """Track the next frame that can be used; return whether there is one."""
        while not self._stopped and not self._ended:
            if self._store.is_full:
                self._note("The frames that were shown fill all the room there is for them; save, then reset.")
                return False
            try:
                frame = next(self._images, None)
            except SourceError as error:
                self._ended = True
                self._note(str(error))
                return False
            if frame is None:
                self._ended = True
                read, announced = len(self._frames) + self._left_out.count, self._source.frame_count
                if announced is not None and read < announced:
                    self._note(f"It ends here: {read} of the {announced} frames that it announces can be read.")
                return False
            if self._track(frame):
                return True
        return False

    def _track(self, frame: Frame) -> bool:
        began = time.perf_counter()
        try:
            step = self._stream.step(frame.image, frame.stamp)
        except InvalidImageError as error:
            step = Step(None, str(error))
        for notice in step.notices:
            self._note(notice)
        if step.tracks is None:
            self._left_out(f"{frame.origin}: {step.left_out}")
            return False
        self._times.append(time.perf_counter() - began)
        self._finished.append(time.monotonic())
        newest = self._tracker.newest
        number = newest.number if newest else 0
        self._store.append(frame.image)
        self._frames.append(_TrackedFrame(frame.stamp, frame.number, number, step.tracks))
        return True

    def _show(self, *, jump: bool = False) -> None:
        """Show the frame at the position; with its trails if it does not follow on the one shown before."""
        index = self._position
        frame = self._frames[index]
        past = [earlier.tracks for earlier in self._frames[max(index - TRAIL_FRAMES, 0) : index]] if jump else None
        store, tracks = self._store, frame.tracks

        def make() -> bytes:
            return frame_message(
                store.jpeg(index), tracks.width, tracks.height, frame.stamp, tracks, number=index, past=past
            )

        self.stage.show(make)

    def _show_again(self) -> dict[str, Any]:
        if self._frames:
            self._show(jump=True)
        return {}

    # What a person asks for.

    def _execute(self, command: Command) -> dict[str, Any]:
        match command:
            case protocol.Add(points, stamp):
                return self._add(np.array(points, np.float64), stamp)
            case protocol.AddGrid(side, stamp):
                tracks = self._frames[self._index_of(stamp)].tracks
                return self._add(grid_points(side, tracks.width, tracks.height).astype(np.float64), stamp)
            case protocol.AddBox(box, stamp):
                return self._add_box(box, stamp)
            case protocol.Remove(ids):
                self._remove(ids)
            case protocol.Clear():
                self._remove({identifier for frame in self._frames for identifier in frame.tracks.ids.tolist()})
            case protocol.Undo():
                self._undo()
            case protocol.Reset():
                self._reset()
            case protocol.Set(name, value):
                self._set(name, value)
            case _:
                self._move(command)
        return {}

    def _move(self, command: Command) -> None:
        """Go to another frame; what was said of the one before is no news any more."""
        self._sentence = ""
        match command:
            case protocol.Play():
                self._playing, self._due = True, time.monotonic()
                if self._ended and self._position + 1 >= len(self._frames) and self._is_file:
                    self._position = 0
                    self._show(jump=True)
            case protocol.Pause():
                self._playing = False
            case protocol.Step():
                self._playing = False
                if self._follower is not None:
                    raise RefusedError("New points are still tracked through the frames since; step when that is done.")
                while self._late:
                    self._track_late_points()
                if not self._forward():
                    raise RefusedError(self._sentence or "This is the last frame.")
            case protocol.Seek(frame):
                if frame >= len(self._frames):
                    raise RefusedError(f"Frame {frame} was not tracked yet; press play to get there.")
                self._playing, self._position = False, frame
                self._show(jump=True)
            case _:
                raise RefusedError("There is nothing else to choose from.")

    def _index_of(self, stamp: int) -> int:
        """Return the index of the frame with a stamp, the last one with it; 0 stands for the one that is shown."""
        if not stamp:
            return self._position
        for index in range(len(self._frames) - 1, -1, -1):
            if self._frames[index].stamp == stamp:
                return index
        raise RefusedError("The frame in which that was chosen is not there any more; choose again.")

    def _add_box(self, sides: tuple[float, float, float, float], stamp: int) -> dict[str, Any]:
        """Choose points in a box (left, top, right, bottom) as the live tracker does, and start them as a group."""
        index = self._index_of(stamp)
        left, top, right, bottom = sides
        # A box counts from the corner of its first pixel.
        box = Box("The box", left + 0.5, top + 0.5, right - left, bottom - top)
        tracks = self._frames[index].tracks
        view = shrunk_view(self._store.image(index))
        points = points_in(box, view, tracks.width, tracks.height, self._config.points_per_region)
        answer = self._add(points.xy, stamp, self._groups + 1)
        self._groups += 1
        return answer

    def _add(self, points: NDArray[np.float64], stamp: int, group: int = 0) -> dict[str, Any]:
        """Start points [N,2] in a frame; those that cannot be added are refused, and the first reason is told."""
        index = self._index_of(stamp)
        coordinates = self._tracker.newest.coordinates if self._tracker.newest else None
        is_outside = outside(points, coordinates)
        good = points[~is_outside]
        refusals: list[str] = [
            str(outside_error(float(x), float(y), coordinates)) for x, y in points[is_outside].tolist()[:1]
        ]
        try:
            self._check_room(len(good))
        except CapacityError as error:
            refusals.append(str(error))
            good = good[: self._room]
        if not len(good):
            raise InvalidPointsError(refusals[0] if refusals else "There are no points to track.")
        ids = list(range(self._next_id, self._next_id + len(good)))
        self._next_id += len(good)
        self._start(ids, good, index, group)
        if index == self._position:
            self._show(jump=True)
        return {"ids": [str(identifier) for identifier in ids], "refused": " ".join(refusals)}

    @property
    def _room(self) -> int:
        """How many points more can be tracked."""
        following = len(self._follower.ids) if self._follower else 0
        present = len(self._tracker.ids) + following + sum(len(late.points) for late in self._late)
        return max(self._config.capacity - present, 0)

    def _check_room(self, count: int) -> None:
        """Raise `CapacityError` if there is no room for so many points more."""
        if count > self._room:
            present = self._config.capacity - self._room
            raise CapacityError(
                f"There is room for {self._room} of {count} points, beside the {present} present; remove some, or "
                "start the view with a larger --capacity."
            )

    def _start(self, ids: list[int], points: NDArray[np.float64], index: int, group: int) -> None:
        """Start points [N,2] in a frame: at once in the newest one, and soon in an earlier one."""
        if index < len(self._frames) - 1:
            self._add_late(index, ids, points, group)
            return
        frame = self._frames[index]
        self._tracker.add(points, ids, stamp=frame.stamp, groups=[group] * len(ids))
        if self._tracker.tracks is not None:
            frame.tracks = self._tracker.tracks

    def _add_late(self, index: int, ids: list[int], points: NDArray[np.float64], group: int) -> None:
        frame = self._frames[index]
        frame.tracks = _joined(frame.tracks, _started(ids, points, group, frame.tracks))
        due = time.monotonic() + SETTLING_TIME
        for late in self._late:
            late.due = due
        added = next((late for late in self._late if late.index == index), None)
        if added is None:
            added = _LatePoints(index, {}, due)
            self._late.append(added)
        for identifier, (x, y) in zip(ids, points.tolist(), strict=True):
            added.points[identifier] = x, y, group

    def _track_late_points(self) -> None:
        """Track the points that were added in one earlier frame through all frames since; tasks are done in between."""
        late = self._late[0]
        first, last, stream = self._frames[late.index], len(self._frames) - 1, self._streams
        config = dataclasses.replace(self._config, capacity=max(len(late.points), 1))
        self._follower = follower = PointTracker(self._backend, config, first.tracker_number)
        self._late.remove(late)
        chosen = [*late.points.values()]
        follower.add([point[:2] for point in chosen], [*late.points], groups=[point[2] for point in chosen])
        try:
            for index, image in self._images_from(late.index):
                frame = self._frames[index]
                if frame.tracks.stream != first.tracks.stream:
                    break  # a new stream begins, in which no point goes on
                tracks = dataclasses.replace(follower.step(image, frame.stamp), stream=frame.tracks.stream)
                frame.tracks = _joined(frame.tracks, tracks)
                self._busy = f"New points are tracked through the frames since: {index + 1} of {last + 1}."
                self._take_tasks(0.0)
                if self._stopped or self._streams != stream or not len(follower.ids):
                    return
            else:
                self._tracker.take_over(follower)
        finally:
            self._follower = None
            self._busy = ""
        self._show(jump=True)

    def _images_from(self, start: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the index and image of every tracked frame from an index on: from the source, if it has them still."""
        if not self._is_file:
            for index in range(start, len(self._frames)):
                yield index, self._store.image(index)
            return
        index, last = start, len(self._frames)
        report, self._source.report = self._source.report, lambda _: None  # said the first time
        try:
            for frame in self._source:
                if frame.number == self._frames[index].source_number:
                    yield index, frame.image
                    index += 1
                    if index == last:
                        return
        finally:
            self._source.report = report
        raise SourceError(f"{self._source.name} has changed since it was read; reset to begin again.")

    def _remove(self, ids: Sequence[int] | set[int]) -> None:
        unwanted = np.array(sorted(set(ids)), np.uint64)
        live = set(self._tracker.ids.tolist())
        self._tracker.remove([identifier for identifier in unwanted.tolist() if identifier in live])
        gone = set(unwanted.tolist())
        if self._follower is not None:
            following = set(self._follower.ids.tolist())
            self._follower.remove([identifier for identifier in unwanted.tolist() if identifier in following])
        for late in self._late:
            late.points = {one: point for one, point in late.points.items() if one not in gone}
        self._late = [late for late in self._late if late.points]
        removed: dict[int, tuple[int, float, float, int]] = {}
        for index, frame in enumerate(self._frames):
            tracks = frame.tracks
            goes = np.isin(tracks.ids, unwanted)
            if goes.any():
                for row in np.flatnonzero(goes):
                    x, y = tracks.xy[row].tolist()
                    removed.setdefault(int(tracks.ids[row]), (index, x, y, int(tracks.group[row])))
                frame.tracks = tracks.select(~goes)
        self._removed = removed or self._removed
        self._show(jump=True)

    def _undo(self) -> None:
        """Start the tracks that were removed last again where they began, and follow them through the frames since."""
        if not self._removed:
            raise RefusedError("Nothing was removed that could be brought back.")
        self._check_room(len(self._removed))
        removed, self._removed = self._removed, {}
        for identifier, (index, x, y, group) in removed.items():
            self._start([identifier], np.array([[x, y]]), index, group)
        for late in self._late:
            late.due = time.monotonic()
        self._show(jump=True)

    def _reset(self) -> None:
        """Forget all frames and points, and begin the file anew; a camera goes on with its next image."""
        with self._saving:
            self._streams += 1
            self._stream.reset()
            self._late, self._frames, self._position, self._ended, self._removed = [], [], 0, False, {}
            self._sentence = ""
            self._left_out.count = 0
            self._times.clear()
            self._finished.clear()
            self._store.clear()
        if self._is_file:
            # Late points read the source with a report of their own.
            self._source.report = self._left_out
            self._images = iter(self._source)
            self._playing = False
        if self._track_next():
            self._show(jump=True)

    def _set(self, name: str, value: float) -> None:
        entry = OFFERED.get(name)
        if entry is None:
            raise RefusedError("The tracker has no live parameter of that name.")
        config = dataclasses.replace(self._config, **{name: typed_value(entry, value)})
        self._stream.reconfigure(config)
        self._config = config

    def _note(self, sentence: str) -> None:
        self._sentence = sentence

    # Saving, in a thread of the server's.

    def _save(self, what: str) -> dict[str, Any]:
        """Write what was tracked so far into the session's folder; return where."""
        if not self._saving.acquire(blocking=False):
            raise RefusedError("Something is being saved; wait until that is done.")
        try:
            frames = [(index, frame.tracks) for index, frame in enumerate(list(self._frames))]
            ids = np.unique(np.concatenate([tracks.ids for _, tracks in frames])) if frames else np.zeros(0, np.uint64)
            if not len(ids):
                raise RefusedError("There are no points yet, so there is nothing to save.")
            path = self._output_folder() / OUTPUTS[what]
            if what == "overlay":
                self._draw(path, frames)
            else:
                file = TracksFile.collect(ids, [tracks for _, tracks in frames])
                (file.save if what == "npz" else file.save_csv)(path)
        finally:
            self._saving.release()
        return {"text": f"Saved {_counted(len(ids), 'point')} in {_counted(len(frames), 'frame')}: {path}"}

    def _output_folder(self) -> Path:
        if self._folder is None:
            self._folder = free_folder("taptr_view")
        if not self._folder.exists():
            check_outputs([self._folder], self._inputs, overwrite=False)
            self._folder.mkdir()
        return self._folder

    def _draw(self, path: Path, frames: list[tuple[int, Tracks]]) -> None:
        overlay = TrackOverlay()
        try:
            with OverlayVideo(path, self._source.rate) as video:
                for index, tracks in frames:
                    if self._stopped:
                        raise RefusedError("The view ends, so the video is not written.")
                    video.write(overlay.draw(self._store.image(index), tracks))
                    self._drawing = f"The video is being written: {index + 1} of {len(frames)} frames."
        except RefusedError:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._drawing = ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _started(ids: list[int], points: NDArray[np.float64], group: int, like: Tracks) -> Tracks:
    """Return tracks in the frame in which they start, the same as that of other tracks."""
    arrays: dict[str, Any] = {
        entry.name: np.zeros((len(ids), *getattr(like, entry.name).shape[1:]), entry.dtype) for entry in COLUMNS
    }
    arrays["ids"][:] = ids
    arrays["xy"][:] = points
    arrays["group"][:] = group
    arrays["visibility"][:] = arrays["confidence"][:] = 1.0
    arrays["visible"][:] = True
    return dataclasses.replace(like, **arrays)


def _joined(tracks: Tracks, new: Tracks) -> Tracks:
    """Return the tracks in a frame with new ones, in place of those of the same ids."""
    kept = tracks.select(~np.isin(tracks.ids, new.ids))
    arrays: dict[str, Any] = {
        entry.name: np.concatenate([getattr(kept, entry.name), getattr(new, entry.name)]) for entry in COLUMNS
    }
    return dataclasses.replace(kept, **arrays)

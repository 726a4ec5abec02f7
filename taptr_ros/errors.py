"""The exceptions this package raises for input it cannot use.

Every message is one sentence that says what is wrong, where, and what to do. All of them derive from
`TaptrError`, so that a program at the edge (the command line, a ROS node) catches one type, reports the message
and goes on.
"""

from __future__ import annotations

from pathlib import Path


class TaptrError(Exception):
    """Base class of every error that bad input or a bad environment can cause."""


class InvalidPointsError(TaptrError, ValueError):
    """Query points that cannot be tracked: wrong shape, NaN, or outside the image."""


class InvalidRegionError(TaptrError, ValueError):
    """A region in which no points can be chosen: outside the image, too small, without texture, or not of its size."""


class DuplicateIdError(TaptrError, ValueError):
    """An id was given that a live track already has, or twice in one call."""


class UnknownIdError(TaptrError, KeyError):
    """An id was given that no live track has."""

    def __str__(self) -> str:
        # KeyError quotes its argument as if it were a key; this one is a sentence.
        return str(self.args[0]) if self.args else ""


class CapacityError(TaptrError):
    """More points were added than the tracker was configured to hold."""


class InvalidImageError(TaptrError, ValueError):
    """An image that is empty, not uint8, not [H,W,3], or of another size than the stream's."""


class InvalidCameraError(TaptrError, ValueError):
    """A CameraInfo that does not describe a calibrated camera, or not the one that made the images."""


class InvalidDepthError(TaptrError, ValueError):
    """A depth image that cannot be read, or that does not lie on the tracked image pixel by pixel."""


class InvalidMessageError(TaptrError, ValueError):
    """Bytes that are no message of the type that their topic has."""


class InvalidStampError(TaptrError, ValueError):
    """A stamp that repeats or goes back, or a query stamp that is not in the frame history."""


class ModelFileError(TaptrError):
    """A model file that is missing, corrupt, or whose config does not fit its weights."""

    @classmethod
    def missing(cls, path: Path, similar: str = "") -> ModelFileError:
        """Return the error for a path at which there is no file; `similar` is a model's name that may be meant."""
        advice = f"did you mean {similar}?" if similar else "pass the path of a .safetensors file."
        return cls(f"There is no model file {path}; {advice}")


class BackendUnavailableError(TaptrError):
    """A backend, device or execution provider was asked for that this machine lacks."""


class InvalidConfigError(TaptrError, ValueError):
    """A configuration value outside its range, or two that contradict each other."""


class DatasetError(TaptrError):
    """An evaluation file that cannot be read, or that holds more than plain arrays."""


class SourceError(TaptrError):
    """A video, image folder or bag that cannot be opened or decoded."""


def words_of(error: Exception) -> str:
    """Return what another library says is wrong as a part of a sentence, without its stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__

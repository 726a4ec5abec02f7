"""Reading pickles of plain arrays without trusting them."""

from __future__ import annotations

import pickle
import pickletools
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler of plain Python containers, numbers, strings and numpy arrays.

    A pickle is a program that may call anything it can name. Here it can name only what numpy arrays are rebuilt from,
    and gets stand-ins for that: numpy's own functions believe whatever a file says of an array's type and can be led
    to read any memory as objects. So no file can run code of its choosing.

    The numbers under which a pickle remembers its objects are checked first: Python takes memory for all numbers below.
    """

    def __init__(self, file: BinaryIO) -> None:
        _check_memo(file)
        super().__init__(file)

    def find_class(self, module: str, name: str, /) -> Any:
        """Return the stand-in for a global; raises `pickle.UnpicklingError` if it is no part of an array."""
        # numpy 2 renamed the package that pickles of numpy 1 refer to.
        module = module.replace("numpy._core.", "numpy.core.")
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of an array")
        return _STAND_INS[module, name]


def _check_memo(file: BinaryIO) -> None:
    """Raise `pickle.UnpicklingError` for numbers that do not count up, `ValueError` for what is no pickle."""
    start = file.tell()
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
            raise pickle.UnpicklingError(f"it numbers an object {argument}, after {count} steps")
    file.seek(start)


class _PickledType:
    """Stand-in for numpy.dtype: truth values, numbers and strings, without fields or metadata.

    After its construction a pickle gives it the byte order, and for other kinds of types more, which is ignored here.
    """

    def __init__(self, name: str, _align: bool = False, _copy: bool = False) -> None:
        if not re.fullmatch(r"b1|[iuf][1248]|[SU][0-9]+", name):
            raise pickle.UnpicklingError(f"it holds an array of type {name}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray(np.ndarray[Any, Any]):
    """An array whose shape and content a pickle gives after its construction."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, pickled_type, column_major, content = state
        # numpy itself checks that the content fits the shape.
        super().__setstate__((version, shape, _dtype(pickled_type), column_major, content))


def _new_array(_class: None, _shape: tuple[int, ...], _type_code: bytes) -> _PickledArray:
    """Stand in for numpy's `_reconstruct`, whose arguments are placeholders: the array's state comes after."""
    array: _PickledArray = _PickledArray(0)
    return array


def _array_from_buffer(content: bytes, pickled_type: _PickledType, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    """Stand in for numpy's `_frombuffer`, by which pickles of protocol 5 spell arrays."""
    return np.frombuffer(content, _dtype(pickled_type)).reshape(shape, order=order)


def _new_scalar(pickled_type: _PickledType, content: bytes) -> Any:
    """Stand in for numpy's `scalar`."""
    return np.frombuffer(content, _dtype(pickled_type))[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which pickles of protocol 2 and below spell bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def _dtype(pickled_type: Any) -> np.dtype[Any]:
    """Return the type that a stand-in stands for; anything else that a file puts in its place is refused."""
    if not isinstance(pickled_type, _PickledType):
        raise pickle.UnpicklingError(f"it holds an array of type {pickled_type!r}")
    return pickled_type.dtype


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _PickledType,
    ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy.core.multiarray", "scalar"): _new_scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("_codecs", "encode"): _encode_latin1,
}

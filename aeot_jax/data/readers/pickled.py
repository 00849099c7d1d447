"""Arrays, strings and plain containers from a pickle, without running it.

A pickle is a program. This interpreter knows only containers, numbers, strings and NumPy arrays,
and refuses anything else: it imports and calls nothing, and arrays are views of the file's bytes.
`pickletools` splits the program into its instructions.
"""

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

_RECONSTRUCT = {(f"numpy.{module}.multiarray", "_reconstruct") for module in ("core", "_core")}
_FROM_BUFFER = {(f"numpy.{module}.numeric", "_frombuffer") for module in ("core", "_core")}
_DTYPE, _NDARRAY = ("numpy", "dtype"), ("numpy", "ndarray")
_ENCODE = ("_codecs", "encode")
_ORDERED = ("collections", "OrderedDict")
_NO_BYTES = {("builtins", "bytes"), ("__builtin__", "bytes")}
_KNOWN = _RECONSTRUCT | _FROM_BUFFER | _NO_BYTES | {_DTYPE, _NDARRAY, _ENCODE, _ORDERED}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = ("PUT", "BINPUT", "LONG_BINPUT")
_GET = ("GET", "BINGET", "LONG_BINGET")
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_OLD_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A global name in the pickle; it is not imported."""

    name: tuple[str, str]


@dataclass(eq=False)
class _Made:
    """An array or a dtype whose state follows later."""

    kind: str
    value: Any = None


def read(data: bytes) -> Any:
    """Read a pickle of numbers, strings, bytes, lists, tuples, dicts and NumPy arrays.

    Strings of Python 2 are decoded with one character per byte.

    Args:
      data: the pickle.

    Raises:
      ValueError: with a reason, if it is damaged or holds anything else.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return _settled(machine.stack.pop())
        machine.do(opcode.name, argument)
    raise ValueError("it ends early")


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self):
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """Execute one instruction.

        Raises:
          ValueError: if plain data do not need it.
        """
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _NUMBERS or name in _TEXTS or name in _BYTES or name in _OLD_TEXTS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _PUT:
            self._memo[int(argument)] = stack[-1]
        elif name in _GET:
            stack.append(self._memo[int(argument)])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._to_mark()
            made = {"TUPLE": tuple, "LIST": list}.get(name)
            stack.append(made(items) if made else dict(_pairs(items)))
        elif name in ("APPEND", "SETITEM"):
            items = [stack.pop() for _ in range(1 if name == "APPEND" else 2)][::-1]
            self._fill(items)
        elif name in ("APPENDS", "SETITEMS"):
            self._fill(self._to_mark())
        elif name == "GLOBAL":
            stack.append(_named(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, attribute = stack[-2:]
            stack[-2:] = [_named(module, attribute)]
        elif name == "REDUCE":
            function, arguments = stack[-2:]
            stack[-2:] = [_reduced(function, arguments)]
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise ValueError(f"it is a pickle with the instruction {name}, which data do not need")

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(map(_settled, items))
        elif type(target) is dict:
            target.update(_pairs(items))
        else:
            raise ValueError("it fills what is neither a list nor a dict")


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return [(key, _settled(value)) for key, value in zip(items[::2], items[1::2], strict=True)]


def _settled(value: Any) -> Any:
    if isinstance(value, _Made):
        if value.value is None or value.kind != "array":
            raise ValueError("it holds half an array")
        return value.value
    if isinstance(value, _Name) or value is _MARK:
        raise ValueError("it holds a name where data should be")
    return value


def _named(module: Any, attribute: Any) -> _Name:
    name = module, attribute
    if name not in _KNOWN:
        raise ValueError(
            f"it is a pickle that asks for {module}.{attribute}"[:99] + ", which data do not need"
        )
    return _Name(name)


def _reduced(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or type(arguments) is not tuple:
        raise ValueError("it calls something that is not a function")
    name = function.name
    if name in _RECONSTRUCT:
        return _Made("array")
    if name == _DTYPE:
        return _Made("dtype", _dtype(arguments[0]))
    if name in _FROM_BUFFER:
        buffer, dtype, shape, order = arguments
        return _Made("array", _array(buffer, dtype, shape, order == "F"))
    if name == _ENCODE and arguments[1] == "latin1":
        return arguments[0].encode("latin1")
    if name == _ORDERED and not arguments:
        return {}
    if name in _NO_BYTES and not arguments:
        return b""
    raise ValueError(f"it calls {'.'.join(name)} in a way that data do not need")


def _dtype(text: Any) -> np.dtype:
    if type(text) is not str or len(text) > 9 or "O" in text:
        raise ValueError("it holds an array of a type that is none of numbers")
    found = np.dtype(text)
    if found.kind not in "biufSU":
        raise ValueError(f"it holds an array of the type {found}")
    return found


def _build(made: Any, state: Any) -> None:
    if not isinstance(made, _Made) or type(state) is not tuple:
        raise ValueError("it sets the state of something that is not an array")
    if made.kind == "dtype":
        if len(state) > 1 and state[1] in ("<", ">", "|", "="):
            made.value = made.value.newbyteorder(state[1])
        return
    _, shape, dtype, fortran_order, data = state
    made.value = _array(data, dtype, shape, bool(fortran_order))


def _array(data: Any, dtype: Any, shape: Any, fortran_order: bool) -> np.ndarray:
    if type(data) is str:  # a byte string of Python 2
        data = data.encode("latin1")
    good = (
        isinstance(data, bytes | bytearray)
        and isinstance(dtype, _Made)
        and dtype.kind == "dtype"
        and type(shape) is tuple
        and all(type(side) is int and side >= 0 for side in shape)
    )
    if not good or math.prod(shape) * dtype.value.itemsize != len(data):
        raise ValueError("it holds an array that is not as large as its shape says")
    flat = np.frombuffer(data, dtype.value)
    return flat.reshape(shape, order="F" if fortran_order else "C")

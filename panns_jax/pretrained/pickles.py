"""Pickles read as data: containers, numbers, texts and what a short list of known names builds. Nothing is executed.

Python's own `pickle.Unpickler` imports and calls whatever a file names. Refusing names in `find_class` stops that, but
not the rest: a few bytes can declare gigabytes, index the memo at 2**32 (the C reader then allocates it), grow objects
by hash collision or by nesting until the interpreter's stack overflows, and failures surface as a dozen different
exceptions. So this is a small machine of its own for the opcodes that pickle protocols 2 to 5 write, and where it is
asked to those of 0 and 1 (`pickles_of_lines`), with these bounds:

- A declared length is compared with the bytes that are there before anything is allocated.
- Every object is charged to a `Budget`, which bounds the memory, and the steps are counted, which bounds the time.
- Names are looked up in a table of inert builders; no module is imported, no attribute is read or set.
- Dictionary keys and set members are texts, bytes and numbers of 64 bits: hashing them is neither deep nor slow.
- Nothing here recurses.

What it cannot accept is a `Malformed`, and nothing else is raised.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

from panns_jax.pretrained.pickles_of_lines import LINES
from panns_jax.pretrained.vocabulary import (
    DICT_ENTRY,
    LIST_ENTRY,
    LONGEST_NAME,
    MEMO_ENTRY,
    NUMBER,
    OBJECT,
    STEP,
    TEXT,
    Budget,
    Known,
    Malformed,
    Unfinished,
    hashable,
    members,
    printable,
)

_LONGEST_INTEGER = 64  # bytes
_MOST_STEPS = 10_000_000


def read_pickle(
    data: memoryview,
    start: int,
    known: Mapping[str, Known],
    budget: Budget,
    *,
    persistent: Callable[[object], object] | None = None,
    lines: bool = False,
) -> tuple[object, int]:
    """Reads one pickle.

    Args:
      data: the bytes of the file.
      start: where in `data` the pickle begins.
      known: the names that the pickle may use, by "module.name".
      budget: the memory that it may ask for.
      persistent: maps what the pickle says of an object outside it to that object.
      lines: whether protocols 0 and 1 are read too.

    Returns:
      The value, made of None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset and what the builders
      return (containers may contain themselves), and the offset of the first byte behind the pickle.

    Raises:
      Malformed: see the module's description.
    """
    machine = _Machine(data, start, known, budget, persistent, {**LINES, **STEPS} if lines else STEPS)
    return machine.run(), machine.position


class _Machine:
    def __init__(
        self,
        data: memoryview,
        start: int,
        known: Mapping[str, Known],
        budget: Budget,
        persistent: Callable[[object], object] | None,
        steps: "Mapping[int, Callable[[_Machine], object]]",
    ):
        self.data = data
        self.position = start
        self.known = known
        self.charge = budget.charge
        self.budget = budget
        self.persistent = persistent
        self.steps = steps
        self.stack: list[object] = []
        self.marked: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(_MOST_STEPS):
            code = self.take(1)[0]
            self.charge(STEP)
            if code == _STOP:
                return self.pop()
            step = self.steps.get(code)
            if step is None:
                name = next((opcode.name for opcode in pickletools.opcodes if opcode.code == chr(code)), None)
                what = f"uses the pickle opcode {name}" if name else f"is damaged: there is no opcode 0x{code:02x}"
                raise Malformed(f"{what} (byte {self.position - 1}); pickles of protocol {self.oldest} to 5 are read")
            step(self)
        raise Malformed(f"has a pickle of more than {_MOST_STEPS} steps, which no checkpoint needs")

    @property
    def oldest(self) -> int:
        """Protocol that is read."""
        return 2 if self.steps is STEPS else 0

    # Bytes

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise Malformed(
                f"is cut short or damaged: its pickle wants {count} bytes at byte {self.position}, "
                f"{len(self.data) - self.position} are left"
            )
        view = self.data[self.position : end]
        self.position = end
        return view

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        window = bytes(self.data[self.position : self.position + LONGEST_NAME])
        end = window.find(b"\n")
        if end < 0:
            raise Malformed(f"is damaged: an unended name at byte {self.position}")
        self.position += end + 1
        return self.text(window[:end])

    def text(self, raw: bytes | memoryview) -> str:
        # CPython stores 1 byte per character up to U+00FF (lead bytes up to 0xC3), 4 with a single emoji.
        narrow = len(raw) > 64 and np.frombuffer(raw, np.uint8).max() < 0xC4
        self.charge(TEXT + len(raw) * (1 if narrow else 4))
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"is damaged: a text before byte {self.position} is no UTF-8") from error

    # Stack

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            self.damaged()
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            self.damaged()
        return self.stack[-1]

    def pop_many(self, count: int) -> list[object]:
        if len(self.stack) < count:
            self.damaged()
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_marked(self) -> list[object]:
        if not self.marked:
            self.damaged()
        values = self.stack
        self.stack = self.marked.pop()
        return values

    def damaged(self) -> NoReturn:
        raise Malformed(f"is damaged: its pickle makes no sense at byte {self.position - 1}")

    # Steps

    def check_header(self) -> None:
        version = self.number(1)
        if not self.oldest <= version <= 5:
            raise Malformed(f"is a pickle of protocol {version}; {self.oldest} to 5 are read")

    def check_frame(self) -> None:
        size = self.number(8)
        if size > len(self.data) - self.position:
            raise Malformed(f"is cut short or damaged: a part of {size} bytes is announced at byte {self.position}")

    def mark(self) -> None:
        self.charge(64)
        self.marked.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_marked()

    def duplicate(self) -> None:
        self.push(_finished(self.top()))

    def integer(self, length_size: int) -> None:
        size = self.number(length_size)
        if size > _LONGEST_INTEGER:
            raise Malformed(f"holds an integer of {size} bytes, which no checkpoint needs")
        self.charge(NUMBER + size)
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def short(self) -> None:
        self.charge(NUMBER)
        self.push(self.number(2))

    def signed(self) -> None:
        self.charge(NUMBER)
        self.push(int.from_bytes(self.take(4), "little", signed=True))

    def real(self) -> None:
        self.charge(NUMBER)
        self.push(struct.unpack(">d", self.take(8))[0])

    def characters(self, length_size: int) -> None:
        self.push(self.text(self.take(self.number(length_size))))

    def raw_bytes(self, length_size: int) -> None:
        view = self.take(self.number(length_size))
        self.charge(TEXT + len(view))
        self.push(bytes(view))

    def old_string(self, length_size: int) -> None:
        """Python 2's `str`: a text where it is ASCII, else bytes."""
        self.raw_bytes(length_size)
        raw = self.stack[-1]
        assert isinstance(raw, bytes)
        if raw.isascii():
            self.charge(len(raw))
            self.stack[-1] = raw.decode("ascii")

    def make_tuple(self, values: list[object]) -> None:
        self.charge(48 + 8 * len(values))
        self.push(tuple(values))

    def make_frozenset(self) -> None:
        values = self.pop_marked()
        self.push(frozenset(members(values, self.budget)))

    def empty(self, kind: type[list] | type[dict] | type[set]) -> None:
        self.charge(216)
        self.push(kind())

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, list):
            self.damaged()
        self.charge(LIST_ENTRY * len(values))
        target.extend(values)

    def update(self, values: list[object]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % 2:
            self.damaged()
        self.charge(DICT_ENTRY * len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[hashable(key)] = value

    def add_members(self) -> None:
        values = self.pop_marked()
        target = self.top()
        if not isinstance(target, set):
            self.damaged()
        target.update(members(values, self.budget))

    def put(self, key: int) -> None:
        self.charge(MEMO_ENTRY)
        value = self.top()
        self.memo[key] = value
        if isinstance(value, Unfinished):
            value.memo_keys.append(key)

    def get(self, key: int) -> None:
        if key not in self.memo:
            self.damaged()
        self.push(_finished(self.memo[key]))

    def name_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > LONGEST_NAME:
            self.damaged()
        known = self.known.get(f"{module}.{name}")
        if known is None:
            raise Malformed(
                f"refers to {printable(f'{module}.{name}')}, which a file of arrays has no reason to name; "
                "nothing of it was run"
            )
        self.push(known)

    def stack_global(self) -> None:
        self.name_global(*self.pop_many(2))

    def call(self) -> None:
        target, arguments = self.pop_many(2)
        if not isinstance(target, Known) or target.build is None or not isinstance(arguments, tuple):
            what = f"calls {target.name}" if isinstance(target, Known) else "calls what is no function"
            raise Malformed(f"{what}, which no checkpoint does")
        self.charge(OBJECT)
        self.push(target.build(arguments, self.budget))

    def finish(self) -> None:
        target, state = self.pop_many(2)
        if isinstance(target, Unfinished):
            finished = target.finish(state, self.budget)
            for key in target.memo_keys:
                if self.memo[key] is target:
                    self.memo[key] = finished
            self.push(finished)
        elif isinstance(target, dict) and isinstance(state, dict):
            # Attributes of an OrderedDict: a state dict's `_metadata`, version numbers without weights.
            self.push(target)
        else:
            self.damaged()

    def outside(self) -> None:
        if self.persistent is None:
            raise Malformed("refers to data outside its pickle, where there is none")
        self.charge(OBJECT)
        self.push(self.persistent(self.pop()))


def _finished(value: object) -> object:
    if isinstance(value, Unfinished):
        raise Malformed("is damaged: its pickle uses an array before it is filled")
    return value


_STOP = pickle.STOP[0]
STEPS: Mapping[int, Callable[[_Machine], object]] = {
    pickle.PROTO[0]: _Machine.check_header,
    pickle.FRAME[0]: _Machine.check_frame,
    pickle.MARK[0]: _Machine.mark,
    pickle.POP[0]: _Machine.drop,
    pickle.POP_MARK[0]: _Machine.pop_marked,
    pickle.DUP[0]: _Machine.duplicate,
    pickle.NONE[0]: lambda m: m.push(None),
    pickle.NEWTRUE[0]: lambda m: m.push(True),
    pickle.NEWFALSE[0]: lambda m: m.push(False),
    pickle.BININT[0]: _Machine.signed,
    pickle.BININT1[0]: lambda m: m.push(m.number(1)),
    pickle.BININT2[0]: _Machine.short,
    pickle.LONG1[0]: lambda m: m.integer(1),
    pickle.LONG4[0]: lambda m: m.integer(4),
    pickle.BINFLOAT[0]: _Machine.real,
    pickle.SHORT_BINUNICODE[0]: lambda m: m.characters(1),
    pickle.BINUNICODE[0]: lambda m: m.characters(4),
    pickle.BINUNICODE8[0]: lambda m: m.characters(8),
    pickle.SHORT_BINBYTES[0]: lambda m: m.raw_bytes(1),
    pickle.BINBYTES[0]: lambda m: m.raw_bytes(4),
    pickle.BINBYTES8[0]: lambda m: m.raw_bytes(8),
    pickle.BYTEARRAY8[0]: lambda m: m.raw_bytes(8),
    pickle.SHORT_BINSTRING[0]: lambda m: m.old_string(1),
    pickle.BINSTRING[0]: lambda m: m.old_string(4),
    pickle.EMPTY_TUPLE[0]: lambda m: m.push(()),
    pickle.TUPLE1[0]: lambda m: m.make_tuple(m.pop_many(1)),
    pickle.TUPLE2[0]: lambda m: m.make_tuple(m.pop_many(2)),
    pickle.TUPLE3[0]: lambda m: m.make_tuple(m.pop_many(3)),
    pickle.TUPLE[0]: lambda m: m.make_tuple(m.pop_marked()),
    pickle.EMPTY_LIST[0]: lambda m: m.empty(list),
    pickle.EMPTY_DICT[0]: lambda m: m.empty(dict),
    pickle.EMPTY_SET[0]: lambda m: m.empty(set),
    pickle.FROZENSET[0]: _Machine.make_frozenset,
    pickle.APPEND[0]: lambda m: m.extend(m.pop_many(1)),
    pickle.APPENDS[0]: lambda m: m.extend(m.pop_marked()),
    pickle.SETITEM[0]: lambda m: m.update(m.pop_many(2)),
    pickle.SETITEMS[0]: lambda m: m.update(m.pop_marked()),
    pickle.ADDITEMS[0]: _Machine.add_members,
    pickle.BINPUT[0]: lambda m: m.put(m.number(1)),
    pickle.LONG_BINPUT[0]: lambda m: m.put(m.number(4)),
    pickle.MEMOIZE[0]: lambda m: m.put(len(m.memo)),
    pickle.BINGET[0]: lambda m: m.get(m.number(1)),
    pickle.LONG_BINGET[0]: lambda m: m.get(m.number(4)),
    pickle.GLOBAL[0]: lambda m: m.name_global(m.line(), m.line()),
    pickle.STACK_GLOBAL[0]: _Machine.stack_global,
    pickle.REDUCE[0]: _Machine.call,
    pickle.BUILD[0]: _Machine.finish,
    pickle.BINPERSID[0]: _Machine.outside,
}

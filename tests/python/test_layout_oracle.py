"""The same as Python's `struct`, for generated formats, data and values.

`make oracle` runs 100,000 of each; RSECHO_ORACLE_EXAMPLES sets the number.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections import Counter
from typing import Any

import rsecho
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("RSECHO_ORACLE_EXAMPLES", "2000"))
oracle = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

MAX_RECORD = 1 << 20
MAX_FIELDS = 1 << 16
STRUCT_ERRORS = (struct.error, OverflowError, UnicodeEncodeError)

counts = st.one_of(
    st.just(""),
    st.integers(0, 12).map(str),
    st.integers(0, 300).map(str),
    st.sampled_from(["00", "007", "65535", "65537", "1048577", "9" * 19, "9" * 40]),
)
codes = st.sampled_from("xcbB?hHiIlLqQefdsp")
spaces = st.sampled_from(["", "", "", " ", "\t", "\n\r\x0b\x0c"])
items = st.tuples(counts, codes, spaces).map("".join)
# Short counts only: these make records of a sensible size.
small_counts = st.one_of(st.just(""), st.integers(0, 9).map(str), st.integers(0, 300).map(str))
small_items = st.tuples(small_counts, codes, spaces).map("".join)
prefixes = st.sampled_from("<>!=")
formats = st.builds(
    lambda p, s, i: p + s + "".join(i), prefixes, spaces, st.lists(small_items, max_size=8)
)
# 'F' and 'D' are complex numbers from Python 3.14 on, which are not supported here.
letters = st.characters(codec="utf-8").filter(lambda c: c not in "FD")
texts = st.one_of(
    formats,
    st.builds(lambda p, i: p + "".join(i), prefixes, st.lists(items, max_size=6)),
    st.builds(
        lambda p, i: p + "".join(i),
        st.sampled_from(["<", ">", "!", "=", "@", "", " <"]),
        st.lists(st.one_of(items, counts, letters, st.sampled_from("nNP<\0 é")), max_size=6),
    ),
)


def calcsize(text: str) -> int | None:
    try:
        return struct.calcsize(text)
    except STRUCT_ERRORS:
        return None


def compiles(text: str) -> bool:
    """Whether the format should compile: struct takes it, and no documented limit is passed."""
    size = calcsize(text)
    if size is None or text[:1] not in tuple("<>!="):
        return False
    return (
        0 <= size <= MAX_RECORD
        and 0 <= count_values(text) <= MAX_FIELDS
        and bool(size or count_values(text))
    )


def count_values(text: str) -> int:
    """How many values a correct format has."""
    values, digits = 0, ""
    for letter in text[1:]:
        if letter.isdigit():
            digits += letter
            continue
        if letter in "sp":
            values += 1
        elif letter != "x" and not letter.isspace():
            values += int(digits or "1")
        digits = ""
    return values


def bits(value: Any) -> Any:
    """Equal exactly if the values are: floats by their bits, and by type."""
    if isinstance(value, float):
        if math.isnan(value) and sys.version_info >= (3, 14):
            return "nan", math.copysign(1, value)
        return struct.pack("<d", value)
    return type(value), value


tally: Counter[str] = Counter()


def teardown_module() -> None:
    if tally:
        print("\noracle:", ", ".join(f"{name} {count:,}" for name, count in sorted(tally.items())))


@oracle
@given(text=texts)
def test_the_same_formats_compile(text: str) -> None:
    try:
        layout = rsecho.RecordLayout(text)
    except rsecho.FormatError:
        assert not compiles(text), text
        tally["formats refused by both"] += 1
    else:
        assert compiles(text), text
        assert layout.size == struct.calcsize(text)
        assert layout.field_count == count_values(text)
        tally["formats accepted by both"] += 1


@oracle
@given(data=st.data(), text=formats)
def test_the_same_bytes_decode_to_the_same_values(data: st.DataObject, text: str) -> None:
    if not compiles(text) or has_empty_pascal(text):
        return
    layout = rsecho.RecordLayout(text)
    short = data.draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, -1, 1]))
    records = data.draw(st.integers(1, 3)) if layout.size else 1
    size = max(0, layout.size * records + short)
    payload = data.draw(payloads(size))

    wanted = outcome(lambda: list(struct.iter_unpack(text, payload)))
    assert outcome(lambda: list(layout.iter_unpack(payload))) == wanted, text
    assert outcome(lambda: transposed(layout.unpack_many(payload))) == wanted, text
    one = outcome(lambda: [struct.unpack(text, payload)])
    assert outcome(lambda: [layout.unpack(payload)]) == one, text
    assert outcome(lambda: [layout.unpack(bytearray(payload))]) == one, text
    refused = wanted is None and one is None
    tally["inputs refused by both" if refused else "inputs decoded alike"] += 1


def payloads(size: int) -> st.SearchStrategy[bytes]:
    """Random bytes; for long ones from a seed, which is faster."""
    if size <= 64:
        return st.binary(min_size=size, max_size=size)
    return st.randoms(use_true_random=False).map(lambda random: random.randbytes(size))


def has_empty_pascal(text: str) -> bool:
    """Whether '0p' occurs, for which struct is no oracle: CPython 3.11 decodes it with a
    SystemError, and encodes it by writing 255 over the byte after it, be it the record's or not.
    """
    digits = ""
    for letter in text:
        if letter.isdigit():
            digits += letter
            continue
        if letter == "p" and digits and int(digits) == 0:
            return True
        digits = ""
    return False


def outcome(work: Any) -> Any:
    """What came out, comparable; None for an error about the data."""
    try:
        return [[bits(value) for value in record] for record in work()]
    except (rsecho.RecordError, *STRUCT_ERRORS):
        return None


def transposed(columns: rsecho.Columns) -> list[tuple[Any, ...]]:
    if not columns.names:
        return [()] * len(columns)
    return list(zip(*(column.tolist() for column in columns), strict=True))


edges = [0, 1, *(2**n + d for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (-1, 0, 1))]
integers = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(-200, 300),
    st.sampled_from([*edges, *(-edge for edge in edges)]),
)
halves = st.integers(0, 0xFFFF).map(lambda n: struct.unpack("<e", n.to_bytes(2, "little"))[0])
floats = st.one_of(
    st.floats(),
    st.floats(width=32),
    halves,
    # At and beside the middle between two halves, where rounding is decided.
    st.builds(
        lambda n, d: d((unpack_half(n) + unpack_half(n + 1)) / 2),
        st.integers(0, 0x7BFE),
        st.sampled_from(
            [lambda x: x, lambda x: math.nextafter(x, 0), lambda x: math.nextafter(x, 9e9)]
        ),
    ),
    integers,
)
strings = st.one_of(
    st.binary(max_size=12), st.binary(max_size=400), st.binary(max_size=6).map(bytearray)
)
anything: st.SearchStrategy[Any] = st.one_of(
    integers, floats, strings, st.booleans(), st.none(), st.text(max_size=3)
)


def unpack_half(n: int) -> float:
    value: float = struct.unpack("<e", n.to_bytes(2, "little"))[0]
    return value


def fitting(letter: str) -> st.SearchStrategy[Any]:
    if letter == "c":
        return st.binary(min_size=1, max_size=1)
    if letter in "sp":
        return strings
    if letter in "efd":
        return floats
    if letter == "?":
        return anything
    width = struct.calcsize("<" + letter) * 8
    if letter.isupper():
        return st.integers(0, 2**width - 1)
    return st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1)


pack_items = st.lists(
    st.tuples(st.one_of(st.just(""), st.integers(0, 5).map(str)), codes), min_size=1, max_size=6
)


@oracle
@given(data=st.data(), prefix=prefixes, items=pack_items)
def test_the_same_values_encode_to_the_same_bytes(
    data: st.DataObject, prefix: str, items: list[tuple[str, str]]
) -> None:
    text = prefix + "".join(count + letter for count, letter in items)
    if not compiles(text) or has_empty_pascal(text):
        return
    kinds = [
        letter
        for count, letter in items
        for _ in range(1 if letter in "sp" else 0 if letter == "x" else int(count or "1"))
    ]
    values = [data.draw(fitting(letter)) for letter in kinds]
    spoil = data.draw(st.integers(0, 9))
    if spoil == 0 and values:
        values[data.draw(st.integers(0, len(values) - 1))] = data.draw(anything)
    elif spoil == 1:
        values.append(0)

    layout = rsecho.RecordLayout(text)
    try:
        wanted = struct.pack(text, *values)
    except STRUCT_ERRORS:
        wanted = None
    try:
        packed = layout.pack(*values)
    except rsecho.RecordError:
        packed = None
    if sys.version_info >= (3, 14) and any(v != v for v in values if isinstance(v, float)):
        return  # From 3.14 on struct keeps the payload of a NaN in 'e'.
    assert packed == wanted, (text, values)
    tally["values refused by both" if wanted is None else "values encoded alike"] += 1

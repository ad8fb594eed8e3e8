"""The native half of the package, typed and documented. Import from `rsecho` instead."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex, TypeAlias, final, overload

from typing_extensions import Buffer

__all__ = [
    "Column",
    "ColumnIterator",
    "Columns",
    "RecordIterator",
    "RecordLayout",
    "__version__",
]

__version__: str

# `c`, `s`, `p` give bytes; `?` bool; `e`, `f`, `d` float; the other codes int. Any rather than
# a union, as in typeshed's struct: which one it is stands in the format, not in a type.
_Value: TypeAlias = Any

@final
class RecordLayout:
    """A compiled struct format: decodes and encodes records of a fixed size.

    >>> layout = RecordLayout("! H 2s", names="port tag")
    >>> layout.unpack(layout.pack(7, b"ok"))
    (7, b'ok')

    Formats are those of Python's `struct` in its standard modes; so are sizes, rounding, and
    which values are accepted. `<` little-endian, `>` or `!` big-endian, `=` this machine's
    order; then codes `xcbB?hHiIlLqQefdsp`, each with an optional count directly before it.
    Records have no alignment or padding but `x`. Native mode (`@` or no prefix) and `n`, `N`,
    `P` are refused: their sizes differ between machines. NaNs of `e` lose their payload, as in
    CPython before 3.14.

    Limits, so that a format may be taken from an untrusted hand: 1 MiB (1,048,576 bytes) a
    record, 65,536 values a record, 16,384 characters a format.

    Instances are immutable, hashable, picklable, and may be shared between threads. Two are
    equal if they describe the same record with the same names, however spelled.

    Source: https://docs.python.org/3/library/struct.html#format-strings
    """

    def __new__(cls, format: str | bytes, names: str | Iterable[str] | None = None) -> RecordLayout:
        """Compile `format`.

        `names`: one name per value, unique and not empty, as an iterable or as one string
        separated by spaces or commas. Default: `field_0`, `field_1`, …

        Raises `FormatError` if the format or the names cannot be used, TypeError if they are no
        text.
        """

    @property
    def format(self) -> str:
        """The format, as it was given."""

    @property
    def size(self) -> int:
        """Bytes of one record."""

    @property
    def field_count(self) -> int:
        """Values in one record. Padding is no value, a string is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""

    def unpack(self, data: Buffer, /) -> tuple[_Value, ...]:
        """Decode exactly one record.

        `data`: `size` bytes in any C-contiguous buffer. Raises `RecordError` if it is shorter or
        longer, TypeError if it is no buffer, BufferError if it has gaps.
        """

    def unpack_from(self, data: Buffer, offset: SupportsIndex = 0) -> tuple[_Value, ...]:
        """Decode the record that starts `offset` bytes into `data`; from the end if negative.

        Raises `RecordError` if the record does not lie within `data`.
        """

    def unpack_dict(self, data: Buffer, /) -> dict[str, _Value]:
        """Decode exactly one record into a dict by field name. Raises as `unpack`."""

    def iter_unpack(self, data: Buffer, /) -> RecordIterator:
        """Decode record after record, as tuples, when asked for the next.

        A buffer such as a bytearray cannot be resized until the iterator is gone. Raises
        `RecordError` if `data` is not a whole number of records, or `size` is 0.
        """

    def unpack_many(self, data: Buffer, /) -> Columns:
        """Decode all records of `data` into one column per field.

        Above 2 MiB of `data` several threads share the work; above 64 KiB of `bytes` the GIL is
        released. Other buffers could change meanwhile: they are copied block by block with the
        GIL held. Raises `RecordError` if `data` is not a whole number of records, or `size`
        is 0; MemoryError if there is no room for the columns, which take as much as `data`.
        """

    def pack(self, *values: _Value) -> bytes:
        """Encode one record: `size` bytes.

        One value per field: integers or objects with `__index__` for `bBhHiIlLqQ`; floats or
        objects with `__float__` or `__index__` for `efd`; anything for `?`, by its truth; bytes
        of length 1 for `c`; bytes or bytearray for `s` and `p`, cut or filled with zeros to
        their length. Raises `RecordError` if the number of values is wrong, or one is of the
        wrong type or out of range.
        """

    def pack_dict(self, fields: Mapping[str, _Value], /) -> bytes:
        """Encode one record from exactly its fields by name. Raises as `pack`."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(
        self,
    ) -> tuple[type[RecordLayout], tuple[str, tuple[str, ...] | None]]: ...

@final
class RecordIterator:
    """What `RecordLayout.iter_unpack` returns: one tuple per record."""

    def __iter__(self) -> RecordIterator: ...
    def __next__(self) -> tuple[_Value, ...]: ...
    def __length_hint__(self) -> int: ...

@final
class Columns:
    """Many records as one `Column` per field; from `RecordLayout.unpack_many`.

    `len()` is the number of records. Iteration gives the columns, in the fields' order.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, key: str | SupportsIndex, /) -> Column:
        """The column of a field, by name or by position.

        Raises KeyError for an unknown name, IndexError for a position that does not exist.
        """

    def __iter__(self) -> Iterator[Column]: ...

@final
class Column:
    """One field of many records: a read-only, contiguous array.

    Supports the buffer protocol, with one dimension and this machine's byte order, without a
    copy: `numpy.asarray(column)`, `memoryview(column)`. The items of `s` and `p` columns are
    whole slots, those of `p` with their length byte; a column of `0s` or `0p` has no buffer.
    A column keeps the memory of all columns it was decoded with.
    """

    @property
    def name(self) -> str:
        """The field's name."""

    @property
    def format(self) -> str:
        """The format of one item, as `memoryview.format`: `'I'`, `'2s'`."""

    @property
    def itemsize(self) -> int:
        """Bytes of one item."""

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""

    def tolist(self) -> list[_Value]:
        """All values, as `unpack` gives them."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> _Value: ...
    @overload
    def __getitem__(self, key: slice, /) -> list[_Value]: ...
    def __iter__(self) -> ColumnIterator: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class ColumnIterator:
    """Iterates over a column's values."""

    def __iter__(self) -> ColumnIterator: ...
    def __next__(self) -> _Value: ...
    def __length_hint__(self) -> int: ...

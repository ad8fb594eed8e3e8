"""Struct formats: compile once, decode many.

`RecordLayout` compiles a format of Python's `struct` module; `unpack_many` decodes a whole
buffer of records into `Columns`, one contiguous `Column` per field, which numpy and
`memoryview` read without a copy.
"""

from rsecho._errors import FormatError, RecordError
from rsecho._rsecho import Column, Columns, RecordLayout

__all__ = ["Column", "Columns", "FormatError", "RecordError", "RecordLayout"]

"""Both ends of an echo: servers that answer UDP and TCP, clients that ask."""

from rsecho._errors import RsechoError
from rsecho._rsecho import __version__
from rsecho.layout import Column, Columns, FormatError, RecordError, RecordLayout

__all__ = [
    "Column",
    "Columns",
    "FormatError",
    "RecordError",
    "RecordLayout",
    "RsechoError",
    "__version__",
]

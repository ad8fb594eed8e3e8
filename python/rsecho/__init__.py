"""Both ends of an echo: servers that answer UDP and TCP, clients that ask."""

from rsecho._rsecho import __version__

__all__ = ["__version__"]

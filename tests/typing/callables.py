"""Only type-checked, never run, by mypy and by pyright: the ways in which users type what they pass
as a callable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import rsecho
from rsecho import transfer

if TYPE_CHECKING:
    from collections.abc import Mapping


def of_bytes(data: bytes, peer: rsecho.Peer) -> bytes | None:
    return data or None


def of_a_pair(data: bytes, peer: tuple[str, int]) -> bytearray:
    return bytearray(data)


def of_views(data: bytes, _: object) -> memoryview:
    return memoryview(data)


def of_objects(fields: dict[str, object], peer: rsecho.Peer) -> bytes:
    return repr(fields).encode()


def of_anything(fields: dict[str, Any], peer: rsecho.Peer) -> None: ...


def of_a_mapping(fields: Mapping[str, object], peer: tuple[str, int]) -> bytes | None: ...


async def later_of_bytes(data: bytes, peer: rsecho.Peer) -> bytes | None: ...


async def later_of_objects(fields: dict[str, object], peer: rsecho.Peer) -> bytes:
    return repr(fields).encode()


class Answers:
    """An object that is called, and one of its methods."""

    def __call__(self, data: bytes, peer: rsecho.Peer) -> bytes:
        return data

    def of_fields(self, fields: dict[str, object], peer: rsecho.Peer) -> bytes:
        return b""


def configured(prefix: bytes, data: bytes, peer: rsecho.Peer) -> bytes:
    return prefix + data


rsecho.UdpServer(responder=of_bytes)
rsecho.UdpServer(responder=of_a_pair)
rsecho.UdpServer(responder=of_views)
rsecho.UdpServer(responder=later_of_bytes)
rsecho.UdpServer(responder=Answers())
rsecho.UdpServer(responder=partial(configured, b"> "))
rsecho.UdpServer(responder=lambda data, peer: None)
rsecho.TcpServer(responder=of_objects, responder_takes="fields", unpack="!I")
rsecho.TcpServer(responder=of_anything, responder_takes="fields", unpack="!I")
rsecho.TcpServer(responder=of_a_mapping, responder_takes="fields", unpack="!I")
rsecho.TcpServer(responder=later_of_objects, responder_takes="fields", unpack="!I")
rsecho.TcpServer(responder=Answers().of_fields, responder_takes="fields", unpack="!I")


def on_record(record: rsecho.Record) -> int:
    takes_fields(record.fields)
    return len(record.values)


def takes_fields(fields: dict[str, object]) -> None: ...


seen: list[rsecho.Record] = []
rsecho.UdpServer(unpack="!I", on_record=on_record)
rsecho.UdpServer(unpack="!I", on_record=seen.append)
rsecho.UdpServer(unpack="!I", on_record=print)


def progress(done: int, length: int | None) -> None: ...


transfer.send(b"", "localhost", 9, progress=progress)
transfer.send(b"", "localhost", 9, progress=lambda done, length: print(done, length))
transfer.receive(on_ready=print)


def wrong_count(data: bytes) -> bytes:
    return data


def wrong_result(data: bytes, peer: rsecho.Peer) -> str:
    return data.decode()


rsecho.UdpServer(responder=wrong_count)  # type: ignore[arg-type]
rsecho.UdpServer(responder=wrong_result)  # type: ignore[arg-type]
rsecho.UdpServer(on_record=wrong_result)  # type: ignore[arg-type]
rsecho.UdpServer(responder=5)  # type: ignore[arg-type]

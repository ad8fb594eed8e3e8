"""Only type-checked, never run: what the stub promises to users."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import rsecho

layout = rsecho.RecordLayout("! I 2s", names=("id", "tag"))
rsecho.RecordLayout(b"<I", names="id")
rsecho.RecordLayout("<I", names=None)
rsecho.RecordLayout(3)  # type: ignore[arg-type]

assert_type(layout.size, int)
assert_type(layout.names, tuple[str, ...])
assert_type(layout.unpack(b""), tuple[Any, ...])
assert_type(layout.unpack(bytearray()), tuple[Any, ...])
assert_type(layout.unpack_from(memoryview(b""), offset=2), tuple[Any, ...])
assert_type(layout.unpack_dict(b""), dict[str, Any])
assert_type(layout.pack(1, b"ab"), bytes)
assert_type(layout.pack_dict({"id": 1, "tag": b"ab"}), bytes)
layout.unpack("text")  # type: ignore[arg-type]
for record in layout.iter_unpack(b""):
    assert_type(record, tuple[Any, ...])

columns = layout.unpack_many(b"")
assert_type(columns["id"], rsecho.Column)
assert_type(columns[0], rsecho.Column)
assert_type(columns["id"][1:2], list[Any])
columns[1.0]  # type: ignore[index]
memoryview(columns["id"])
np.asarray(columns["id"])
for column in columns:
    assert_type(column, rsecho.Column)

error: ValueError = rsecho.RecordError("a reason")
base: rsecho.RsechoError = rsecho.FormatError("a reason")

"""One value from Redis ↔ one column's value: text, JSON, numbers, booleans, times, bytes. Pure.

What comes in is a slice of JSON text (`msgspec.Raw`), an object of a decoded MessagePack document, or a field's bytes. Nothing
is rounded, cut or guessed in silence: what does not fit raises `UnfitError` with the reason it is quarantined for.
"""

from __future__ import annotations

import base64
import json
import math
import pickletools
import re
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson

from segue.model import AgentColumn, ColumnType, Encoding, Reason
from segue.pipelines.values import all_finite

Raw = msgspec.Raw

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_BIGGEST = 2**63

_EARLIEST = 1e8
_SCALES = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (1e20, 0.001))
"""A number below the first is in seconds, in milliseconds, microseconds, nanoseconds; and what makes it microseconds."""


class UnfitError(ValueError):
    """A value that a column cannot take, or bytes that are not what they should be."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def column_value(  # noqa: PLR0911  # one return a type
    column: AgentColumn, found: object, encoding: Encoding
) -> str | bytes | float | bool | None:
    """Return what a column holds for a value that was found; JSON's null is NULL.

    Raises:
        UnfitError: It does not fit.
    """
    if column.type is ColumnType.JSONB:
        return _json(found, encoding)
    if column.type is ColumnType.BYTES:
        return _payload(found)
    plain = _plain(found)
    if plain is None:
        return None
    if column.type is ColumnType.TEXT:
        return text(plain, column.size)
    if column.type is ColumnType.FLOAT:
        return number(plain)
    if column.type is ColumnType.BIGINT:
        return _integer(plain)
    if column.type is ColumnType.BOOLEAN:
        return _boolean(plain)
    return microseconds(plain)


def text(value: object, size: int) -> str:
    """Return a scalar as text, and anything else as its JSON text; at most `size` characters, unless that is 0."""
    if type(value) is not str:
        value = ("true" if value else "false") if type(value) is bool else _scalar_or_json(value)
    if 0 < size < len(value):
        raise UnfitError(Reason.VALUE_TOO_LARGE, f"{len(value):,} characters, the column takes {size}")
    if "\0" in value:
        raise UnfitError(Reason.NUL_CHARACTER, "it holds the character U+0000, which PostgreSQL's text cannot")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnfitError(Reason.VALUE_TYPE, "half of a surrogate pair, which is no character") from None
    return value


def number(value: object) -> float:
    """Return a number, also of decimal text; NaN and infinities are numbers to a column of floats."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise UnfitError(Reason.VALUE_TOO_LARGE, "a number too large for a double") from None
    if type(value) is str and _NUMBER.fullmatch(value):
        found = float(value)
        if math.isinf(found) and "n" not in value.lower():
            raise UnfitError(Reason.VALUE_TOO_LARGE, f"{value[:40]} is too large for a double")
        return found
    raise UnfitError(Reason.VALUE_TYPE, f"{_kind(value)} is no number")


def microseconds(value: object) -> int:
    """Return a time: ISO 8601 (UTC where it says no zone), or a number of seconds, milliseconds, micro- or nanoseconds.

    Which of them a number is, its size tells: 1e8 to 1e11 are seconds (1973 to 5138), up to 1e14 milliseconds, up to 1e17
    microseconds, up to 1e20 nanoseconds. Smaller ones are steps or durations, not times.
    """
    if type(value) is str and not _NUMBER.fullmatch(value):
        return _iso(value)
    moment = value if type(value) is int else number(value)
    size = abs(moment) if type(moment) is int else math.fabs(moment)
    if not _EARLIEST <= size < _SCALES[-1][0]:
        detail = f"{str(value)[:40]} is no time: neither seconds since 1970 (from 1973 on), milli-, micro- nor nanoseconds"
        raise UnfitError(Reason.VALUE_TYPE, detail)
    scale = next(scale for limit, scale in _SCALES if size < limit)
    if type(moment) is int:
        return moment * int(scale) if scale >= 1 else moment // 1000
    return round(moment * scale)


def sound_json(slice_: bytes) -> bytes:
    """Return JSON text that was found to be well-formed, if PostgreSQL's JSONB can take it too."""
    if not slice_.isascii():
        try:
            slice_.decode()
        except UnicodeDecodeError:
            raise UnfitError(Reason.NOT_DECODABLE, "JSON text that is not UTF-8") from None
    if b"\\u0000" in slice_ and _NULL_ESCAPE.search(slice_):
        raise UnfitError(Reason.NUL_CHARACTER, r"it holds \u0000, which PostgreSQL's JSONB cannot")
    return slice_


def decoded_json(value: bytes) -> object:
    """Return a document's JSON text as `Raw`, or as objects where it holds NaN or Infinity, which strict JSON has not.

    Raises:
        UnfitError: It is no JSON; the reason says what it looks like instead.
    """
    try:
        return msgspec.json.decode(value, type=Raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as refusal:
        # Python's own module writes NaN and Infinity.
        if b"NaN" in value or b"Infinity" in value:
            with suppress(ValueError, RecursionError):
                return json.loads(value.decode())
        raise undecodable(value, f"no JSON: {_short(refusal)}") from refusal


def decoded_msgpack(value: bytes) -> object:
    """Return a MessagePack document's objects.

    Raises:
        UnfitError: It is none.
    """
    if looks_pickled(value):
        raise UnfitError(Reason.PICKLE, _PICKLED)
    try:
        return msgspec.msgpack.decode(value)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as refusal:
        raise undecodable(value, f"no MessagePack: {_short(refusal)}") from refusal


def decoded(value: bytes, encoding: Encoding) -> object:
    """Return a document, its members as slices of text or as objects.

    Raises:
        UnfitError: It is none.
    """
    return decoded_msgpack(value) if encoding is Encoding.MSGPACK else decoded_json(value)


def undecodable(value: bytes, detail: str) -> UnfitError:
    """Return why bytes cannot be read, with what they look like."""
    if looks_pickled(value) or _is_old_pickle(value):
        return UnfitError(Reason.PICKLE, _PICKLED)
    if value[:2] in _ZLIB or value[:2] == b"\x1f\x8b":
        return UnfitError(Reason.NOT_DECODABLE, f"{detail}; it looks compressed")
    return UnfitError(Reason.NOT_DECODABLE, detail)


def looks_pickled(value: bytes | bytearray) -> bool:
    """Say whether bytes are a pickle (protocol 2 and later), one compressed with zlib, or PyTorch's archive of one."""
    if value[:1] == b"\x80" and len(value) > 3 and 2 <= value[1] <= 5 and value[-1:] == b".":  # noqa: PLR2004  # protocols
        return True
    if value[:4] == b"PK\x03\x04" and b"data.pkl" in value[:256]:
        return True
    if value[:2] in _ZLIB:
        with suppress(zlib.error):
            head = zlib.decompressobj().decompress(value[:256], 2)
            return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5  # noqa: PLR2004  # protocols
    return False


def json_value(text_: bytes) -> object:
    """Return JSON text as Python's own values."""
    return json.loads(text_)


def moment(microseconds_: int) -> datetime:
    """Return a time."""
    return _EPOCH + timedelta(microseconds=microseconds_)


def since_epoch(moment_: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (moment_ - _EPOCH) // timedelta(microseconds=1)


def _json(found: object, encoding: Encoding) -> bytes | None:
    if type(found) is bytes:
        return _field_json(found, encoding)
    if type(found) is Raw:
        slice_ = bytes(found)
        return None if slice_ == b"null" else sound_json(slice_)
    return None if found is None else json_text(found)


def _field_json(field: bytes, encoding: Encoding) -> bytes | None:
    if encoding is Encoding.JSON:
        return _json(decoded_json(field), encoding)
    if encoding is Encoding.MSGPACK:
        return _json(decoded_msgpack(field), encoding)
    plain = _plain(field)
    if encoding is Encoding.NUMBER:
        return json_text(number(plain))
    return json_text(plain)


def json_text(value: object) -> bytes:
    """Return Python's values as JSON text that JSONB takes; bytes become base64.

    Raises:
        UnfitError: A number is not finite, or something has no JSON form.
    """
    try:
        packed = orjson.dumps(value, default=_default, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as refusal:
        # Whole numbers beyond 64 bits are JSON, too.
        packed = _slow_json(value, refusal)
    # orjson writes NaN and infinities as null.
    if b"null" in packed and not all_finite(value):
        raise UnfitError(Reason.VALUE_NOT_FINITE, "a number in it is not finite, which PostgreSQL's JSONB cannot hold")
    return sound_json(packed)


def _slow_json(value: object, refusal: Exception) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_default).encode()
    except (TypeError, ValueError, RecursionError):
        raise UnfitError(Reason.VALUE_TYPE, f"it has no JSON form: {_short(refusal)}") from refusal


def _default(value: object) -> object:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Raw):
        return msgspec.json.decode(value)
    message = f"a {type(value).__name__}"
    raise TypeError(message)


def _payload(found: object) -> bytes | None:
    if found is None:
        return None
    if not isinstance(found, (bytes, bytearray)):
        raise UnfitError(Reason.VALUE_TYPE, f"{_kind(found)} is no raw bytes")
    if looks_pickled(found):
        raise UnfitError(Reason.PICKLE, _PICKLED)
    return bytes(found)


def _plain(found: object) -> Any:
    if type(found) is Raw:
        return msgspec.json.decode(found)
    if type(found) is bytes:
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise undecodable(found, "bytes that are not UTF-8 text") from None
    return found


def _scalar_or_json(value: object) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return repr(value)
    return json_text(value).decode()


def _integer(value: object) -> int:
    whole = value
    if type(value) is not int:
        found = number(value)
        if not found.is_integer():
            raise UnfitError(Reason.VALUE_TYPE, f"{str(value)[:40]} is no whole number")
        whole = int(str(value)) if type(value) is str and value.lstrip("+-").isdigit() else int(found)
    if not -_BIGGEST <= whole < _BIGGEST:  # type: ignore[operator]
        raise UnfitError(Reason.VALUE_TOO_LARGE, "a whole number beyond 64 bits")
    return whole  # type: ignore[return-value]


def _boolean(value: object) -> bool:
    if type(value) is bool:
        return value
    found = _BOOLEANS.get(str(value).lower())
    if found is None:
        raise UnfitError(Reason.VALUE_TYPE, f"{_kind(value)} is neither true nor false")
    return found


_BOOLEANS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def _iso(value: str) -> int:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise UnfitError(Reason.VALUE_TYPE, f"{value[:40]!r} is no time in ISO 8601") from None
    return since_epoch(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def _is_old_pickle(value: bytes) -> bool:
    """Say whether bytes take the form of a pickle of protocol 0 or 1; its operations are listed, never run."""
    if value[-1:] != b"." or len(value) > _LOOKED_AT:
        return False
    try:
        return sum(1 for _ in pickletools.genops(value)) > 1
    except Exception:  # noqa: BLE001  # whatever it stumbles over, it is none
        return False


_LOOKED_AT = 1 << 20
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_PICKLED = "a pickle, which is never loaded: it may run any code"


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    names = {bool: "a boolean", int: "a whole number", float: "a number", dict: "an object", list: "an array"}
    return names.get(type(value), f"a {type(value).__name__}")


def _short(fault: BaseException) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0][:120]

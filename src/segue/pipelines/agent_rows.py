"""One element → the values of its row, or exactly what of it does not fit. Pure.

The careful way, for elements of every kind; `agent_quick` is the short one for what they usually are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segue.model import AgentMapping, ColumnSource, Encoding, Origin, Reason, RedisType
from segue.pipelines.agent_elements import Element
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_quick import Columns, Values
from segue.pipelines.agent_values import UnfitError, column_value, decoded, looks_pickled, number
from segue.pipelines.json_paths import at


class CarefulRows:
    """The rows of one mapping. Stateless; usable from several threads.

    Args:
        mapping: What becomes what.
        columns: The table's, each with where it comes from.
        member: What the mapping's members look like, None where they are not taken apart.
    """

    def __init__(self, mapping: AgentMapping, columns: Columns, member: KeyPattern | None) -> None:
        self._mapping = mapping
        self._columns = columns
        self._member = member

    def values(  # noqa: PLR0911  # one return a type
        self, parts: Mapping[str, str], element: Any
    ) -> Values | UnfitError:
        """Return a row's values, or what does not fit.

        Args:
            parts: Of the key's name.
            element: As `Told.elements` has it.
        """
        type_ = self._mapping.type
        if self._mapping.each:
            names, end = element
            return end if isinstance(end, UnfitError) else self._row({**parts, **names}, end)
        if type_ is RedisType.SET:
            return self._member_row(parts, element, Element(element))
        if type_ is RedisType.ZSET:
            return self._member_row(parts, element[0], Element(element[0], score=element[1]))
        if type_ is RedisType.STREAM:
            return self._fields_row(parts, element[1], element[0].decode())
        if type_ is RedisType.HASH:
            if self._mapping.is_per_field:
                return self._member_row(parts, element[0], Element(element[1]))
            return self._fields_row(parts, element, "")
        return self._row(parts, Element(element))

    def _member_row(self, parts: Mapping[str, str], member: bytes, element: Element) -> Values | UnfitError:
        if self._member is not None:
            try:
                more = self._member.match(member.decode())
            except UnicodeDecodeError:
                return UnfitError(Reason.KEY_TYPE, "the member is not UTF-8 text")
            if more is None:
                return UnfitError(Reason.KEY_TYPE, f"the member does not fit {self._mapping.member!r}")
            parts = {**parts, **more}
        return self._row(parts, element)

    def _fields_row(self, parts: Mapping[str, str], flat: Sequence[bytes], stream_id: str) -> Values | UnfitError:
        document, fields = self._mapping.document, dict(zip(flat[::2], flat[1::2], strict=True))
        if document is None:
            return self._row(parts, Element(fields=fields, stream_id=stream_id))
        value = fields.get(document.encode())
        if value is None:
            return UnfitError(Reason.VALUE_MISSING, f"no field {document!r}")
        return self._row(parts, Element(value, fields=fields, stream_id=stream_id))

    def _row(self, parts: Mapping[str, str], element: Element) -> Values | UnfitError:
        values: list[str | bytes | float | bool | None] = []
        document = element.node
        try:
            for column, source in self._columns:
                if source is None:
                    values.append(None)
                    continue
                if document is None and (source.origin is Origin.JSON or self._is_whole(source)):
                    document = decoded(element.value, self._mapping.encoding)
                found = self._found(source, parts, element, document)
                try:
                    value = None if found is None else column_value(column, found, self._mapping.encoding)
                except UnfitError as refusal:
                    return UnfitError(refusal.reason, f"{column.name}: {refusal.detail}")
                if value is None and not source.optional:
                    return UnfitError(Reason.VALUE_MISSING, f"{column.name}: there is no {source}")
                values.append(value)
        except UnfitError as refusal:
            return refusal
        return tuple(values)

    def _found(  # noqa: PLR0911  # one return an origin
        self, source: ColumnSource, parts: Mapping[str, str], element: Element, document: object
    ) -> object:
        origin = source.origin
        if origin is Origin.PART:
            return parts[source.argument]
        if origin is Origin.JSON:
            return at(document, source.argument)
        if origin is Origin.FIELD:
            return (element.fields or {}).get(source.argument.encode())
        if origin is Origin.VALUE:
            return self._whole_value(element, document)
        if origin is Origin.SCORE:
            return number(element.score.decode())
        if origin is Origin.CONST:
            return source.argument
        return element.stream_id if origin is Origin.STREAM_ID else int(element.stream_id.partition("-")[0])

    def _whole_value(self, element: Element, document: object) -> object:
        if element.fields is not None and self._mapping.document is None:
            return {
                name.decode("utf-8", "backslashreplace"): _decoded_text(one) for name, one in sorted(element.fields.items())
            }
        if document is not None:
            return document
        if looks_pickled(element.value):
            raise UnfitError(Reason.PICKLE, "a pickle, which is never loaded: it may run any code")
        return element.value

    def _is_whole(self, source: ColumnSource) -> bool:
        mapping = self._mapping
        decodes = mapping.encoding in {Encoding.JSON, Encoding.MSGPACK}
        return source.origin is Origin.VALUE and decodes and (not mapping.has_fields or mapping.document is not None)


def _decoded_text(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value

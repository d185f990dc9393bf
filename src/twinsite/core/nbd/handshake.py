"""The server's side of the fixed newstyle handshake: received bytes in, replies and an outcome out.

The theory: after the greeting and the client's flags, the client sends options until one of them (EXPORT_NAME, GO,
ABORT) ends the handshake. An option that is refused leaves everything as it was, but for SET_META_CONTEXT, which
always clears what was selected before. Whatever cannot be answered within the protocol raises `PeerViolation`.

Source: doc/proto.md of the NBD project, "Fixed newstyle negotiation" and "Option types".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twinsite.core import limits
from twinsite.core.nbd import constants
from twinsite.core.nbd.constants import HandshakeFlag, Info, Option, OptionReply
from twinsite.core.nbd.export import ExportInfo, transmission_flags
from twinsite.core.nbd.receive_buffer import ReceiveBuffer
from twinsite.errors import PeerViolation

_GREETING = struct.Struct("!QQH")
_CLIENT_FLAGS = struct.Struct("!I")
_OPTION = struct.Struct("!QII")
_OPTION_REPLY = struct.Struct("!QIII")
_EXPORT_NAME_ANSWER = struct.Struct("!QH")
_INFO_EXPORT = struct.Struct("!HQH")
_INFO_BLOCK_SIZE = struct.Struct("!HIII")
_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")

_SERVER_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The handshake led to an export: what was agreed for the transmission phase."""

    export: ExportInfo
    structured_replies: bool
    block_status: bool  # `base:allocation` was selected for this export.


@dataclass(frozen=True, slots=True)
class Aborted:
    """The client ended the handshake politely."""


class _Refusal(Exception):
    """An option is refused and the handshake goes on."""

    def __init__(self, reply: OptionReply, text: str) -> None:
        super().__init__(text)
        self.reply = reply


class _OptionData:
    """Reads the fields of one option; a field that does not fit refuses the option."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take_u16(self) -> int:
        return int(_U16.unpack(self._take(2))[0])

    def take_u32(self) -> int:
        return int(_U32.unpack(self._take(4))[0])

    def take_string(self) -> str:
        length = self.take_u32()
        if length > constants.STRING_BYTES_MAX:
            raise _Refusal(OptionReply.ERR_TOO_BIG, f"a string is longer than {constants.STRING_BYTES_MAX} bytes")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise _Refusal(OptionReply.ERR_INVALID, "a string is not UTF-8") from None

    def finish(self) -> None:
        if self._position != len(self._data):
            raise _Refusal(OptionReply.ERR_INVALID, "the option has more data than it says")

    def _take(self, count: int) -> bytes:
        field = self._data[self._position : self._position + count]
        if len(field) != count:
            raise _Refusal(OptionReply.ERR_INVALID, "the option has less data than it says")
        self._position += count
        return field


class Handshake:
    """One handshake. Feed it with `advance` until `outcome` is set; send what `take_output` gives after every step."""

    def __init__(self, exports: Callable[[], Mapping[str, ExportInfo]]) -> None:
        """Prepare the greeting. `exports` gives the exports of the moment, by name."""
        self.outcome: Negotiated | Aborted | None = None
        self._exports = exports
        self._output = bytearray(_GREETING.pack(constants.GREETING_MAGIC, constants.OPTION_MAGIC, _SERVER_FLAGS))
        self._client_flags: HandshakeFlag | None = None
        self._options_seen = 0
        self._skip_bytes = 0
        self._structured_replies = False
        self._context_export: str | None = None
        self._handlers: dict[int, Callable[[bytes], None]] = {
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.INFO: self._info,
            Option.GO: self._go,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._list_meta_context,
            Option.SET_META_CONTEXT: self._set_meta_context,
        }

    def take_output(self) -> bytes:
        """Return what is to be sent now. Also after a violation: it answers what came before."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def advance(self, buffer: ReceiveBuffer) -> None:
        """Handle every complete message in `buffer`, up to the one that ends the handshake.

        Bytes after that one stay in the buffer: they belong to the transmission phase. Raises `PeerViolation`; the
        connection must end then.
        """
        while self.outcome is None:
            if self._skip_bytes > 0:
                count = min(self._skip_bytes, buffer.end - buffer.start)
                buffer.start += count
                self._skip_bytes -= count
                if self._skip_bytes > 0:
                    return
            step = self._read_client_flags if self._client_flags is None else self._read_option
            if not step(buffer):
                return

    def _read_client_flags(self, buffer: ReceiveBuffer) -> bool:
        if buffer.end - buffer.start < _CLIENT_FLAGS.size:
            return False
        (flags,) = _CLIENT_FLAGS.unpack_from(buffer.view, buffer.start)
        if flags & ~int(_SERVER_FLAGS):  # The complement of a flag set would lack the unknown bits.
            raise PeerViolation(f"client flags {flags:#x} have bits that were not offered")
        buffer.start += _CLIENT_FLAGS.size
        self._client_flags = HandshakeFlag(flags)
        return True

    def _read_option(self, buffer: ReceiveBuffer) -> bool:
        available = buffer.end - buffer.start
        if available < _OPTION.size:
            return False
        magic, option, length = _OPTION.unpack_from(buffer.view, buffer.start)
        if magic != constants.OPTION_MAGIC:
            raise PeerViolation(f"an option starts with {magic:#x}")
        is_plain = option == Option.EXPORT_NAME
        if not is_plain and HandshakeFlag.FIXED_NEWSTYLE not in HandshakeFlag(self._client_flags or 0):
            raise PeerViolation(f"option {option} without fixed newstyle")
        if length > (constants.STRING_BYTES_MAX if is_plain else limits.NBD_OPTION_BYTES_MAX):
            if is_plain:
                raise PeerViolation(f"an export name of {length} bytes")
            self._count_option()
            buffer.start += _OPTION.size
            self._skip_bytes = length
            self._reply(option, OptionReply.ERR_TOO_BIG, b"the option has too much data")
            return True
        if available < _OPTION.size + length:
            return False
        self._count_option()
        buffer.start += _OPTION.size
        data = bytes(buffer.view[buffer.start : buffer.start + length])
        buffer.start += length
        self._handle_option(option, data)
        return True

    def _count_option(self) -> None:
        self._options_seen += 1
        if self._options_seen > limits.NBD_OPTIONS_MAX:
            raise PeerViolation(f"more than {limits.NBD_OPTIONS_MAX} options")

    def _handle_option(self, option: int, data: bytes) -> None:
        if option == Option.EXPORT_NAME:
            self._export_name(data)
            return
        handler = self._handlers.get(option)
        try:
            if handler is None:
                raise _Refusal(OptionReply.ERR_UNSUP, "the option is not supported")
            handler(data)
        except _Refusal as refusal:
            self._reply(option, refusal.reply, str(refusal).encode())

    def _reply(self, option: int, reply: OptionReply, data: bytes = b"") -> None:
        self._output += _OPTION_REPLY.pack(constants.OPTION_REPLY_MAGIC, option, reply, len(data))
        self._output += data

    def _find(self, name: str) -> ExportInfo | None:
        exports = self._exports()
        if name == "" and len(exports) == 1:
            return next(iter(exports.values()))
        return exports.get(name)

    def _find_or_refuse(self, name: str) -> ExportInfo:
        export = self._find(name)
        if export is None:
            raise _Refusal(OptionReply.ERR_UNKNOWN, "there is no export of this name")
        return export

    def _negotiated(self, export: ExportInfo) -> Negotiated:
        block_status = self._structured_replies and self._context_export == export.name
        return Negotiated(export, self._structured_replies, block_status)

    def _export_name(self, data: bytes) -> None:
        """Answer the one option that has no error reply: an unknown name ends the connection."""
        export = self._find(data.decode(errors="replace"))
        if export is None:
            raise PeerViolation(f"the client wants export {data[:64]!r}, which is not there")
        flags = transmission_flags(export, structured_replies=self._structured_replies)
        self._output += _EXPORT_NAME_ANSWER.pack(export.size_bytes, flags)
        if HandshakeFlag.NO_ZEROES not in HandshakeFlag(self._client_flags or 0):
            self._output += bytes(constants.EXPORT_NAME_PADDING_BYTES)
        self.outcome = self._negotiated(export)

    def _abort(self, data: bytes) -> None:
        """End the handshake; data that should not be there changes nothing any more."""
        del data
        self._reply(Option.ABORT, OptionReply.ACK)
        self.outcome = Aborted()

    def _list(self, data: bytes) -> None:
        _OptionData(data).finish()
        for export in self._exports().values():
            name = export.name.encode()
            self._reply(Option.LIST, OptionReply.SERVER, _U32.pack(len(name)) + name + export.description.encode())
        self._reply(Option.LIST, OptionReply.ACK)

    def _info(self, data: bytes) -> None:
        self._describe(Option.INFO, data)

    def _go(self, data: bytes) -> None:
        self.outcome = self._negotiated(self._describe(Option.GO, data))

    def _describe(self, option: Option, data: bytes) -> ExportInfo:
        fields = _OptionData(data)
        name = fields.take_string()
        wanted = [fields.take_u16() for _ in range(fields.take_u16())]
        fields.finish()
        export = self._find_or_refuse(name)
        flags = transmission_flags(export, structured_replies=self._structured_replies)
        self._reply(option, OptionReply.INFO, _INFO_EXPORT.pack(Info.EXPORT, export.size_bytes, flags))
        if Info.NAME in wanted:
            self._reply(option, OptionReply.INFO, _U16.pack(Info.NAME) + export.name.encode())
        if Info.DESCRIPTION in wanted:
            self._reply(option, OptionReply.INFO, _U16.pack(Info.DESCRIPTION) + export.description.encode())
        if Info.BLOCK_SIZE in wanted:
            sizes = _INFO_BLOCK_SIZE.pack(
                Info.BLOCK_SIZE,
                limits.NBD_BLOCK_BYTES_MIN,
                limits.NBD_BLOCK_BYTES_PREFERRED,
                limits.NBD_REQUEST_BYTES_MAX,
            )
            self._reply(option, OptionReply.INFO, sizes)
        self._reply(option, OptionReply.ACK)
        return export

    def _structured_reply(self, data: bytes) -> None:
        _OptionData(data).finish()
        self._structured_replies = True
        self._reply(Option.STRUCTURED_REPLY, OptionReply.ACK)

    def _list_meta_context(self, data: bytes) -> None:
        _, queries = self._parse_queries(data)
        wanted = {constants.CONTEXT_BASE, constants.CONTEXT_ALLOCATION}
        if not queries or wanted.intersection(queries):
            self._reply_context(Option.LIST_META_CONTEXT, 0)
        self._reply(Option.LIST_META_CONTEXT, OptionReply.ACK)

    def _set_meta_context(self, data: bytes) -> None:
        self._context_export = None
        export, queries = self._parse_queries(data)
        if constants.CONTEXT_ALLOCATION in queries:
            self._context_export = export.name
            self._reply_context(Option.SET_META_CONTEXT, constants.CONTEXT_ALLOCATION_ID)
        self._reply(Option.SET_META_CONTEXT, OptionReply.ACK)

    def _reply_context(self, option: Option, context_id: int) -> None:
        self._reply(option, OptionReply.META_CONTEXT, _U32.pack(context_id) + constants.CONTEXT_ALLOCATION.encode())

    def _parse_queries(self, data: bytes) -> tuple[ExportInfo, list[str]]:
        if not self._structured_replies:
            raise _Refusal(OptionReply.ERR_INVALID, "structured replies must be negotiated first")
        fields = _OptionData(data)
        name = fields.take_string()
        count = fields.take_u32()
        if count > limits.NBD_META_CONTEXTS_MAX:
            raise _Refusal(OptionReply.ERR_TOO_BIG, f"more than {limits.NBD_META_CONTEXTS_MAX} queries")
        queries = [fields.take_string() for _ in range(count)]
        fields.finish()
        return self._find_or_refuse(name), queries

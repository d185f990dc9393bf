"""Every bound of the data path: a name, a unit, one home. Relations between bounds are checked at import."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SECTOR_BYTES = 512
"""Unit of a volume's size."""

BLOCK_BYTES = 64 * KIB
"""Unit of dirty tracking and of resync."""

EXTENT_BYTES = 4 * MIB
"""Unit of write intents: what a crash leaves in doubt is compared in whole extents."""

VOLUME_BYTES_MAX = 64 * 1024 * GIB
"""Largest volume: 64 TiB, 2^30 blocks, a dirty map of 128 MiB."""

GROUP_MEMBERS_MAX = 256
"""Most volumes of one group, so that the member index fits the frame header with room."""

# NBD server
NBD_BLOCK_BYTES_MIN = 1
"""Smallest unit that a client is told it may address: stores take any alignment."""
NBD_BLOCK_BYTES_PREFERRED = 4 * KIB
"""Unit that a client is advised to use."""
NBD_REQUEST_BYTES_MAX = 32 * MIB
"""Largest read or write, as advertised in the block-size information."""
NBD_RECEIVE_BUFFER_BYTES = 512 * KIB
"""Receive buffer of one connection; also the largest write that is handled as one piece."""
NBD_PIECE_BYTES_MIN = 128 * KIB
"""A write that has not fully arrived is handled in pieces of at least this."""
NBD_PIECE_ALIGN_BYTES = 4 * KIB
"""Such pieces end on multiples of this, so that no sector or page is torn by a process that ends between two."""
NBD_OPTION_BYTES_MAX = 64 * KIB
"""Largest option data during the handshake."""
NBD_OPTIONS_MAX = 256
"""Most options in one handshake; one more ends the connection."""
NBD_HANDSHAKE_SECONDS = 30.0
"""A handshake that takes longer ends the connection."""
NBD_KEEPALIVE_SECONDS = 60
"""A TCP client silent for longer is probed; after as long again without an answer its connection ends."""
NBD_META_CONTEXTS_MAX = 16
"""Most queries in one meta-context option."""
NBD_CONNECTIONS_MAX = 256
"""Most host connections of one volume."""
NBD_REPLY_BACKLOG_BYTES = 8 * MIB
"""Replies waiting for a slow reader; past this the server stops reading that connection's requests."""
NBD_CONNECTION_REQUESTS_MAX = 1024
"""Requests of one connection in progress; past this the server stops reading from it."""
NBD_EXTENTS_MAX = 4096
"""Most extents in one block-status reply."""
DEVICE_INLINE_BYTES_MAX = 4 * MIB
"""Longest read or zeroing that a device does on the event loop; a longer one goes to a thread."""

# Stream
FRAME_PAYLOAD_BYTES_MAX = 1 * MIB
"""Largest payload of one stream frame; longer writes travel as several frames."""
ZERO_FRAME_BYTES_MAX = 1 * GIB
"""Longest range of one zero frame."""
STREAM_RECEIVE_BUFFER_BYTES = 4 * MIB
"""Receive buffer of a secondary."""
STREAM_IN_FLIGHT_BYTES_MAX = 64 * MIB
"""Sent to the secondary and not acknowledged; past this the primary stops reading from hosts."""
STREAM_IN_FLIGHT_FRAMES_MAX = 16384
"""The same bound in frames, for small ones."""
STREAM_CONTROL_BYTES_MAX = 256 * KIB
"""Largest JSON body of a hello."""
RESYNC_IN_FLIGHT_BYTES_MAX = 8 * MIB
"""Resync data read or sent and not acknowledged; guest writes get the rest of the window."""
ZERO_BYTES_A_BYTE = 16
"""So many bytes of zeros count for one of data in what a resync may have in flight."""
PACKED_BYTES_A_BYTE = 4
"""So many bytes of what is packed count for one of data, however few travel: the secondary has to write them all."""
UNPACKED_BYTES_MAX = 64 * MIB
"""Most that the packed frames of one receive may stand for; more ends the session."""
RESYNC_READ_BYTES_MAX = 1 * MIB
"""Most data of one resync read whose content travels, and of one comparison."""
RESYNC_READ_ZEROS_BYTES_MAX = 16 * MIB
"""About the most that one resync read goes through as long as it finds nothing but zeros."""
COMPARE_READ_BYTES_MAX = 8 * MIB
"""Most data that one read digests, and that one comparison names."""
RESYNC_READS_MAX = 4
"""Resync reads of a group that are out at once."""
COMPARES_MAX = 16
"""Comparisons of a group that the secondary has not answered, past which no more is read to be compared."""
COMPARES_OF_READ_MAX = 64
"""Most comparisons that are made of one read; the rest of it is read again."""
FETCH_BYTES_MAX = 4 * BLOCK_BYTES
"""Most that one FETCH asks for."""
FETCHES_MAX = 8
"""Ranges that a primary has asked its secondary for and has not got."""
QUESTIONS_MAX = COMPARES_MAX + RESYNC_READS_MAX * COMPARES_OF_READ_MAX + FETCHES_MAX
"""Questions that a secondary lets be open at once; one more ends the session."""
LINEAGES_MAX = 16
"""Lineages that a primary knows its maps to be good for; past that, all but its secondary's are forgotten."""
INTENT_AGE_SECONDS = 30.0
"""An extent that nothing has touched for about this long is flushed on both sides and goes cold."""
INTENT_AHEAD_EXTENTS = 8
"""Extents that are recorded together when writing goes on into the next one."""
INTENT_LOG_RECORDS_MAX = 8192
"""Records in the log before it is written anew; the space for them is taken at once."""
WELCOME_RUNS_MAX = 2048
"""Runs of extents that a welcome can name; more are joined."""

# Time-outs trigger questions, never decisions.
HEARTBEAT_SECONDS = 1.0
"""Longest silence before an end of the stream says that it is alive."""
PEER_SILENCE_SECONDS = 5.0
"""A peer silent for longer is taken for dead and its stream is closed."""
ACK_TIMEOUT_SECONDS = 10.0
"""A secondary that acknowledges nothing for longer, with frames waiting, loses the stream."""
ANSWER_TIMEOUT_SECONDS = 600.0
"""A comparison or fetch that the secondary has not answered for so long will not be: its disk hangs. One comparison of
zeros may cover 16 GiB, which a slow disk is given the time to read."""
STREAM_HANDSHAKE_SECONDS = 5.0
"""A stream handshake that takes longer ends that connection."""
RECONNECT_SECONDS_MIN = 0.2
RECONNECT_SECONDS_MAX = 5.0
"""Pause before the next attempt to connect; doubles between these after each failure."""
HELD_RETRY_SECONDS_MAX = 0.5
"""The longest pause before the other site or the arbiter is tried again while hosts are held for it."""
ARBITER_SECONDS_MAX = 5.0
"""The arbiter that has not answered a call for longer counts as out of reach."""

assert FRAME_PAYLOAD_BYTES_MAX <= STREAM_RECEIVE_BUFFER_BYTES // 2
assert RESYNC_READ_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX <= RESYNC_IN_FLIGHT_BYTES_MAX
assert PACKED_BYTES_A_BYTE * RESYNC_IN_FLIGHT_BYTES_MAX + RESYNC_READS_MAX * RESYNC_READ_BYTES_MAX < UNPACKED_BYTES_MAX
assert COMPARE_READ_BYTES_MAX % RESYNC_READ_BYTES_MAX == 0
assert RESYNC_IN_FLIGHT_BYTES_MAX < STREAM_IN_FLIGHT_BYTES_MAX
assert NBD_PIECE_BYTES_MIN + NBD_PIECE_ALIGN_BYTES <= NBD_RECEIVE_BUFFER_BYTES // 2
assert NBD_PIECE_BYTES_MIN < NBD_RECEIVE_BUFFER_BYTES <= FRAME_PAYLOAD_BYTES_MAX
assert NBD_REQUEST_BYTES_MAX < STREAM_IN_FLIGHT_BYTES_MAX
assert HEARTBEAT_SECONDS < PEER_SILENCE_SECONDS
assert BLOCK_BYTES % SECTOR_BYTES == 0
assert FETCH_BYTES_MAX % BLOCK_BYTES == 0
assert FETCH_BYTES_MAX <= STREAM_CONTROL_BYTES_MAX
assert EXTENT_BYTES % BLOCK_BYTES == 0

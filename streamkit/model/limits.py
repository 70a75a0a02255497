"""Every bound in one file, with where it comes from.

A number marked *AWS* is a quota of the service, from its documentation ("Quotas and limits", Kinesis Data Streams
developer guide) or its service model; a number marked *ours* protects this process.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
HOUR_MS: Final = 3_600_000

# -- records (AWS) ---------------------------------------------------------------------------------------------------
PARTITION_KEY_CHARACTERS_MAX: Final = 256
RECORD_BYTES_DEFAULT_MAX: Final = 1 * MIB  # data of one record; the partition key is not counted
RECORD_BYTES_MAX: Final = 10 * MIB  # opt-in, per stream
PUT_RECORDS_COUNT_MAX: Final = 500
PUT_RECORDS_BYTES_MAX: Final = 10 * MIB  # data and partition keys of one call
GET_RECORDS_COUNT_MAX: Final = 10_000
GET_RECORDS_BYTES_MAX: Final = 10 * MIB

# -- shards (AWS) ----------------------------------------------------------------------------------------------------
SHARD_WRITE_BYTES_PER_S: Final = 1 * MIB
SHARD_WRITE_RECORDS_PER_S: Final = 1_000
SHARD_READ_BYTES_PER_S: Final = 2 * MIB
SHARD_READ_CALLS_PER_S: Final = 5
SHARDS_PER_ACCOUNT_DEFAULT_MAX: Final = 500  # US regions; a setting
SHARDS_PER_STREAM_UPDATE_MAX: Final = 10_000
ON_DEMAND_SHARDS_AT_START: Final = 4
ON_DEMAND_STREAMS_MAX: Final = 50
SHARD_COUNT_UPDATES_PER_DAY_MAX: Final = 10

# -- streams (AWS) ---------------------------------------------------------------------------------------------------
RETENTION_HOURS_MIN: Final = 24
RETENTION_HOURS_MAX: Final = 8_760
TAGS_PER_STREAM_MAX: Final = 50
CONSUMERS_PER_STREAM_MAX: Final = 20
ITERATOR_AGE_MS_MAX: Final = 300_000
LIST_STREAMS_DEFAULT: Final = 100
LIST_SHARDS_DEFAULT: Final = 1_000
DESCRIBE_STREAM_SHARDS_DEFAULT: Final = 100
LIST_TAGS_DEFAULT: Final = 50
LIST_CONSUMERS_DEFAULT: Final = 100

# -- the log (ours) --------------------------------------------------------------------------------------------------
FRAME_COLUMNS_BYTES_MAX: Final = 8 * MIB  # soft: a frame is closed at the record that passes it
FRAME_RECORDS_MAX: Final = 65_536
SEGMENT_BYTES_MAX: Final = 64 * MIB  # soft: a segment closes after the commit that passes it
SEGMENT_SPAN_MS: Final = HOUR_MS  # a segment also closes at this age: a 24th of the shortest retention
MAPPED_BYTES_MAX: Final = 128 * MIB  # memory maps held by one log store
INDEX_BYTES_MAX: Final = 16 * MIB  # frame tables of sealed segments held by one log store
PENDING_BYTES_MAX: Final = 64 * MIB  # appended, not yet durable, per stream; beyond it puts are refused as throttled
COMMIT_THREADS: Final = 2
LONG_ROUND_BYTES: Final = 64 * KIB  # a commit larger than this is encoded and written on a thread
SYNCS_UNDER_WAY_MAX: Final = 128  # by the kernel at once; more logs than that sync on threads
RESERVED_BYTES: Final = 1 * MIB  # written ahead, in zeros, of small commits that come often:
ROUNDS_WORTH_RESERVING: Final = 64  # after so many without room

SHARD_IDS_CACHED_MAX: Final = 16_384  # their text, made again and again

# -- the wire (ours) -------------------------------------------------------------------------------------------------
BODY_BYTES_MAX: Final = 16 * MIB  # 10 MiB of records in base64, and the JSON around them
REQUEST_LINE_BYTES_MAX: Final = 8 * KIB
HEADERS_BYTES_MAX: Final = 32 * KIB
HEADERS_COUNT_MAX: Final = 100
CONNECTIONS_MAX: Final = 4_096
PIPELINED_REQUESTS_MAX: Final = 16  # parsed and waiting, per connection; beyond it the socket is not read
HEADERS_TIMEOUT_MS: Final = 10_000  # from the first byte of a request to the end of its headers
BODY_TIMEOUT_MS: Final = 30_000  # without progress on a body
IDLE_TIMEOUT_MS: Final = 75_000  # between requests; SDKs keep connections for 60 s
SEND_TIMEOUT_MS: Final = 30_000  # without the reader taking anything
LINGER_TIMEOUT_MS: Final = 2_000  # after a refusal, for what the client is still sending
WAIT_MS_MAX: Final = 20_000  # how long our own long read may wait
JSON_DEPTH_MAX: Final = 64
VIOLATIONS_MAX: Final = 10  # AWS reports no more broken constraints in one answer
ECHO_CHARACTERS_MAX: Final = 4_096  # of a refused value, in the error that names it
ANSWERS_BYTES: Final = 48 * MIB  # answers to GetRecords that their readers have not taken yet; then answers get small
ANSWERS_BYTES_MAX: Final = 96 * MIB  # beyond it GetRecords is refused as throttled

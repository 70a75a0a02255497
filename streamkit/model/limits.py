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
MAPPED_BYTES_RESIDENT: Final = 16 * MIB  # read of them before their pages are given back
INDEX_BYTES_MAX: Final = 16 * MIB  # frame tables of sealed segments held by one log store
PENDING_BYTES_MAX: Final = 64 * MIB  # appended, not yet durable, per stream; beyond it puts are refused as throttled
TABLE_WINDOW_BYTES_MAX: Final = 16 * MIB  # of a table that is put: so much is appended at once, and as much waits
COMMIT_THREADS: Final = 2
LONG_ROUND_BYTES: Final = 64 * KIB  # a commit larger than this is encoded and written on a thread
SYNCS_UNDER_WAY_MAX: Final = 128  # by the kernel at once; more logs than that sync on threads
RESERVED_BYTES: Final = 1 * MIB  # written ahead, in zeros, of small commits that come often:
ROUNDS_WORTH_RESERVING: Final = 64  # after so many without room

SHARD_IDS_CACHED_MAX: Final = 16_384  # their text, made again and again

# -- the wire (ours) -------------------------------------------------------------------------------------------------
BODY_BYTES_MAX: Final = 16 * MIB  # 10 MiB of records in base64, and the JSON around them
UPLOAD_BYTES_MAX: Final = 69_905_067  # of code; AWS: 50 MiB of zip in base64
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

# -- event source mappings (AWS) -------------------------------------------------------------------------------------
MAPPING_BATCH_RECORDS_MAX: Final = 10_000
MAPPING_BATCHING_WINDOW_S_MAX: Final = 300
MAPPING_PARALLELIZATION_MAX: Final = 10
MAPPING_RETRIES_MAX: Final = 10_000
MAPPING_RECORD_AGE_S_MIN: Final = 60
MAPPING_RECORD_AGE_S_MAX: Final = 604_800
MAPPING_TUMBLING_WINDOW_S_MAX: Final = 900
MAPPING_FILTERS_MAX: Final = 10  # 5 until AWS is asked for more: there is nobody to ask here
MAPPING_TAGS_MAX: Final = 50
LIST_MAPPINGS_MAX: Final = 100  # AWS answers with no more, whatever is asked for
MAPPING_RESULTS_SAVED_MS: Final = 1_000  # ours: last processing results are written no more often than this
DESTINATION_LOOK_BYTES_MAX: Final = 4 * MIB  # ours: of a stream, held at once while a document is looked for

# -- event source mappings (AWS: Lambda developer guide, "Lambda quotas", "Kinesis parameters") ----------------------
INVOCATION_BYTES_MAX: Final = 6 * MIB  # a synchronous invocation's payload: also the JSON event of one batch
WINDOW_STATE_BYTES_MAX: Final = 1 * MIB  # a larger one ends the tumbling window early

# -- event source mappings (ours) ------------------------------------------------------------------------------------
LOOK_AHEAD_BYTES_MAX: Final = 16 * MIB  # read of a shard and not yet processed, over all its lanes
LOOK_AHEAD_RECORDS_MAX: Final = 40_000
READ_BYTES_MAX: Final = 4 * MIB  # of one read
CHECKPOINT_INTERVAL_MS: Final = 50  # progress is saved at most this much later than it was made

# -- functions and layers (AWS: "Lambda quotas", developer guide) ----------------------------------------------------
FUNCTION_NAME_CHARACTERS_MAX: Final = 64
FUNCTION_TIMEOUT_S_MAX: Final = 900
FUNCTION_MEMORY_MIB_MAX: Final = 10_240  # the model's 32,768 is for Managed Instances
FUNCTION_TMP_MIB_MAX: Final = 10_240
FUNCTION_VARIABLES_BYTES_MAX: Final = 4 * KIB
FUNCTION_LAYERS_MAX: Final = 5
FUNCTION_TAGS_MAX: Final = 50
FUNCTION_POLICY_BYTES_MAX: Final = 20 * KIB
ALIAS_WEIGHTS_MAX: Final = 1  # beside the version an alias points to
ACCOUNT_CONCURRENCY: Final = 1_000  # per account and region
UNRESERVED_CONCURRENCY_MIN: Final = 100
LIST_FUNCTIONS_MAX: Final = 50  # in one answer, whatever MaxItems says
CODE_ZIP_BYTES_MAX: Final = 50 * MIB  # in a request
CODE_UNPACKED_BYTES_MAX: Final = 250 * MIB  # with the layers
CODE_STORAGE_BYTES_MAX: Final = 75 * 1024 * MIB  # zips of an account in a region
CODE_FILES_MAX: Final = 100_000  # ours: in one package
CODE_KEPT_MS: Final = 1_000 * FUNCTION_TIMEOUT_S_MAX  # ours: code that nothing names any more may still be running

# -- execution environments ------------------------------------------------------------------------------------------
INIT_TIMEOUT_MS: Final = 10_000  # AWS: "Lambda execution environment lifecycle"
RESPONSE_BYTES_MAX: Final = 6 * MIB + 100  # AWS: 6 MB, and this much in the text of the error it answers beyond it
RUNTIME_CONNECTIONS_MAX: Final = 64  # ours: of one environment to its Runtime API
RUNTIME_HEADERS_BYTES_MAX: Final = 2 * MIB  # ours: awslambdaric sends the cause of an error in a header of up to 1 MiB
SANDBOX_CHECK_TIMEOUT_S: Final = 10  # ours: for bubblewrap to start a program that does nothing
RUNTIME_EXIT_MS: Final = 1_000  # ours: for a runtime to exit, after an error that it exits for

# -- logs of functions -----------------------------------------------------------------------------------------------
LOG_EVENT_BYTES_MAX: Final = 1 * MIB  # AWS
LOG_EVENT_OVERHEAD_BYTES: Final = 26  # AWS: counted with each event, in a put and in a page
LOG_EVENTS_PER_PUT_MAX: Final = 10_000  # AWS
LOG_PUT_BYTES_MAX: Final = 1 * MIB  # AWS
LOG_PUT_FUTURE_MS_MAX: Final = 2 * HOUR_MS  # AWS: events later than that are rejected
LOG_PUT_PAST_MS_MAX: Final = 14 * 24 * HOUR_MS  # AWS: and earlier ones
LOG_EVENTS_PER_PAGE_MAX: Final = 10_000  # AWS
LOG_PAGE_BYTES_MAX: Final = 1 * MIB  # AWS
LOG_DESCRIBE_MAX: Final = 50  # AWS: groups or streams in an answer
LOG_PATTERN_CONDITIONS_MAX: Final = 256  # ours: a pattern has 1,024 characters
LOG_GROUP_BYTES_MAX: Final = 64 * MIB  # ours: the oldest events go
LOG_SEGMENTS_PER_GROUP: Final = 16  # ours: what goes at once is a 16th
LOG_GROUPS_MAX: Final = 10_000  # ours
LOG_STREAMS_PER_GROUP_MAX: Final = 100_000  # ours: made by request; environments make theirs as they start
LOG_FILES_OPEN_MAX: Final = 64  # ours
LOG_FLUSH_MS: Final = 100  # ours: how long lines wait in memory
LOG_BUFFER_BYTES_MAX: Final = 1 * MIB  # ours, per environment: beyond it lines wait no longer
LOG_BYTES_PER_S: Final = 4 * MIB  # ours, per environment: what passes it is dropped,
LOG_BURST_BYTES: Final = 8 * MIB  # after so much at once
LOG_ENTRY_COST_BYTES: Final = 128  # ours: what a write costs in memory beside its bytes

# -- asynchronous invocations ----------------------------------------------------------------------------------------
ASYNC_PAYLOAD_BYTES_MAX: Final = 1 * MIB  # AWS, since October 2025; 256 KiB before
ASYNC_RETRIES_DEFAULT: Final = 2  # AWS
ASYNC_RETRY_DELAYS_MS: Final = (60_000, 120_000)  # AWS: before the second and the third attempt
ASYNC_AGE_S_DEFAULT: Final = 6 * 3_600  # AWS
ASYNC_BACKOFF_MS_MIN: Final = 1_000  # AWS: after a throttle or a service error; then twice as long each time,
ASYNC_BACKOFF_MS_MAX: Final = 300_000  # up to this
ASYNC_DELIVERY_AGE_MS_MAX: Final = 6 * HOUR_MS  # ours: how long a record is offered to its destination
ASYNC_UNDER_WAY_PER_FUNCTION_MAX: Final = 64  # ours: events of a function that are tried at once
ASYNC_QUEUE_EVENTS_MAX: Final = 100_000  # ours: beyond it invocations are refused as throttled
ASYNC_QUEUE_BYTES_MAX: Final = 512 * MIB  # ours: payloads, on disk
ASYNC_CACHED_BYTES_MAX: Final = 16 * MIB  # ours: payloads of events not tried yet, in memory too
LOOP_INVOCATIONS_MAX: Final = 16  # AWS: of a function in a chain of its own making
LINEAGE_FUNCTIONS_MAX: Final = 16  # AWS: functions that a trace header tells of

# -- environments that are processes ---------------------------------------------------------------------------------
ENVIRONMENT_PROCESSES_MAX: Final = 1_024  # AWS: processes and threads; here processes
ENVIRONMENT_FILES_MAX: Final = 1_024  # AWS: file descriptors
PROVISIONED_INIT_TIMEOUT_MS: Final = 130_000  # AWS: or the function's timeout, where that is longer
SHUTDOWN_TIMEOUT_MS: Final = 500  # AWS: from SIGTERM to SIGKILL, without an external extension
MEMORY_WATCH_MS: Final = 20  # ours: a fast leak passes its bound by some 15 MiB until it is seen
MEMORY_HEADROOM_MIB: Final = 512  # ours: of address space for data, over the bound; stops what outruns the watch
TMP_CHECK_MS: Final = 1_000  # ours: how often the size of a busy environment's temporary directory is looked at
TMP_ENTRIES_PER_CHECK_MAX: Final = 10_000  # ours
LOG_READ_BYTES: Final = 64 * KIB  # ours: what a pipe holds, and what is taken from one in a turn of the event loop
LOG_LINE_BYTES_MAX: Final = 256 * KIB  # ours: longer lines are handed on in pieces
FORK_REQUEST_BYTES_MAX: Final = 128 * KIB  # ours: 4 KiB of variables, paths, names of modules
RESPONSE_STREAM_BYTES_MAX: Final = 200 * MIB  # AWS: a streamed response, since July 2025; 20 MB before
IMAGES_MAX: Final = 4  # ours: zygotes with libraries loaded, some 25 MiB each
IMAGES_REFUSED_MAX: Final = 256  # ours: sets of libraries remembered as impossible to preload
FUNCTIONS_LEARNED_MAX: Final = 1_024  # ours: functions of which it is remembered what they import
IMAGE_MODULES_MAX: Final = 2_000  # ours: names in one request
IMAGE_TIMEOUT_MS: Final = 30_000  # ours: for loading what it preloads

# -- function URLs ---------------------------------------------------------------------------------------------------
URL_PRELUDE_BYTES_MAX: Final = 32 * KIB  # ours: status, headers and cookies before a streamed body

# -- invoking over the API (AWS) -------------------------------------------------------------------------------------
CLIENT_CONTEXT_BYTES_MAX: Final = 3_583  # in base64
STREAMED_BYTES_HELD_MAX: Final = 1 * MIB  # ours: of a streamed response, while its reader does not take it

# -- deliveries of failure records -----------------------------------------------------------------------------------
DELIVERY_TIMEOUT_MS: Final = 60_000  # ours: a destination that does not answer for so long is asked again later

# -- deliveries ------------------------------------------------------------------------------------------------------
DELIVERY_CHUNK_BYTES: Final = 4 * MIB  # ours: what is processed at a time
DELIVERY_CHUNK_RECORDS_MAX: Final = 65_536  # ours
DELIVERY_CHUNK_CELLS_MAX: Final = 1024 * 1024  # ours: records times columns, where they are converted
DELIVERY_CHUNK_WAIT_MS: Final = 1_000  # ours: records that came are processed after so long, however few
DELIVERY_CHUNKS_MAX: Final = 2  # ours: under way at a time, of a delivery stream
DELIVERY_TRANSFORMS_MAX: Final = 4  # ours: the same, where a function is asked
DELIVERY_HELD_BYTES_MIN: Final = 64 * MIB  # ours: what buffers may hold in memory, whatever their size is
DELIVERY_STAGED_BYTES_MAX: Final = 1024 * MIB  # ours: sealed and not delivered; beyond it nothing more is read
DELIVERY_STAGED_OBJECTS_MAX: Final = 2_000  # ours
DELIVERY_UPLOADS_MAX: Final = 4  # ours: objects under way at a time to a destination
DELIVERY_RETRY_MS_MIN: Final = 100  # ours: after a first failure; doubles each time
DELIVERY_RETRY_MS_MAX: Final = 30_000  # ours
OBJECT_FILE_NAME_BYTES_MAX: Final = 255  # Linux, NAME_MAX: of an object's key, where objects are files
DELIVERY_CLOSE_MS: Final = 5_000  # ours: a destination that does not end for so long is left behind
DELIVERY_CHANGE_MS: Final = 10_000  # ours: so long a change waits for what was read under the version before
DELIVERY_BATCHES_MAX: Final = 64  # ours: small pieces of a buffer, before they are joined
DELIVERY_BATCHES_BYTES_MAX: Final = MIB  # ours: of them together; larger ones stay as they are
DELIVERY_THREADS: Final = 4  # ours: of all delivery streams together
ACTIVE_PARTITIONS_MAX: Final = 500  # AWS: of a delivery stream
INFERRED_RECORDS_MAX: Final = 10_000  # ours: records from which the columns of a table are found
SCHEMA_CHECK_MS: Final = 60_000  # ours: how often a table of a destination is asked for its columns

# -- tables, and the lake's small files ------------------------------------------------------------------------------
TABLE_COMMIT_TRIES_MAX: Final = 20  # ours: commits that another writer's came before
TABLE_COMMIT_BACKOFF_MS_MIN: Final = 20  # ours: after the first of them; then twice as long each time,
TABLE_COMMIT_BACKOFF_MS_MAX: Final = 2_000  # up to this
TABLE_READ_ROWS_MAX: Final = 32_768  # ours: of a file, held at once
TABLE_ROW_GROUP_BYTES: Final = 32 * MIB  # ours: in memory, of a row group where files are written again
TABLE_PARTITION_FILES_OPEN_MAX: Final = 256  # ours: files of partitions written at once
LAKE_LISTED_MAX: Final = 1_000_000  # ours: files looked at in a compaction
LAKE_MERGED_FILES_MAX: Final = 1_000  # ours: that become one, and are open in a bucket's copy at once
LAKE_LEASE_MS: Final = 900_000  # ours: how long one merge in a bucket may take

# -- destinations that take records: HTTP endpoint, Splunk, OpenSearch ------------------------------------------------
RECORDS_BATCH_BYTES: Final = 1 * MIB  # ours: of a sealed file of records, what is read at a time
RECORDS_BATCH_RECORDS_MAX: Final = 16_384  # ours
ENDPOINT_CONNECTIONS_MAX: Final = 8  # ours: of a destination, and its threads
ENDPOINT_CONNECT_TIMEOUT_MS: Final = 10_000  # ours: to one address
ENDPOINT_IDLE_MS_MAX: Final = 30_000  # ours: how long a connection is kept for the next request
ENDPOINT_OBJECTS_REMEMBERED_MAX: Final = 64  # ours: of which a part was delivered and another has to be tried again
HTTP_ENDPOINT_BODY_BYTES_MAX: Final = 64 * MIB  # AWS: before compression
HTTP_ENDPOINT_RECORDS_MAX: Final = 10_000  # AWS: of a request
HTTP_ENDPOINT_ANSWER_BYTES_MAX: Final = 1 * MIB  # AWS: with its headers
HTTP_ENDPOINT_TIMEOUT_MS: Final = 180_000  # AWS
HTTP_ENDPOINT_URL_CHARACTERS_MAX: Final = 1_000  # AWS
HTTP_ENDPOINT_ACCESS_KEY_BYTES_MAX: Final = 4_096  # AWS
HTTP_ENDPOINT_ATTRIBUTES_MAX: Final = 50  # AWS
SPLUNK_BODY_BYTES_MAX: Final = 16 * MIB  # ours: AWS buffers up to 5 MB
SPLUNK_ANSWER_BYTES_MAX: Final = 64 * KIB  # ours
SPLUNK_REQUEST_TIMEOUT_MS: Final = 60_000  # ours
SPLUNK_ACK_TIMEOUT_MS_MIN: Final = 180_000  # AWS
SPLUNK_ACK_TIMEOUT_MS_MAX: Final = 600_000  # AWS
SPLUNK_ACK_POLL_MS_MIN: Final = 250  # ours: doubles each time,
SPLUNK_ACK_POLL_MS_MAX: Final = 10_000  # up to what Splunk's documentation advises
OPENSEARCH_BODY_BYTES_MAX: Final = 10 * MIB  # AWS: of a request to the smaller instances of OpenSearch Service
OPENSEARCH_RECORDS_MAX: Final = 5_000  # ours: so that answers stay small
OPENSEARCH_ANSWER_BYTES_MAX: Final = 32 * MIB  # ours: 5,000 errors of 6 KiB each
OPENSEARCH_TIMEOUT_MS: Final = 120_000  # ours: a bulk request waits a minute for a primary shard
OPENSEARCH_TRIES_MAX: Final = 5  # ours: of documents the cluster is too busy for, within one call
OPENSEARCH_RETRY_MS_MIN: Final = 100  # ours: doubles each time

# -- objects of deliveries -------------------------------------------------------------------------------------------
OBJECT_PREFIX_CHARACTERS_MAX: Final = 512  # AWS: evaluated
OBJECT_KEY_BYTES_MAX: Final = 1_024  # AWS: of S3, in UTF-8
TEXT_SLICE_BYTES_MAX: Final = 1 * MIB  # ours: what is compressed at a time
SNAPPY_BLOCK_BYTES: Final = 32 * KIB  # snappy-java's, which AWS uses
HADOOP_SNAPPY_BLOCK_BYTES: Final = 218_422  # Hadoop's: its buffer of 256 KiB has room for what does not compress
ZIP_ENTRY_BYTES_MAX: Final = 2**32 - 2**20  # of the format, with room for the directory
PARQUET_GROUP_BYTES_MAX: Final = 64 * MIB  # ours: columns held in memory until they are a row group
PARQUET_GROUP_ROWS_MAX: Final = 1_048_576  # ours: what readers share out among their threads
PARQUET_SAMPLE_VALUES: Final = 4_096  # ours: from which it is told whether the values of a column repeat

# -- the data catalog ------------------------------------------------------------------------------------------------
CATALOG_DATABASES_MAX: Final = 10_000  # AWS: of an account in a region
CATALOG_TABLES_MAX: Final = 200_000  # AWS: of a database
CATALOG_VERSIONS_MAX: Final = 100_000  # AWS: of a table, archived
CATALOG_PARTITIONS_MAX: Final = 10_000_000  # AWS: of a table
CATALOG_DOCUMENT_BYTES_MAX: Final = 2 * MIB  # ours: a database, a table or a partition as it is stored
CATALOG_PAGE_BYTES_MAX: Final = 4 * MIB  # ours: of documents in an answer; the next page has the rest
CATALOG_PAGE_MAX: Final = 100  # AWS: databases, tables, versions in an answer
CATALOG_PARTITIONS_PAGE_MAX: Final = 1_000  # AWS
CATALOG_LOOKED_AT_MAX: Final = 2_000  # ours: rows that one answer may leave out for what was asked
CATALOG_SEARCH_TABLES_MAX: Final = 10_000  # AWS: SearchTables looks at no more
PREDICATE_DEPTH_MAX: Final = 64  # ours: of parentheses in an expression on partitions

# -- channels of the Kinesis API (AWS: "Delivery quotas and limits", "S3 output key template") -----------------------
CHANNEL_FRESHNESS_S_MIN: Final = 300
CHANNEL_FRESHNESS_S_MAX: Final = 900
CHANNEL_KEY_CHARACTERS_MAX: Final = 986  # of an expanded template; the unique end that follows has 38
CHANNEL_BUFFER_BYTES: Final = 128 * MIB  # ours: what one object holds at most, before compression; AWS tells none
LIST_CHANNELS_MAX: Final = 100

# -- the Firehose API (AWS: quotas and limits of the developer guide, the service model) ------------------------------
FIREHOSE_RECORD_BYTES_MAX: Final = 1_000 * KIB  # before base64
FIREHOSE_BATCH_RECORDS_MAX: Final = 500
FIREHOSE_BATCH_BYTES_MAX: Final = 4 * MIB
RECORD_ID_BEGINNINGS_MAX: Final = 1_024  # ours: delivery streams whose part of record ids is remembered
DELIVERY_STREAMS_MAX: Final = 5_000  # per account and region
DELIVERY_TAGS_MAX: Final = 50  # of a delivery stream, and in an answer
LIST_DELIVERY_STREAMS_DEFAULT: Final = 10
ENCRYPTION_CALLS_PER_DAY_MAX: Final = 25  # starts and stops together
PROCESSORS_MAX: Final = 5
TRANSFORM_RETRIES_MAX: Final = 300
TRANSFORM_BUFFER_MIB_MIN: Final = 0.2
TRANSFORM_BUFFER_MIB_MAX: Final = 3.0
TRANSFORM_INTERVAL_S_MAX: Final = 900
COLUMNAR_BUFFER_MIB_MIN: Final = 64  # where records are converted or partitioned
DELIVERY_BUFFER_BYTES_MAX: Final = 1024 * MIB  # ours: of a destination that is given by a URL; AWS has 128 MiB
DELIVERY_INTERVAL_MS_MAX: Final = 24 * HOUR_MS  # ours, of the same; AWS has 15 minutes

# -- processors of deliveries ----------------------------------------------------------------------------------------
SUB_RECORDS_MAX: Final = 500  # AWS: "Record deaggregation by JSON or by delimiter is capped at 500 per record"
DECOMPRESSED_RECORD_BYTES_MAX: Final = 32 * MIB  # ours: CloudWatch Logs sends no more than 1 MiB compressed
DECOMPRESSED_CHUNK_BYTES_MAX: Final = 512 * MIB  # ours: of the records that are decompressed together
TRANSFORM_TIMEOUT_MS: Final = 300_000  # AWS: "a Lambda invocation time of up to 5 minutes"
TRANSFORM_RETRY_MS_MIN: Final = 1_000  # ours: before the second invocation; doubles each time
TRANSFORM_RETRY_MS_MAX: Final = 30_000  # ours
TRANSFORM_BATCHES_MAX: Final = 4  # ours: invocations under way at a time for one chunk
QUERY_CHARACTERS_MAX: Final = 5_120  # AWS: of a processor's parameter
QUERY_DEPTH_MAX: Final = 64  # ours: parentheses and what else nests
QUERY_CACHED_DATES_MAX: Final = 10_000  # ours: formatted days, hours or seconds that a query remembers
JQ_RECORD_CPU_MS: Final = 500  # ours: for libjq to get the keys of one record
JQ_MEMORY_BYTES_MAX: Final = 1024 * MIB  # ours: of the process that runs libjq, address space
JQ_REPLY_BYTES_MAX: Final = 64 * KIB  # ours: the keys of one record, as JSON
JQ_ENDED_MAX: Final = 8  # ours: processes that a chunk may use up; then its records fail unseen
PARTITION_VALUE_BYTES_MAX: Final = 1_024  # AWS: an object key of S3 has no more

# -- conversion of JSON to columns ------------------------------------------------------------------------------------
HIVE_TYPE_CHARACTERS_MAX: Final = 131_072  # AWS: of a column's type in the Data Catalog
HIVE_TYPE_DEPTH_MAX: Final = 32  # ours: arrays, maps and structs in one another
HIVE_CHAR_MAX: Final = 255  # Hive
HIVE_VARCHAR_MAX: Final = 65_535  # Hive
DECIMAL_PRECISION_MAX: Final = 38  # Hive
RECORD_DEPTH_MAX: Final = 500  # ours: arrays and objects in one another
CONVERSION_BLOCK_BYTES: Final = 8 * MIB  # ours: what is read at once; a record that is larger is read alone
CONVERSION_READS_MAX: Final = 4  # ours: of one block as a whole; then in pieces
CONVERSION_PIECE_RECORDS: Final = 64  # ours: of such a piece; one that cannot be read is read record by record
CONVERSION_ROWS_HELD_MAX: Final = 8_192  # ours: rows that were read record by record and are no columns yet
CONVERSION_DOCUMENTS_MAX: Final = 10_000  # ours: JSON documents in one record
CONVERSION_SAMPLE_RECORDS: Final = 64  # ours: from which it is told how a stream writes its values
INFERRED_COLUMNS_MAX: Final = 1_000  # ours: of a table, and members of a struct
INFERRED_NAME_CHARACTERS_MAX: Final = 255  # AWS: of a column

# -- deliveries as people write them ---------------------------------------------------------------------------------
DELIVERY_RETRY_S_MAX: Final = 7_200  # AWS: how long an endpoint is tried

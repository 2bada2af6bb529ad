-- One row per trace that has spans or log records, so that lists do not read the spans. The writer updates the row in
-- the commit that adds records to the trace (hub/modeltrace_hub/trace_summaries.py). All records of the trace arrived
-- from `first_received_ns` to `received_ns`, so a query about one trace reads only the rows of this time.
CREATE TABLE traces (
    received_ns BIGINT NOT NULL,             -- arrival of the last span or log record
    first_received_ns BIGINT NOT NULL,       -- arrival of the first span or log record
    trace_id VARCHAR NOT NULL,
    log_count BIGINT NOT NULL,
    span_count BIGINT NOT NULL,              -- without duplicates
    error_count BIGINT NOT NULL,             -- spans with the status ERROR, without duplicates
    services VARCHAR[] NOT NULL,             -- of the spans: that of the root, then the others by name
    error_services VARCHAR[] NOT NULL,       -- services with an error, by name
    start_ns BIGINT,                         -- the earliest start; the arrival of spans without a plausible start
    timed_start_ns BIGINT,                   -- start of the first span that has a start and an end; NULL: none has both
    duration_ns BIGINT,                      -- from `timed_start_ns` to the last end of such a span
    root_has_parent BOOLEAN,                 -- the root is the earliest span without a parent, or else the earliest span
    root_start_ns BIGINT,
    root_span_id VARCHAR,
    name VARCHAR,                            -- of the root, as the next three columns
    kind VARCHAR,
    service_name VARCHAR,
    status_code BIGINT,                      -- `http.response.status_code`
    prediction_start_ns BIGINT,              -- start of the earliest SERVER span with a prediction or a batch
    output VARCHAR,                          -- its label or value
    confidence DOUBLE,
    batch_size BIGINT,
    llm_call_count BIGINT NOT NULL,          -- spans that are LLM calls (hub/modeltrace_hub/queries/llm_attributes.py)
    llm_models VARCHAR[] NOT NULL,           -- their models, by name
    input_tokens BIGINT,                     -- sum over the LLM calls; NULL: no call has it
    output_tokens BIGINT
);

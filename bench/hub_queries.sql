-- Fill an empty database of the hub with the telemetry of one day: `spans` spans in traces of five, one log record per
-- span, every fifth of them a prediction, and one metric point per minute of 300 series. `until_ns` is the time of the
-- newest record. The statements are separated by semicolons at the end of a line.
INSERT INTO resources
SELECT md5(name), '{"service.name":"' || name || '","service.instance.id":"' || name || '-1"}', 0, '[]', ''
FROM (SELECT unnest(['gateway', 'modeltrace', 'features', 'ledger']) AS name);

INSERT INTO scopes VALUES ('scope', 'bench', '', '{}', 0, '');

INSERT INTO spans
SELECT
    start_ns + 2_000_000_000, md5(trace::VARCHAR), lower(printf('%016x', n + 1)),
    CASE WHEN part > 0 THEN lower(printf('%016x', n - part + 1)) END, '', 257,
    ['GET /basket', 'POST /predict', 'validate', 'features', 'inference'][part + 1],
    ['CLIENT', 'SERVER', 'INTERNAL', 'INTERNAL', 'INTERNAL'][part + 1],
    start_ns, start_ns + duration_ns, duration_ns,
    CASE WHEN part = 4 AND trace % 100 = 7 THEN 'ERROR' ELSE 'UNSET' END, '',
    CASE part
        WHEN 1 THEN
            '{"http.request.method":"POST","http.route":"/predict","http.response.status_code":200,'
            || '"ml.model.name":"churn","ml.model.version":"1.4.' || (trace % 2)::VARCHAR || '","ml.prediction.id":"p1.'
            || md5(n::VARCHAR) || '","ml.prediction.label":"' || CASE WHEN trace % 3 = 0 THEN 'yes' ELSE 'no' END
            || '","ml.prediction.confidence":0.' || (5000 + hash(n) % 5000)::VARCHAR || ',"customer.id":"c'
            || (trace % 50_000)::VARCHAR || '"}'
        ELSE
            '{"thread.id":' || (n % 40)::VARCHAR || ',"code.function.name":"bench.step' || part::VARCHAR
            || '","batch.id":"' || md5((n + 7)::VARCHAR) || '","rows":' || (n % 9)::VARCHAR || '}'
    END,
    0, '[]', 0, '[]', 0,
    service, service || '-1', md5(service), 'scope'
FROM (
    SELECT
        n, n // 5 AS trace, n % 5 AS part,
        ['gateway', 'modeltrace', 'modeltrace', 'features', 'ledger'][n % 5 + 1] AS service,
        $until_ns - 86_400_000_000_000 + n // 5 * (86_400_000_000_000 // ($spans // 5)) + (n % 5) * 1_000_000 AS start_ns,
        (1_000_000 * exp(5 * (hash(n // 5) % 10_000) / 10_000) / (1 + n % 5))::BIGINT AS duration_ns
    FROM (SELECT range AS n FROM range($spans))
)
ORDER BY start_ns;

INSERT INTO logs
SELECT
    received_ns, start_ns + 500_000, NULL, trace_id, span_id, 1, CASE status_code WHEN 'ERROR' THEN 17 ELSE 9 END,
    CASE status_code WHEN 'ERROR' THEN 'ERROR' ELSE 'INFO' END,
    CASE kind WHEN 'SERVER' THEN 'ml.prediction' ELSE '' END,
    CASE kind
        WHEN 'SERVER' THEN 'prediction'
        ELSE 'step ' || name || ' finished after ' || (duration_ns // 1000)::VARCHAR || ' us for ' || md5(span_id)
    END,
    false,
    CASE kind
        WHEN 'SERVER' THEN
            json_merge_patch(
                attributes,
                '{"ml.prediction.row":0,"ml.prediction.inputs":{"age":' || (hash(span_id) % 80)::VARCHAR || ',"balance":'
                || (hash(trace_id) % 100_000 / 7)::VARCHAR || ',"country":"DE","tenure":' || (hash(name) % 9)::VARCHAR
                || ',"plan":"basic"}}'
            )
        ELSE '{"logger":"bench.' || name || '","thread":"worker-' || (start_ns % 8)::VARCHAR || '"}'
    END,
    0, service_name, service_instance_id, resource_id, scope_id
FROM spans;

INSERT INTO metric_points (
    received_ns, series_id, name, description, unit, metadata, type, temporality, is_monotonic, start_ns, time_ns, flags,
    attributes, value, service_name, service_instance_id, resource_id, scope_id
)
SELECT
    time_ns, md5(series::VARCHAR), CASE WHEN series < 2 THEN 'ml.predictions' ELSE 'ml.feature.observations' END,
    '', '{observation}', '{}', 'sum', 'CUMULATIVE', true, $until_ns - 86_400_000_000_000, time_ns, 0,
    CASE
        WHEN series < 2 THEN
            '{"ml.model.name":"churn","ml.model.version":"1.4.0","ml.prediction.label":"' || ['yes', 'no'][series + 1] || '"}'
        ELSE
            '{"ml.feature.bin":"' || printf('%02d', series % 10) || '","ml.feature.name":"f' || (series // 10)::VARCHAR
            || '","ml.model.name":"churn","ml.model.version":"1.4.0"}'
    END,
    minute * (series % 7 + 1), 'modeltrace', 'modeltrace-1', md5('modeltrace'), 'scope'
FROM (
    SELECT minute, series, $until_ns - 86_400_000_000_000 + minute * 60_000_000_000 AS time_ns
    FROM
        (SELECT range AS minute FROM range(1, 1441)),
        (SELECT range AS series FROM range(300))
    ORDER BY minute
)

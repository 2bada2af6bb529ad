import static io.opentelemetry.api.common.AttributeKey.booleanArrayKey;
import static io.opentelemetry.api.common.AttributeKey.doubleArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longArrayKey;
import static io.opentelemetry.api.common.AttributeKey.stringArrayKey;
import static io.opentelemetry.api.common.AttributeKey.valueKey;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import io.opentelemetry.sdk.common.CompletableResultCode;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Sends all signals with the OpenTelemetry SDK for Java and prints what it has sent, one JSON object per line.
 * ../README.md describes the lines. Endpoint and protocol come from the OTEL_* variables.
 */
final class Sender {
  static final long BEYOND_DOUBLE = (1L << 53) + 1;

  static final Attributes EVERY_TYPE =
      Attributes.builder()
          .put("string", "plain")
          .put("string.empty", "")
          .put("string.unicode", "Größe 模型 🧪 \0 \"\\\n")
          .put("key with spaces/ünï~0", "odd key")
          .put("bool.true", true)
          .put("bool.false", false)
          .put("int.zero", 0)
          .put("int.negative", -42)
          .put("int.beyond_double", BEYOND_DOUBLE)
          .put("int.max", Long.MAX_VALUE)
          .put("int.min", Long.MIN_VALUE)
          .put("double", 0.1)
          .put("double.whole", 3.0)
          .put("double.huge", 1.5e300)
          .put("double.tiny", Double.MIN_VALUE)
          .put("double.nan", Double.NaN)
          .put("double.infinite", Double.NEGATIVE_INFINITY)
          .put(stringArrayKey("strings"), List.of("a", "", "ß"))
          .put(booleanArrayKey("bools"), List.of(true, false))
          .put(longArrayKey("ints"), List.of(1L, -2L, BEYOND_DOUBLE))
          .put(doubleArrayKey("doubles"), List.of(0.5, -2.25))
          .put(stringArrayKey("strings.empty"), List.of())
          .put(booleanArrayKey("bools.empty"), List.of())
          .put(longArrayKey("ints.empty"), List.of())
          .put(doubleArrayKey("doubles.empty"), List.of())
          .put(valueKey("bytes"), Value.of(new byte[] {0, 1, (byte) 254, (byte) 255}))
          .put(valueKey("mixed"), Value.of(Value.of("a"), Value.of(1), Value.of(true), Value.empty()))
          .put(
              valueKey("map"),
              Value.of(
                  KeyValue.of("inner", Value.of(1)),
                  KeyValue.of("deeper", Value.of(KeyValue.of("leaf", Value.of("x"))))))
          .build();

  public static void main(String[] arguments) {
    OpenTelemetrySdk sdk =
        AutoConfiguredOpenTelemetrySdk.builder()
            .disableShutdownHook()
            .addMeterProviderCustomizer((provider, config) -> SentMetrics.registerViews(provider))
            .build()
            .getOpenTelemetrySdk();
    Context inside = SentTrace.send(sdk.getTracerProvider());
    SentLogs.send(sdk.getLogsBridge(), inside);
    SentMetrics.send(sdk.getMeterProvider(), inside);
    CompletableResultCode end = sdk.shutdown().join(60, TimeUnit.SECONDS);
    System.exit(end.isSuccess() ? 0 : 1);
  }
}

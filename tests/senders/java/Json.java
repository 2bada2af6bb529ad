import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Prints records, and values as the hub's API writes them. */
final class Json {
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private Json() {}

  /** Prints what was sent: the kind of record, and its fields by the names of the hub's API. */
  static void emit(String kind, Map<String, Object> fields) {
    OUT.println(text(map("kind", kind, "fields", fields)));
  }

  /** A map of keys and values, which may be null. */
  static Map<String, Object> map(Object... keysAndValues) {
    Map<String, Object> result = new LinkedHashMap<>();
    for (int index = 0; index < keysAndValues.length; index += 2) {
      result.put((String) keysAndValues[index], keysAndValues[index + 1]);
    }
    return result;
  }

  static Map<String, Object> plain(Attributes attributes) {
    Map<String, Object> result = new LinkedHashMap<>();
    attributes.forEach((key, value) -> result.put(key.getKey(), plain(value)));
    return result;
  }

  static Object plain(Object value) {
    if (value instanceof Value<?> wrapped) {
      return plain(wrapped);
    }
    if (value instanceof Double number && (number.isNaN() || number.isInfinite())) {
      return number.toString();
    }
    return value;
  }

  private static Object plain(Value<?> value) {
    switch (value.getType()) {
      case EMPTY:
        return null;
      case BYTES:
        ByteBuffer buffer = (ByteBuffer) value.getValue();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return map("bytes", Base64.getEncoder().encodeToString(bytes));
      case ARRAY:
        List<Object> items = new ArrayList<>();
        ((List<?>) value.getValue()).forEach(item -> items.add(plain(item)));
        return items;
      case KEY_VALUE_LIST:
        Map<String, Object> result = new LinkedHashMap<>();
        for (Object item : (List<?>) value.getValue()) {
          KeyValue pair = (KeyValue) item;
          result.put(pair.getKey(), plain(pair.getValue()));
        }
        return result;
      default:
        return plain((Object) value.getValue());
    }
  }

  private static String text(Object value) {
    if (value instanceof Map<?, ?> map) {
      List<String> parts = new ArrayList<>();
      map.forEach((key, item) -> parts.add(text(key) + ":" + text(item)));
      return "{" + String.join(",", parts) + "}";
    }
    if (value instanceof List<?> list) {
      return "[" + String.join(",", list.stream().map(Json::text).toList()) + "]";
    }
    if (value instanceof String string) {
      StringBuilder result = new StringBuilder("\"");
      for (char character : string.toCharArray()) {
        boolean escaped = character < ' ' || character == '"' || character == '\\';
        result.append(escaped ? String.format("\\u%04x", (int) character) : character);
      }
      return result.append('"').toString();
    }
    return String.valueOf(value);
  }
}

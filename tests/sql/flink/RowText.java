import java.math.BigDecimal;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.Period;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Iterator;
import java.util.Map;
import org.apache.flink.types.Row;

/**
 * Turns an iterator of result rows into one text, a JSON array a line: the kind of change, then the values.
 *
 * <p>One call instead of three a row through the bridge to Python. Compiled by the compiler inside Flink when recording
 * starts, which knows neither lambdas nor inferred types. What JSON has no type for is an array of a letter and a text,
 * read back by record.py.
 */
public class RowText implements java.util.function.Function {
    private static final DateTimeFormatter DATE_TIME = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS");
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("HH:mm:ss.SSSSSS");

    public Object apply(Object rows) {
        StringBuilder out = new StringBuilder();
        Iterator iterator = (Iterator) rows;
        while (iterator.hasNext()) {
            Row row = (Row) iterator.next();
            out.append("[\"").append(row.getKind().shortString()).append('"');
            for (int place = 0; place < row.getArity(); place++) {
                out.append(',');
                value(out, row.getField(place));
            }
            out.append("]\n");
        }
        return out.toString();
    }

    private static void value(StringBuilder out, Object value) {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof Byte || value instanceof Short || value instanceof Integer || value instanceof Long) {
            out.append(value);
        } else if (value instanceof String) {
            text(out, (String) value);
        } else if (value instanceof Double) {
            tagged(out, "double", value.toString());
        } else if (value instanceof Float) {
            tagged(out, "float", value.toString());
        } else if (value instanceof BigDecimal) {
            tagged(out, "decimal", ((BigDecimal) value).toPlainString());
        } else if (value instanceof LocalDateTime) {
            tagged(out, "timestamp", DATE_TIME.format((LocalDateTime) value));
        } else if (value instanceof Instant) {
            tagged(out, "instant", DATE_TIME.format(((Instant) value).atOffset(ZoneOffset.UTC)));
        } else if (value instanceof LocalDate) {
            tagged(out, "date", value.toString());
        } else if (value instanceof LocalTime) {
            tagged(out, "time", TIME.format((LocalTime) value));
        } else if (value instanceof Duration) {
            Duration length = (Duration) value;
            tagged(out, "seconds", BigDecimal.valueOf(length.toMillis(), 3).toPlainString());
        } else if (value instanceof Period) {
            tagged(out, "months", String.valueOf(((Period) value).toTotalMonths()));
        } else if (value instanceof byte[]) {
            tagged(out, "bytes", hex((byte[]) value));
        } else if (value instanceof Row) {
            row(out, (Row) value);
        } else if (value instanceof Map) {
            map(out, (Map) value);
        } else if (value.getClass().isArray()) {
            out.append("[\"array\"");
            for (int place = 0; place < java.lang.reflect.Array.getLength(value); place++) {
                out.append(',');
                value(out, java.lang.reflect.Array.get(value, place));
            }
            out.append(']');
        } else {
            tagged(out, value.getClass().getName(), value.toString());
        }
    }

    private static void row(StringBuilder out, Row row) {
        out.append("[\"row\"");
        for (int place = 0; place < row.getArity(); place++) {
            out.append(',');
            value(out, row.getField(place));
        }
        out.append(']');
    }

    private static void map(StringBuilder out, Map map) {
        out.append("[\"map\"");
        Iterator entries = map.entrySet().iterator();
        while (entries.hasNext()) {
            Map.Entry entry = (Map.Entry) entries.next();
            out.append(",[");
            value(out, entry.getKey());
            out.append(',');
            value(out, entry.getValue());
            out.append(']');
        }
        out.append(']');
    }

    private static void tagged(StringBuilder out, String tag, String value) {
        out.append("[\"").append(tag).append("\",");
        text(out, value);
        out.append(']');
    }

    private static String hex(byte[] bytes) {
        StringBuilder out = new StringBuilder();
        for (int place = 0; place < bytes.length; place++) {
            out.append(Character.forDigit((bytes[place] >> 4) & 15, 16)).append(Character.forDigit(bytes[place] & 15, 16));
        }
        return out.toString();
    }

    private static void text(StringBuilder out, String value) {
        out.append('"');
        for (int place = 0; place < value.length(); place++) {
            char letter = value.charAt(place);
            if (letter == '"' || letter == '\\') {
                out.append('\\').append(letter);
            } else if (letter < ' ' || Character.isSurrogate(letter)) {
                out.append(String.format("\\u%04x", new Object[] {Integer.valueOf((int) letter)}));
            } else {
                out.append(letter);
            }
        }
        out.append('"');
    }
}

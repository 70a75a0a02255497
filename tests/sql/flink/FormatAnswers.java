import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.csv.CsvRowDataDeserializationSchema;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeParser;
import org.apache.flink.util.Collector;

/**
 * Reads payloads with Flink's own format classes. A question a line: the way (json SQL, json ISO-8601, csv, csv ignoring
 * errors), the fields of the row, the payload, with tabs between; \n in a payload of CSV is a line end. An answer a
 * line: "=" and the rows, "!" where Flink fails; a line end in it is written as \n, a
 * backslash twice.
 */
public class FormatAnswers {
    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] parts = line.split("\t", 3);
            RowType of = (RowType) LogicalTypeParser.parse("ROW<" + parts[1] + ">", FormatAnswers.class.getClassLoader());
            String answer;
            try {
                answer = "=" + (parts[0].startsWith("json") ? json(parts[0], of, parts[2]) : csv(parts[0], of, parts[2]));
            } catch (Throwable problem) {
                answer = "!";
            }
            out.println(answer.replace("\\", "\\\\").replace("\n", "\\n"));
        }
    }

    private static String json(String way, RowType of, String payload) throws Exception {
        TimestampFormat standard = way.endsWith("SQL") ? TimestampFormat.SQL : TimestampFormat.ISO_8601;
        JsonParserRowDataDeserializationSchema schema =
                new JsonParserRowDataDeserializationSchema(of, InternalTypeInfo.of(of), false, false, standard);
        schema.open(null);
        List<String> rows = new ArrayList<>();
        schema.deserialize(
                payload.getBytes(StandardCharsets.UTF_8),
                new Collector<RowData>() {
                    public void collect(RowData row) {
                        rows.add(shown(row, of));
                    }

                    public void close() {}
                });
        return String.join(" ; ", rows);
    }

    private static String csv(String way, RowType of, String payload) throws Exception {
        CsvRowDataDeserializationSchema.Builder builder =
                new CsvRowDataDeserializationSchema.Builder(of, InternalTypeInfo.of(of));
        CsvRowDataDeserializationSchema schema = builder.setIgnoreParseErrors(way.endsWith("errors")).build();
        schema.open(null);
        return shown(schema.deserialize(payload.replace("\\n", "\n").getBytes(StandardCharsets.UTF_8)), of);
    }

    private static String shown(Object value, LogicalType of) {
        StringBuilder text = new StringBuilder();
        if (value == null) {
            return "null";
        } else if (value instanceof byte[]) {
            for (byte each : (byte[]) value) {
                text.append(String.format("%02x", each));
            }
            return "x'" + text + "'";
        } else if (value instanceof GenericArrayData) {
            for (Object each : ((GenericArrayData) value).toObjectArray()) {
                text.append(shown(each, of.getChildren().get(0))).append(", ");
            }
            return "[" + text + "]";
        } else if (value instanceof GenericMapData) {
            TreeMap<String, String> entries = new TreeMap<>();
            GenericMapData map = (GenericMapData) value;
            List<LogicalType> children = of.getChildren();
            for (Object key : ((GenericArrayData) map.keyArray()).toObjectArray()) {
                entries.put(String.valueOf(key), shown(map.get(key), children.get(children.size() - 1)));
            }
            return entries.toString();
        } else if (value instanceof GenericRowData) {
            GenericRowData row = (GenericRowData) value;
            for (int place = 0; place < row.getArity(); place++) {
                text.append(shown(row.getField(place), of.getChildren().get(place))).append(", ");
            }
            return "(" + text + ")";
        }
        return value.toString();
    }
}

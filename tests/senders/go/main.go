// Sends all signals with the OpenTelemetry SDK for Go and prints what it has sent, one JSON object per line.
// ../README.md describes the lines. Endpoint and protocol come from the OTEL_* variables.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

var everyType = []attribute.KeyValue{
	attribute.String("string", "plain"),
	attribute.String("string.empty", ""),
	attribute.String("string.unicode", "Größe 模型 🧪 \u0000 \"\\\n"),
	attribute.String("key with spaces/ünï~0", "odd key"),
	attribute.Bool("bool.true", true),
	attribute.Bool("bool.false", false),
	attribute.Int64("int.zero", 0),
	attribute.Int64("int.negative", -42),
	attribute.Int64("int.beyond_double", 1<<53+1),
	attribute.Int64("int.max", math.MaxInt64),
	attribute.Int64("int.min", math.MinInt64),
	attribute.Float64("double", 0.1),
	attribute.Float64("double.huge", 1.5e300),
	attribute.Float64("double.tiny", 5e-324),
	attribute.Float64("double.nan", math.NaN()),
	attribute.Float64("double.infinite", math.Inf(-1)),
	attribute.StringSlice("strings", []string{"a", "", "ß"}),
	attribute.BoolSlice("bools", []bool{true, false}),
	attribute.Int64Slice("ints", []int64{1, -2, 1<<53 + 1}),
	attribute.Float64Slice("doubles", []float64{0.5, -2.25}),
	attribute.StringSlice("strings.empty", []string{}),
	attribute.BoolSlice("bools.empty", []bool{}),
	attribute.Int64Slice("ints.empty", []int64{}),
	attribute.Float64Slice("doubles.empty", []float64{}),
	attribute.ByteSlice("bytes", []byte{0, 1, 254, 255}),
	attribute.Slice("mixed", attribute.StringValue("a"), attribute.IntValue(1), attribute.BoolValue(true)),
	attribute.Map("map", attribute.Int("inner", 1), attribute.Map("deeper", attribute.String("leaf", "x"))),
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Print(err) }))

	origin, err := resource.New(ctx, resource.WithFromEnv())
	check(err)
	spans, err := autoexport.NewSpanExporter(ctx)
	check(err)
	reader, err := autoexport.NewMetricReader(ctx)
	check(err)
	logs, err := autoexport.NewLogExporter(ctx)
	check(err)

	sampled := sendTrace(ctx, origin, spans)
	sendLogs(sampled, origin, logs)
	sendMetrics(sampled, origin, reader)
}

type fields map[string]any

// emit prints what was sent: the kind of record, and its fields by the names of the hub's API.
func emit(kind string, sent fields) {
	line, err := json.Marshal(map[string]any{"kind": kind, "fields": sent})
	check(err)
	fmt.Println(string(line))
}

// plain returns a value as the hub's API writes it.
func plain(value attribute.Value) any {
	switch value.Type() {
	case attribute.FLOAT64:
		number := value.AsFloat64()
		switch {
		case math.IsNaN(number):
			return "NaN"
		case math.IsInf(number, 1):
			return "Infinity"
		case math.IsInf(number, -1):
			return "-Infinity"
		}
		return number
	case attribute.BYTESLICE:
		return fields{"bytes": base64.StdEncoding.EncodeToString(value.AsByteSlice())}
	case attribute.SLICE:
		items := []any{}
		for _, item := range value.AsSlice() {
			items = append(items, plain(item))
		}
		return items
	case attribute.MAP:
		return object(value.AsMap())
	}
	return value.AsInterface()
}

func object(attributes []attribute.KeyValue) fields {
	result := fields{}
	for _, item := range attributes {
		result[string(item.Key)] = plain(item.Value)
	}
	return result
}

func check(err error) {
	if err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

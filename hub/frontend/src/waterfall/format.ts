// Format durations as the server does (hub/modeltrace_hub/web/format.py).

const UNITS: readonly (readonly [number, string])[] = [[60e9, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
const DIGITS = 3;

export function duration(ns: number): string {
  const [size, unit] = UNITS.find(([size]) => Math.abs(ns) >= size) ?? [1, "ns"];
  return `${number(ns / size)}\u202f${unit}`;
}

// Three significant digits; integers with all digits.
function number(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (Math.abs(value) >= 10 ** DIGITS) return Math.round(value).toLocaleString("en");
  const decimals = Math.max(0, DIGITS - 1 - Math.floor(Math.log10(Math.abs(value))));
  // Python rounds a tie, which has one more binary digit than decimals, to the even digit; toFixed rounds it up.
  const isTie = Math.abs(value * 2 ** (decimals + 1)) % 2 === 1;
  const lower = Math.floor(value * 10 ** decimals);
  return (isTie ? (lower + (lower % 2)) / 10 ** decimals : value).toFixed(decimals);
}

export function count(value: number, word: string): string {
  return `${value.toLocaleString("en")}\u202f${word}${value === 1 ? "" : "s"}`;
}

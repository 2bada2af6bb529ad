// What the records have in common: attributes of every type, and how they are printed.

// A number without a fraction is sent as an integer. Beyond 2**53 - 1 JavaScript has no exact integers, and NaN and
// infinity have no JSON, so they are left to the senders in other languages.
export const everyType = {
  'string': 'plain',
  'string.empty': '',
  'string.unicode': 'Größe 模型 🧪 \0 "\\\n',
  'key with spaces/ünï~0': 'odd key',
  'bool.true': true,
  'bool.false': false,
  'int.zero': 0,
  'int.negative': -42,
  'int.beyond_32_bits': 2 ** 32 + 1,
  'int.max': Number.MAX_SAFE_INTEGER,
  'int.min': Number.MIN_SAFE_INTEGER,
  'double': 0.1,
  'double.tiny': Number.MIN_VALUE,
  'double.small': -1.5e-300,
  'strings': ['a', '', 'ß'],
  'bools': [true, false],
  'ints': [1, -2, Number.MAX_SAFE_INTEGER],
  'doubles': [0.5, -2.25],
  'empty': [],
};

// The SDK writes this as an integer, which no receiver can read as one.
if (process.argv.includes('huge')) {
  everyType['double.huge'] = 1.5e300;
}

/** Prints what was sent: the kind of record, and its fields by the names of the hub's API. */
export function emit(kind, fields) {
  const marked = JSON.stringify({ kind, fields }, (_, value) => (typeof value === 'bigint' ? `@int:${value}` : value));
  console.log(marked.replace(/"@int:(\d+)"/g, '$1'));
}

/** Nanoseconds since 1970, a bigint, as the SDK takes them. */
export function hrTime(ns) {
  return [Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n)];
}

/** Now, in nanoseconds since 1970, at a full second. */
export function now() {
  return BigInt(Date.now()) * 1_000_000n;
}

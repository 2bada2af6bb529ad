// The rows of a trace, which of them are folded, and which are visible. A row is named by its position.

export interface LogMark {
  readonly left: number;
  readonly severity: number;
  readonly text: string;
  readonly timeNs: string;
}

// The answer of GET /api/traces/{trace_id}/waterfall: one array per column. Sparse columns are pairs of row and value.
export interface Columns {
  readonly ticks: readonly (readonly [number, number])[];
  readonly names: readonly string[];
  readonly services: readonly string[];
  readonly span_id: readonly string[];
  readonly name: readonly number[];
  readonly service: readonly number[];
  readonly depth: readonly number[];
  readonly left: readonly number[];
  readonly width: readonly number[];
  readonly start_ns: readonly (number | null)[];
  readonly duration_ns: readonly (number | null)[];
  readonly self_ns: readonly (number | null)[];
  readonly no_duration: readonly (readonly [number, string])[];
  readonly failed: readonly number[];
  readonly error_type: readonly (readonly [number, string])[];
  readonly enters_service: readonly number[];
  readonly parent_missing: readonly number[];
  readonly links: readonly (readonly [number, number])[];
  readonly critical: readonly (readonly [number, readonly (readonly [number, number])[]])[];
  readonly logs: readonly (readonly [number, readonly (readonly [number, number, string, string])[]])[];
}

export class Trace {
  readonly count: number;
  readonly failed: ReadonlySet<number>;
  readonly failedRows: readonly number[];
  readonly entersService: ReadonlySet<number>;
  readonly parentMissing: ReadonlySet<number>;
  readonly errorTypes: ReadonlyMap<number, string>;
  readonly noDuration: ReadonlyMap<number, string>;
  readonly links: ReadonlyMap<number, number>;
  readonly critical: ReadonlyMap<number, readonly (readonly [number, number])[]>;
  readonly logs: ReadonlyMap<number, readonly LogMark[]>;
  readonly parents: Int32Array;
  readonly setSizes: Int32Array; // number of siblings, the row included
  readonly setPositions: Int32Array; // position among the siblings, from 1
  readonly #ends: Int32Array; // the row after the last descendant
  readonly #rowOfId = new Map<string, number>();
  readonly #folded: Uint8Array;
  visible: Int32Array = new Int32Array(0); // the visible rows, from top to bottom
  #places: Int32Array; // the place of each row among the visible ones, or -1

  constructor(readonly columns: Columns) {
    const { depth, span_id } = columns;
    this.count = span_id.length;
    this.failedRows = columns.failed;
    this.failed = new Set(columns.failed);
    this.entersService = new Set(columns.enters_service);
    this.parentMissing = new Set(columns.parent_missing);
    this.errorTypes = new Map(columns.error_type);
    this.noDuration = new Map(columns.no_duration);
    this.links = new Map(columns.links);
    this.critical = new Map(columns.critical);
    this.logs = new Map(columns.logs.map(([row, marks]) => [
      row, marks.map(([left, severity, text, timeNs]) => ({ left, severity, text, timeNs })),
    ]));
    this.parents = new Int32Array(this.count).fill(-1);
    this.setSizes = new Int32Array(this.count);
    this.setPositions = new Int32Array(this.count);
    this.#ends = new Int32Array(this.count).fill(this.count);
    this.#folded = new Uint8Array(this.count);
    this.#places = new Int32Array(this.count);
    this.#connect(depth);
    for (let row = this.count - 1; row >= 0; row--) this.#rowOfId.set(span_id[row]!, row);
    this.#show();
  }

  #connect(depth: readonly number[]): void {
    const ancestors: number[] = [];
    const siblings = new Map<number, number[]>();
    for (let row = 0; row < this.count; row++) {
      while (ancestors.length > depth[row]!) this.#ends[ancestors.pop()!] = row;
      const parent = ancestors.at(-1) ?? -1;
      this.parents[row] = parent;
      ancestors.push(row);
      const group = siblings.get(parent);
      if (group) group.push(row);
      else siblings.set(parent, [row]);
    }
    for (const group of siblings.values()) {
      group.forEach((row, position) => {
        this.setSizes[row] = group.length;
        this.setPositions[row] = position + 1;
      });
    }
  }

  #show(): void {
    const visible = new Int32Array(this.count);
    let length = 0;
    this.#places.fill(-1);
    for (let row = 0; row < this.count; row = this.#folded[row] ? this.#ends[row]! : row + 1) {
      this.#places[row] = length;
      visible[length++] = row;
    }
    this.visible = visible.subarray(0, length);
  }

  rowOf(spanId: string): number {
    return this.#rowOfId.get(spanId) ?? -1;
  }

  placeOf(row: number): number {
    return this.#places[row] ?? -1;
  }

  hasChildren(row: number): boolean {
    return this.#ends[row]! > row + 1;
  }

  isFolded(row: number): boolean {
    return this.#folded[row] === 1;
  }

  fold(row: number, folded: boolean): boolean {
    if (!this.hasChildren(row) || this.isFolded(row) === folded) return false;
    this.#folded[row] = Number(folded);
    this.#show();
    return true;
  }

  foldAll(folded: boolean): void {
    for (let row = 0; row < this.count; row++) this.#folded[row] = Number(folded && this.hasChildren(row));
    this.#show();
  }

  // Unfold all ancestors of a row.
  reveal(row: number): boolean {
    if (this.placeOf(row) >= 0) return false;
    for (let parent = this.parents[row]!; parent >= 0; parent = this.parents[parent]!) this.#folded[parent] = 0;
    this.#show();
    return true;
  }

  foldedIds(): string[] {
    return this.columns.span_id.filter((_, row) => this.isFolded(row));
  }

  // The row that is `step` after a row among ascending rows; after the last one comes the first.
  next(rows: readonly number[], row: number, step: 1 | -1): number {
    const later = rows.findIndex((other) => (step > 0 ? other > row : other >= row));
    const index = later < 0 ? rows.length : later;
    return rows.at(step > 0 ? index % rows.length : index - 1) ?? -1;
  }
}

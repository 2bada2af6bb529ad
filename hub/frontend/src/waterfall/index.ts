// <trace-waterfall>: the waterfall of a trace. It replaces the rows that the server has rendered by windowed rows of the
// whole trace, with folding, search, steps through errors, a minimap and one tab stop.
import { count } from "./format";
import { Minimap } from "./minimap";
import { DetailsPane, loadAddress, openLogRecord, parameter, setParameters } from "./page";
import { Rows } from "./rows";
import { Trace } from "./trace";
import type { Columns } from "./trace";

const SEARCH_DELAY_MS = 150;
const PAGE_ROWS = 20;

class TraceWaterfall extends HTMLElement {
  static readonly observedAttributes = ["data-revision"];

  #listeners = new AbortController();
  #rows: Rows | null = null;
  #minimap: Minimap | null = null;
  #trace: Trace | null = null;
  #details = new DetailsPane();
  #selected = ""; // span ID
  #found = ""; // the text whose matches are shown
  #matches: readonly number[] = [];
  #searchTimer: ReturnType<typeof setTimeout> | undefined;
  #revision = 0;

  connectedCallback(): void {
    const scroller = this.querySelector<HTMLElement>(".rows");
    const list = scroller?.querySelector<HTMLElement>("ol");
    if (!scroller || !list) return;
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    const hues = JSON.parse(this.dataset["hues"] ?? "{}") as Record<string, number>;
    const look = { hues, namedServices: "namedServices" in this.dataset };
    this.#selected = this.dataset["selected"] ?? "";
    this.#rows = new Rows(scroller, list, look);
    const picture = this.querySelector<SVGElement>(".minimap");
    if (picture) this.#minimap = new Minimap(picture, scroller, look, signal);
    scroller.addEventListener("scroll", () => {
      this.#rows?.draw();
      this.#minimap?.markArea();
    }, { signal, passive: true });
    addEventListener("resize", () => this.#rows?.draw(), { signal });
    document.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    document.addEventListener("click", (event) => this.#onClick(event), { signal });
    this.addEventListener("input", (event) => this.#onInput(event), { signal });
    this.addEventListener("submit", (event) => void this.#onSubmit(event), { signal });
    void this.#load();
  }

  disconnectedCallback(): void {
    this.#listeners.abort();
  }

  attributeChangedCallback(_name: string, before: string | null): void {
    if (before !== null && this.#rows) void this.#load();
  }

  #address(call: string): string {
    return `${this.dataset["root"]}api/traces/${this.dataset["trace"]}/${call}`;
  }

  async #load(): Promise<void> {
    const revision = ++this.#revision;
    const response = await fetch(this.#address("waterfall"), { cache: "no-store" });
    if (!response.ok) return; // the rows of the server stay
    const columns = (await response.json()) as Columns;
    if (revision !== this.#revision || !this.#rows) return;
    const folded = this.#trace?.foldedIds() ?? [];
    const isFirst = this.#trace === null;
    const trace = new Trace(columns);
    for (const id of folded) {
      const row = trace.rowOf(id);
      if (row >= 0) trace.fold(row, true);
    }
    this.#trace = trace;
    const hadFocus = this.contains(document.activeElement) && document.activeElement?.matches("a.span");
    this.#rows.trace = trace;
    if (parameter("q")) await this.#search(parameter("q") ?? "");
    else this.#refresh();
    if (isFirst) this.#rows.scrollTo(trace.rowOf(this.#selected));
    if (hadFocus) this.#focus();
  }

  #refresh(): void {
    const trace = this.#trace;
    if (!trace || !this.#rows) return;
    const matches = new Set(this.#matches);
    this.#rows.refresh(trace.rowOf(this.#selected), matches);
    this.#minimap?.draw(trace, matches);
    this.#showNumber("match", this.#matches, "span");
    this.#showNumber("error", trace.failedRows, "error");
  }

  #showNumber(tool: string, rows: readonly number[], word: string): void {
    const output = this.querySelector(`[data-tool="${tool}"] output`);
    const index = rows.indexOf(this.#trace?.rowOf(this.#selected) ?? -1);
    const position = index < 0 ? "" : `${(index + 1).toLocaleString("en")} of `;
    if (output) output.textContent = position + count(rows.length, word);
  }

  #select(row: number, focus = false): void {
    const trace = this.#trace;
    const id = trace?.columns.span_id[row];
    if (!trace || !this.#rows || id === undefined) return;
    const isHidden = trace.reveal(row);
    this.#selected = id;
    setParameters({ span: id, page: null });
    const matches = new Set(this.#matches);
    this.#rows.refresh(row, matches);
    if (isHidden) this.#minimap?.draw(trace, matches);
    this.#showNumber("match", this.#matches, "span");
    this.#showNumber("error", trace.failedRows, "error");
    this.#rows.scrollTo(row);
    if (focus) this.#focus();
    if (parameter("logs") === "span") loadAddress();
    else void this.#details.show(id);
  }

  #focus(): void {
    this.#rows?.link(this.#trace?.rowOf(this.#selected) ?? -1)?.focus({ preventScroll: true });
  }

  #move(step: number): void {
    const trace = this.#trace;
    if (!trace) return;
    const place = trace.placeOf(trace.rowOf(this.#selected)) + step;
    const row = trace.visible[Math.min(Math.max(place, 0), trace.visible.length - 1)];
    if (row !== undefined) this.#select(row, this.contains(document.activeElement));
  }

  #step(kind: string, step: 1 | -1): void {
    const trace = this.#trace;
    const rows = kind === "match" ? this.#matches : (trace?.failedRows ?? []);
    if (trace && rows.length) this.#select(trace.next(rows, trace.rowOf(this.#selected), step));
  }

  #fold(row: number, folded: boolean): boolean {
    if (!this.#trace?.fold(row, folded)) return false;
    this.#refresh();
    return true;
  }

  #onKey(event: KeyboardEvent): void {
    const target = event.target as Element;
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
    const inTree = target.closest(".waterfall ol") !== null;
    const steps: Record<string, number> = { j: 1, k: -1 };
    if (inTree) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE_ROWS, PageUp: -PAGE_ROWS, Home: -Infinity, End: Infinity });
    const step = steps[event.key];
    const row = this.#trace?.rowOf(this.#selected) ?? -1;
    if (step !== undefined) this.#move(step);
    else if (event.key === "e" || event.key === "E") this.#step("error", event.shiftKey ? -1 : 1);
    else if (inTree && event.key === "ArrowLeft") {
      if (!this.#fold(row, true)) this.#select(this.#trace?.parents[row] ?? -1, true);
    } else if (inTree && event.key === "ArrowRight") {
      if (!this.#fold(row, false) && this.#trace?.hasChildren(row)) this.#move(1);
    } else return;
    event.preventDefault();
  }

  #onClick(event: MouseEvent): void {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const target = event.target as Element;
    const trace = this.#trace;
    if (!trace) return;
    const foldAll = target.closest<HTMLElement>("[data-fold-all]");
    const row = Number(target.closest<HTMLElement>("li[data-row]")?.dataset["row"] ?? -1);
    const step = target.closest<HTMLElement>("[data-step]");
    const link = target.closest<HTMLElement>("a[data-span], a[data-logs]");
    const { span, logs } = link?.dataset ?? {};
    if (foldAll) {
      trace.foldAll(foldAll.dataset["foldAll"] === "true");
      this.#refresh();
    } else if (target.closest("[data-fold]")) this.#fold(row, !trace.isFolded(row));
    else if (step) {
      const kind = step.closest<HTMLElement>("[data-steps]")?.dataset["steps"] ?? "";
      this.#step(kind, Number(step.dataset["step"]) < 0 ? -1 : 1);
    } else if (logs) {
      setParameters({ logs });
      loadAddress();
    } else if (span && (row >= 0 || trace.rowOf(span) >= 0)) {
      this.#select(row >= 0 ? row : trace.rowOf(span), row >= 0);
      const record = target.closest<SVGElement>("[data-log]")?.dataset["log"];
      if (record) openLogRecord(record);
    } else return;
    event.preventDefault();
  }

  #onInput(event: Event): void {
    const field = event.target as HTMLInputElement;
    if (field.name !== "q") return;
    clearTimeout(this.#searchTimer);
    this.#searchTimer = setTimeout(() => void this.#search(field.value), SEARCH_DELAY_MS);
  }

  // The return key goes to the next match.
  async #onSubmit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    clearTimeout(this.#searchTimer);
    const text = new FormData(event.target as HTMLFormElement).get("q");
    if (typeof text === "string" && text.trim() !== this.#found) await this.#search(text);
    this.#step("match", 1);
  }

  async #search(text: string): Promise<void> {
    const query = text.trim();
    setParameters({ q: query });
    const response = query ? await fetch(this.#address(`search?q=${encodeURIComponent(query)}`)) : null;
    const answer = response?.ok ? ((await response.json()) as { span_ids: string[] }) : { span_ids: [] };
    if ((parameter("q") ?? "") !== query) return;
    this.#found = query;
    const found = answer.span_ids.map((id) => this.#trace?.rowOf(id) ?? -1).filter((row) => row >= 0);
    this.#matches = found.sort((one, other) => one - other);
    this.querySelector<HTMLElement>('[data-tool="match"]')?.toggleAttribute("hidden", !query);
    this.#refresh();
  }
}

customElements.define("trace-waterfall", TraceWaterfall);

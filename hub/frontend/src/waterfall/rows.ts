// Draw the visible rows of a trace: only those in the scrolled area are in the document.
import { duration } from "./format";
import type { Trace } from "./trace";

export const ROW_HEIGHT = 23;
const EXTRA_ROWS = 12; // above and below the scrolled area
const MAX_INDENT = 12;
const SVG = "http://www.w3.org/2000/svg";

export interface Look {
  readonly hues: Readonly<Record<string, number>>;
  readonly namedServices: boolean;
}

export class Rows {
  readonly #elements = new Map<number, HTMLLIElement>();
  #trace: Trace | null = null;
  #selected = -1;
  #matches: ReadonlySet<number> = new Set();

  constructor(
    readonly scroller: HTMLElement,
    readonly list: HTMLElement,
    readonly look: Look,
  ) {}

  set trace(trace: Trace) {
    this.#trace = trace;
    this.list.setAttribute("role", "tree");
    this.list.setAttribute("aria-label", "Spans");
    this.#elements.clear();
    this.list.replaceChildren();
  }

  // Draw all rows of the scrolled area again, because other rows are selected, found or folded.
  refresh(selected: number, matches: ReadonlySet<number>): void {
    this.#selected = selected;
    this.#matches = matches;
    if (this.#trace) this.list.style.height = `${this.#trace.visible.length * ROW_HEIGHT}px`;
    for (const [row, element] of this.#elements) this.#updateState(row, element);
    this.draw();
  }

  // Add the rows that have come into the scrolled area, and remove others. The selected row stays: it has the focus.
  draw(): void {
    const trace = this.#trace;
    if (!trace) return;
    const first = Math.floor(this.scroller.scrollTop / ROW_HEIGHT) - EXTRA_ROWS;
    const last = Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / ROW_HEIGHT) + EXTRA_ROWS;
    const needed = new Set(trace.visible.subarray(Math.max(first, 0), Math.max(last, 0)));
    if (trace.placeOf(this.#selected) >= 0) needed.add(this.#selected);
    for (const [row, element] of this.#elements) {
      if (needed.has(row)) continue;
      element.remove();
      this.#elements.delete(row);
    }
    for (const row of needed) {
      let element = this.#elements.get(row);
      if (!element) {
        element = this.#create(trace, row);
        this.#elements.set(row, element);
        this.#updateState(row, element);
        this.list.append(element);
      }
      element.style.top = `${trace.placeOf(row) * ROW_HEIGHT}px`;
    }
  }

  link(row: number): HTMLAnchorElement | null {
    return this.#elements.get(row)?.querySelector<HTMLAnchorElement>("a.span") ?? null;
  }

  // Scroll until a row is visible, and draw. A row that is far away is shown in the middle.
  scrollTo(row: number): void {
    const place = this.#trace?.placeOf(row) ?? -1;
    if (place < 0) return;
    const axis = this.list.offsetTop;
    const top = place * ROW_HEIGHT;
    const height = this.scroller.clientHeight - axis;
    const shown = this.scroller.scrollTop;
    if (top >= shown && top + ROW_HEIGHT <= shown + height) return;
    const isNear = top >= shown - 2 * ROW_HEIGHT && top <= shown + height + 2 * ROW_HEIGHT;
    if (!isNear) this.scroller.scrollTop = top - height / 2;
    else this.scroller.scrollTop = top < shown ? top : top + ROW_HEIGHT - height;
    this.draw();
  }

  #updateState(row: number, element: HTMLLIElement): void {
    const trace = this.#trace!;
    const isSelected = row === this.#selected;
    element.classList.toggle("match", this.#matches.has(row));
    const link = element.querySelector("a.span")!;
    link.setAttribute("aria-selected", String(isSelected));
    link.setAttribute("tabindex", isSelected ? "0" : "-1");
    if (isSelected) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    if (!trace.hasChildren(row)) return;
    const expanded = String(!trace.isFolded(row));
    link.setAttribute("aria-expanded", expanded);
    element.querySelector("[data-fold]")!.setAttribute("aria-expanded", expanded);
  }

  #create(trace: Trace, row: number): HTMLLIElement {
    const { columns } = trace;
    const service = columns.services[columns.service[row]!]!;
    const depth = columns.depth[row]!;
    const item = document.createElement("li");
    item.setAttribute("role", "none");
    item.className = `hue-${this.look.hues[service] ?? 0} depth-${Math.min(depth, MAX_INDENT)}`;
    item.classList.toggle("failed", trace.failed.has(row));
    item.dataset["row"] = String(row);
    const fold = element("span", "fold");
    fold.setAttribute("aria-hidden", "true"); // with the keyboard, the arrow keys fold
    if (trace.hasChildren(row)) {
      const button = element("button", "");
      button.tabIndex = -1;
      button.setAttribute("type", "button");
      button.dataset["fold"] = "";
      fold.append(button);
    }
    const link = document.createElement("a");
    link.className = "span";
    link.href = spanAddress(columns.span_id[row]!);
    link.dataset["span"] = columns.span_id[row]!;
    link.setAttribute("role", "treeitem");
    link.setAttribute("aria-level", String(depth + 1));
    link.setAttribute("aria-setsize", String(trace.setSizes[row]));
    link.setAttribute("aria-posinset", String(trace.setPositions[row]));
    const own = columns.self_ns[row];
    const name = columns.names[columns.name[row]!]!;
    link.title = name + (typeof own === "number" ? ` · self ${duration(own)}` : "");
    link.append(this.#name(trace, row, name, service), this.#bar(trace, row));
    item.append(fold, link);
    return item;
  }

  #name(trace: Trace, row: number, name: string, service: string): HTMLElement {
    const cell = element("span", "name");
    const dot = element("span", "dot");
    dot.title = service;
    cell.append(dot, element("span", "", name || "(no name)"));
    if (this.look.namedServices && trace.entersService.has(row)) cell.append(element("span", "service-name", service));
    if (trace.parentMissing.has(row)) {
      const missing = element("span", "muted", "↑");
      missing.title = "The parent span is not stored: its service sends elsewhere, or has not exported it yet.";
      cell.append(missing);
    }
    const error = trace.errorTypes.get(row) ?? (trace.failed.has(row) ? "error" : null);
    if (error !== null) cell.append(element("span", "error", error));
    const links = trace.links.get(row);
    if (links) {
      const mark = element("span", "muted", "⇄");
      mark.title = `${links} ${links === 1 ? "link" : "links"} to other spans`;
      cell.append(mark);
    }
    return cell;
  }

  #bar(trace: Trace, row: number): SVGElement {
    const { columns } = trace;
    const left = columns.left[row]!;
    const width = columns.width[row]!;
    const ns = columns.duration_ns[row];
    const text = typeof ns === "number" ? duration(ns) : (trace.noDuration.get(row) ?? "");
    const start = columns.start_ns[row];
    const label = typeof start === "number" ? `${text}, ${duration(start)} after the start` : text;
    const bar = svg("svg", { class: "span-bar", width: "100%", height: 22, role: "img", "aria-label": label });
    for (const [position] of columns.ticks) {
      bar.append(svg("line", { class: "grid", x1: `${position}%`, x2: `${position}%`, y1: 0, y2: 22 }));
    }
    const extent = svg("svg", { x: `${left}%`, width: `${width}%`, height: 22, overflow: "visible" });
    extent.append(
      svg("rect", { class: "extent", y: 5, width: "100%", height: 12, rx: 1.5 }),
      svg("rect", { class: "extent", y: 5, width: 2, height: 12, rx: 1 }),
    );
    bar.append(extent);
    for (const [from, length] of trace.critical.get(row) ?? []) {
      bar.append(svg("rect", { class: "critical", x: `${from}%`, width: `${length}%`, y: 15, height: 2 }));
    }
    for (const { left: position, severity, text: body, timeNs } of trace.logs.get(row) ?? []) {
      const level = severity >= 17 ? " error" : severity >= 13 ? " warn" : "";
      const mark = svg("circle", { class: `mark${level}`, cx: `${position}%`, cy: 19.5, r: 2, "data-log": timeNs });
      const title = svg("title", {});
      title.textContent = body;
      mark.append(title);
      bar.append(mark);
    }
    const label_ = svg("text", { x: `${left + width}%`, dx: 8, y: 15 });
    label_.textContent = text;
    bar.append(label_);
    return bar;
  }
}

export function spanAddress(spanId: string): string {
  const address = new URL(location.href);
  address.searchParams.set("span", spanId);
  address.searchParams.delete("page");
  address.hash = "";
  return address.href;
}

function element(name: string, className: string, text = ""): HTMLElement {
  const created = document.createElement(name);
  if (className) created.className = className;
  if (text) created.textContent = text;
  return created;
}

export function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const created = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, String(value));
  return created;
}

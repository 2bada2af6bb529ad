// The heatmap of traces: draw a rectangle to select its times and durations. Without this script, the cells are links.

const MIN_PIXELS = 5;
const SVG = "http://www.w3.org/2000/svg";

interface Point {
  x: number;
  y: number;
}

class TraceHeatmap extends HTMLElement {
  #listeners: AbortController | null = null;
  #start: Point | null = null;
  #rectangle: SVGRectElement | null = null;

  connectedCallback(): void {
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    this.addEventListener("pointerdown", (event) => this.#begin(event), { signal });
    document.addEventListener("pointermove", (event) => this.#move(event), { signal });
    document.addEventListener("pointerup", (event) => this.#end(event), { signal });
    document.addEventListener("pointercancel", () => this.#cancel(), { signal });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#cancel(), { signal });
    // The click that ends a rectangle must not follow the link of the cell below.
    this.addEventListener("click", (event) => this.#rectangle && event.preventDefault(), { signal, capture: true });
    this.addEventListener("dragstart", (event) => event.preventDefault(), { signal });
  }

  disconnectedCallback(): void {
    this.#listeners?.abort();
  }

  #begin(event: PointerEvent): void {
    if (event.button !== 0 || !event.isPrimary || !(event.target as Element).closest(".cells")) return;
    this.#cancel();
    this.#start = this.#position(event);
  }

  #move(event: PointerEvent): void {
    if (!this.#start) return;
    const end = this.#position(event);
    if (!this.#rectangle) {
      if (Math.hypot(end.x - this.#start.x, end.y - this.#start.y) < MIN_PIXELS) return;
      this.#rectangle = document.createElementNS(SVG, "rect");
      this.#rectangle.setAttribute("class", "selection");
      this.querySelector(".cells")?.append(this.#rectangle);
    }
    const set = (name: string, value: number) => this.#rectangle?.setAttribute(name, String(value));
    set("x", Math.min(this.#start.x, end.x));
    set("y", Math.min(this.#start.y, end.y));
    set("width", Math.abs(end.x - this.#start.x));
    set("height", Math.abs(end.y - this.#start.y));
  }

  #end(event: PointerEvent): void {
    const start = this.#start;
    this.#start = null;
    if (start && this.#rectangle) this.#select(start, this.#position(event));
  }

  #cancel(): void {
    this.#start = null;
    this.#rectangle?.remove();
    this.#rectangle = null;
  }

  // The position inside the drawing, in pixels.
  #position(event: PointerEvent): Point {
    const box = this.#field().getBoundingClientRect();
    return {
      x: Math.min(Math.max(event.clientX - box.left, 0), box.width),
      y: Math.min(Math.max(event.clientY - box.top, 0), box.height),
    };
  }

  #field(): SVGRectElement {
    return this.querySelector(".field") as SVGRectElement;
  }

  #select(start: Point, end: Point): void {
    const { width, height } = this.#field().getBoundingClientRect();
    const address = new URL(location.href);
    const parameters = address.searchParams;
    for (const name of [...parameters.keys()]) {
      if (/^(?:select|against)\.|^cursor$/.test(name)) parameters.delete(name);
    }
    parameters.set("select.since", this.#time(Math.min(start.x, end.x) / width));
    parameters.set("select.until", this.#time(Math.max(start.x, end.x) / width));
    parameters.set("select.min_duration", this.#duration(height - Math.max(start.y, end.y)));
    parameters.set("select.max_duration", this.#duration(height - Math.min(start.y, end.y)));
    address.hash = "explanation";
    location.assign(address);
  }

  // Unix seconds at a share of the width. Nanoseconds since 1970 exceed the precision of a number.
  #time(share: number): string {
    const since = BigInt(this.dataset["since"] ?? 0);
    const until = BigInt(this.dataset["until"] ?? 0);
    const digits = (since + BigInt(Math.round(share * Number(until - since)))).toString().padStart(10, "0");
    return `${digits.slice(0, -9)}.${digits.slice(-9)}`;
  }

  // The duration at a height above the bottom: rows are logarithmic.
  #duration(height: number): string {
    const bounds = (this.dataset["bounds"] ?? "").split(" ").map(Number);
    const position = Math.min(Math.max(height / Number(this.dataset["rowHeight"]), 0), bounds.length - 1);
    const row = Math.min(Math.floor(position), bounds.length - 2);
    const low = Math.max(bounds[row] ?? 1, 1);
    const high = bounds[row + 1] ?? low;
    return `${Math.round(low * (high / low) ** (position - row))}ns`;
  }
}

customElements.define("trace-heatmap", TraceHeatmap);

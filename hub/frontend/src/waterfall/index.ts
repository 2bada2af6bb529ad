// The waterfall of a trace: select spans, fold them, and move with j, k and the arrow keys.

let timer: ReturnType<typeof setTimeout> | undefined;

// Change the address at once, so that quick changes add up; load the page when the reader pauses.
function setParameter(name: string, value: string): void {
  const address = new URL(location.href);
  address.searchParams.set(name, value);
  address.hash = "";
  history.replaceState(null, "", address);
  clearTimeout(timer);
  timer = setTimeout(() => document.dispatchEvent(new Event("modeltrace:address")), 60);
}

function depthOf(row: Element): number {
  return Number(row.getAttribute("data-depth"));
}

function foldButton(row: Element): HTMLElement | null {
  return row.querySelector<HTMLElement>("[data-fold]");
}

function isFolded(button: Element | null | undefined): boolean {
  return button?.getAttribute("aria-expanded") === "false";
}

function fold(row: Element, closed: boolean): boolean {
  const button = foldButton(row);
  if (!button || isFolded(button) === closed) return false;
  button.setAttribute("aria-expanded", String(!closed));
  let foldedDepth = Infinity;
  for (let next = row.nextElementSibling; next && depthOf(next) > depthOf(row); next = next.nextElementSibling) {
    if (depthOf(next) <= foldedDepth) foldedDepth = Infinity;
    (next as HTMLElement).hidden = closed || depthOf(next) > foldedDepth;
    if (!closed && foldedDepth === Infinity && isFolded(foldButton(next))) foldedDepth = depthOf(next);
  }
  return true;
}

function parentOf(row: Element): Element | null {
  for (let before = row.previousElementSibling; before; before = before.previousElementSibling) {
    if (depthOf(before) < depthOf(row)) return before;
  }
  return null;
}

class TraceWaterfall extends HTMLElement {
  #listeners: AbortController | null = null;

  connectedCallback(): void {
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    document.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    document.addEventListener("click", (event) => this.#onClick(event), { signal });
  }

  disconnectedCallback(): void {
    this.#listeners?.abort();
  }

  get #selected(): HTMLAnchorElement | null {
    return this.querySelector<HTMLAnchorElement>('a.span[aria-current="true"]');
  }

  #select(link: HTMLAnchorElement): void {
    this.#selected?.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    link.scrollIntoView({ block: "nearest" });
    setParameter("span", link.dataset["span"] ?? "");
  }

  #move(step: number): void {
    const links = [...this.querySelectorAll<HTMLAnchorElement>("li:not([hidden]) a.span")];
    const current = links.findIndex((link) => link === this.#selected);
    const next = links[Math.min(Math.max(current + step, 0), links.length - 1)];
    if (!next) return;
    this.#select(next);
    if (this.contains(document.activeElement)) next.focus({ preventScroll: true });
  }

  #onKey(event: KeyboardEvent): void {
    const target = event.target as Element;
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
    const inside = this.contains(target);
    const steps: Record<string, number> = { j: 1, k: -1, ...(inside ? { ArrowDown: 1, ArrowUp: -1 } : {}) };
    const step = steps[event.key];
    if (step !== undefined) {
      event.preventDefault();
      this.#move(step);
    } else if (inside && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const row = this.#selected?.closest("li");
      if (!row) return;
      event.preventDefault();
      if (fold(row, event.key === "ArrowLeft") || event.key === "ArrowRight") return;
      const link = parentOf(row)?.querySelector<HTMLAnchorElement>("a.span");
      if (!link) return;
      this.#select(link);
      link.focus({ preventScroll: true });
    }
  }

  #onClick(event: MouseEvent): void {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = event.target as Element;
    const button = target.closest("[data-fold]");
    if (button) {
      const row = button.closest("li");
      if (row) fold(row, !isFolded(button));
      return;
    }
    const link = target.closest<HTMLAnchorElement>("a[data-span], a[data-logs]");
    if (!link) return;
    event.preventDefault();
    const { span, logs } = link.dataset;
    const row = span && this.querySelector<HTMLAnchorElement>(`a.span[data-span="${CSS.escape(span)}"]`);
    if (row) this.#select(row);
    else if (span) setParameter("span", span);
    else if (logs) setParameter("logs", logs);
  }
}

customElements.define("trace-waterfall", TraceWaterfall);

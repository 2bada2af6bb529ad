// Complete names, operators and values in a filter line. The names and values come from `GET /api/completions`.
import { type Context, contextAt, quote } from "./context";

interface Option {
  text: string;
  note?: string;
}

const OPERATORS: Option[] = [
  { text: "=" },
  { text: "!=", note: "has another value" },
  { text: "~", note: "contains" },
  { text: ">" },
  { text: ">=" },
  { text: "<" },
  { text: "<=" },
  { text: "exists" },
];
const MAX_OPTIONS = 12;

class FilterLine extends HTMLElement {
  #listeners: AbortController | null = null;
  #answers = new Map<string, Promise<Option[]>>();
  #active = -1;
  #shown: { context: Context; options: Option[] } | null = null;

  connectedCallback(): void {
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    const input = this.#input;
    input.addEventListener("input", () => void this.#complete(), { signal });
    input.addEventListener("focus", () => void this.#complete(), { signal });
    input.addEventListener("blur", () => this.#close(), { signal });
    input.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    // A press on an option would take the focus from the field, which closes the list before the click.
    this.#list.addEventListener("pointerdown", (event) => event.preventDefault(), { signal });
    this.#list.addEventListener("click", (event) => this.#onClick(event), { signal });
  }

  disconnectedCallback(): void {
    this.#listeners?.abort();
  }

  get #input(): HTMLInputElement {
    return this.querySelector("input")!;
  }

  get #list(): HTMLElement {
    return this.querySelector<HTMLElement>('[role="listbox"]')!;
  }

  async #complete(): Promise<void> {
    const text = this.#input.value.slice(0, this.#input.selectionStart ?? undefined);
    const context = contextAt(text);
    const options = context ? await this.#options(context) : [];
    if (!context || document.activeElement !== this.#input || !this.#input.value.startsWith(text)) return this.#close();
    const prefix = context.prefix.toLowerCase();
    const matching = options.filter((option) => option.text.toLowerCase().includes(prefix) && option.text !== prefix);
    const starting = matching.filter((option) => option.text.toLowerCase().startsWith(prefix));
    const others = matching.filter((option) => !starting.includes(option));
    this.#show(context, [...starting, ...others].slice(0, MAX_OPTIONS));
  }

  #options(context: Context): Promise<Option[]> {
    if (context.kind === "operator") return Promise.resolve(OPERATORS);
    const name = context.kind === "value" ? `&name=${encodeURIComponent(context.name)}` : "";
    const address = `${this.dataset["completions"]}${name}`;
    let answer = this.#answers.get(address);
    if (!answer) {
      answer = fetchOptions(address);
      this.#answers.set(address, answer);
      // Names and values that arrive later are offered, too.
      setTimeout(() => this.#answers.delete(address), 30_000);
    }
    return answer;
  }

  #show(context: Context, options: Option[]): void {
    if (!options.length) return this.#close();
    this.#shown = { context, options };
    this.#list.replaceChildren(
      ...options.map((option, index) => {
        const item = document.createElement("li");
        item.id = `completion-${index}`;
        item.setAttribute("role", "option");
        const text = document.createElement("code");
        text.textContent = option.text;
        const note = document.createElement("span");
        note.className = "muted";
        note.textContent = option.note ?? "";
        item.append(text, note);
        return item;
      }),
    );
    this.#list.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    this.#activate(-1);
  }

  #close(): void {
    this.#shown = null;
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#activate(-1);
  }

  #activate(index: number): void {
    this.#active = index;
    for (const [number, item] of [...this.#list.children].entries()) {
      item.setAttribute("aria-selected", String(number === index));
    }
    if (index < 0) this.#input.removeAttribute("aria-activedescendant");
    else this.#input.setAttribute("aria-activedescendant", `completion-${index}`);
  }

  #onKey(event: KeyboardEvent): void {
    const count = this.#shown?.options.length ?? 0;
    if (!count) return;
    if (event.key === "ArrowDown") this.#activate((this.#active + 1) % count);
    else if (event.key === "ArrowUp") this.#activate(this.#active <= 0 ? count - 1 : this.#active - 1);
    else if (event.key === "Escape") this.#close();
    else if (event.key === "Enter" && this.#active >= 0) this.#accept(this.#active);
    else return;
    event.preventDefault();
  }

  #onClick(event: MouseEvent): void {
    const item = (event.target as Element).closest('[role="option"]');
    if (item) this.#accept([...this.#list.children].indexOf(item));
  }

  #accept(index: number): void {
    const { context, options } = this.#shown ?? {};
    const option = options?.[index];
    if (!context || !option) return;
    const input = this.#input;
    const inserted = `${context.kind === "operator" ? option.text : quote(option.text, context.kind)} `;
    const rest = input.value.slice(input.selectionStart ?? input.value.length).replace(/^ /, "");
    input.value = input.value.slice(0, context.start) + inserted + rest;
    const caret = context.start + inserted.length;
    input.setSelectionRange(caret, caret);
    void this.#complete();
  }
}

async function fetchOptions(address: string): Promise<Option[]> {
  try {
    const response = await fetch(address);
    if (!response.ok) return [];
    const { names, values } = (await response.json()) as {
      names?: { name: string; description: string }[];
      values?: string[];
    };
    return names?.map(({ name, description }) => ({ text: name, note: description })) ??
      values?.map((text) => ({ text })) ?? [];
  } catch {
    return []; // Without the hub, there are no completions; the page itself says that the hub does not respond.
  }
}

customElements.define("filter-line", FilterLine);

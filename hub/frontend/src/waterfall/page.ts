// The address of the page of a trace, its details pane, and its log records.

// Change parameters of the address without loading the page. A value of null removes the parameter.
export function setParameters(parameters: Readonly<Record<string, string | null>>): void {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === "") address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  }
  address.hash = "";
  history.replaceState(null, "", address);
}

export function parameter(name: string): string | null {
  return new URL(location.href).searchParams.get(name);
}

// Load the page of the current address, and show what differs (static/live.js).
export function loadAddress(): void {
  document.dispatchEvent(new Event("modeltrace:address"));
}

// Shows the details of the selected span. While one is loaded, only the newest of further requests is kept.
export class DetailsPane {
  #wanted: string | null = null;
  #isLoading = false;

  async show(spanId: string): Promise<void> {
    this.#wanted = spanId;
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      while (this.#wanted !== null) {
        const loaded: string = this.#wanted;
        this.#wanted = null;
        await this.#load(loaded);
      }
    } catch {
      loadAddress(); // reports that the hub does not respond
    } finally {
      this.#isLoading = false;
    }
  }

  async #load(spanId: string): Promise<void> {
    const address = new URL(location.href);
    address.searchParams.set("span", spanId);
    address.searchParams.set("part", "span");
    const response = await fetch(address, { cache: "no-store" });
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (parameter("span") !== spanId) return;
    document.querySelector("aside.detail")?.replaceChildren(...page.body.childNodes);
  }
}

// Open the log record with a time in the list below the waterfall.
export function openLogRecord(timeNs: string): void {
  const details = document.querySelector<HTMLDetailsElement>(`.logs > li[data-key^="${CSS.escape(timeNs)}-"] details`);
  if (!details) return;
  details.open = true;
  details.scrollIntoView({ block: "center" });
  details.querySelector("summary")?.focus({ preventScroll: true });
}

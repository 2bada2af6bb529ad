// Update a page: receive what has changed, and change only that. While the reader hovers over a list, has scrolled down
// or uses a control in it, new rows wait behind a button, so that the list does not move. The key p and the button Pause
// stop the updates until they are used again.
import { readChanges } from "./events.js";
import { morph } from "./morph.js";
import { updateTimes } from "./time.js";

const RETRY_MS = 250;
const MAX_RETRY_MS = 5000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const rowKeys = (list) => [...list.children].map((row) => row.dataset.key);

export function live(main, connectionLost, pauseButton) {
  let version = document.querySelector("meta[name=page-version]").content;
  let failures = 0;
  let pendingPage = null;
  let controller = null;

  const isPaused = () => pauseButton.getAttribute("aria-pressed") === "true";
  const interval = () => Number(main.dataset.live) || 0;

  const togglePause = () => {
    pauseButton.setAttribute("aria-pressed", String(!isPaused()));
    if (isPaused()) controller?.abort();
  };

  const isInUse = (list) =>
    list.getBoundingClientRect().top < 0 || list.matches(":hover") || list.matches(":focus-within");

  // Whether the page has other rows in a list that the reader uses, and how many of them are new.
  const compareRows = (page) => {
    const lists = [...page.querySelectorAll("[data-rows]")];
    const result = { moves: false, added: 0, all: true };
    [...main.querySelectorAll("[data-rows]")].forEach((list, index) => {
      const shown = rowKeys(list);
      const next = lists[index] ? rowKeys(lists[index]) : [];
      if (shown.join("\n") === next.join("\n") || !isInUse(list)) return;
      const added = next.filter((key) => !shown.includes(key)).length;
      result.moves = true;
      result.added += added;
      result.all &&= added === next.length;
    });
    return result;
  };

  const showButton = (label) => {
    const container = main.querySelector(".new-rows");
    if (!container) return;
    if (!label) return container.replaceChildren();
    const button = container.querySelector("button") ?? container.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = label;
    button.onclick = () => {
      scrollTo({ top: 0 });
      if (pendingPage) show(pendingPage);
    };
  };

  const show = (page) => {
    pendingPage = null;
    // What is under the pointer stays there, even if something above it has another height now.
    const anchor = [...main.querySelectorAll(":hover")].pop();
    const top = anchor?.getBoundingClientRect().top;
    morph(main, page.querySelector("main"));
    document.title = page.title;
    updateTimes(main);
    showButton("");
    const moved = anchor?.isConnected ? anchor.getBoundingClientRect().top - top : 0;
    if (Math.abs(moved) >= 1) scrollBy({ top: moved, behavior: "instant" });
  };

  const update = (html) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    if (!page.querySelector("main")) return;
    if ("waitForTrace" in main.dataset && !("waitForTrace" in page.querySelector("main").dataset)) return location.reload();
    const rows = compareRows(page);
    if (rows.moves && main.querySelector(".new-rows")) {
      pendingPage = page;
      showButton(rows.added ? `${rows.added}${rows.all ? "+" : ""} new` : "Update the list");
    } else show(page);
  };

  const request = async (headers) => {
    controller?.abort();
    controller = new AbortController();
    const response = await fetch(location.href, { cache: "no-store", signal: controller.signal, headers });
    if (response.status >= 500) throw new Error(response.statusText);
    failures = 0;
    connectionLost.hidden = true;
    return response;
  };

  async function refresh() {
    const address = location.href;
    const response = await request(version ? { "If-None-Match": version } : {});
    if (response.status === 304) return;
    const html = await response.text();
    if (address !== location.href) return; // another script has changed it meanwhile
    version = response.headers.get("ETag") ?? "";
    update(html);
  }

  // Show the changes until the hub ends the response.
  async function follow() {
    const address = location.href;
    const response = await request({ Accept: "text/event-stream", ...(version ? { "Last-Event-ID": version } : {}) });
    if (response.status === 429) { // too many pages receive changes
      await refresh();
      return sleep(Math.min(interval(), MAX_RETRY_MS));
    }
    const type = response.headers.get("Content-Type") ?? "";
    if (type.startsWith("text/html")) return update(await response.text()); // it does not update itself any more
    if (!type.startsWith("text/event-stream")) throw new Error(response.statusText);
    await readChanges(response.body, (id, html) => {
      if (address !== location.href) return controller.abort(); // another script has changed it
      version = id;
      update(html);
    });
  }

  async function run() {
    for (;;) {
      await sleep(failures ? Math.min(RETRY_MS * 2 ** failures, MAX_RETRY_MS) : RETRY_MS);
      pauseButton.hidden = !interval();
      if (!interval() || document.hidden || isPaused()) continue;
      try {
        await follow();
      } catch (error) {
        if (error.name === "AbortError") continue;
        failures = Math.min(failures + 1, 5);
        connectionLost.hidden = false;
      }
    }
  }

  // Another script has changed the address: load the page of the new address.
  document.addEventListener("modeltrace:address", async () => {
    version = "";
    try {
      await refresh();
    } catch (error) {
      if (error.name !== "AbortError") location.reload();
    }
  });

  // A browser opens few connections to a host, so a page that is not visible uses none.
  document.addEventListener("visibilitychange", () => document.hidden && controller?.abort());
  pauseButton.hidden = !interval();
  pauseButton.addEventListener("click", togglePause);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "p" || event.ctrlKey || event.metaKey || event.altKey || pauseButton.hidden) return;
    if (!event.target.closest("input, select, textarea")) togglePause();
  });
  run();
}

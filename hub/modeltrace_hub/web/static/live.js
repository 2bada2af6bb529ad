// Update a page: request it again and change what differs. While the reader hovers over a list, has scrolled down or
// uses a control in it, new rows wait behind a button, so that the list does not move. The key p and the button Pause stop
// the updates until they are used again.
import { morph } from "./morph.js";
import { updateTimes } from "./time.js";

const MAX_INTERVAL_MS = 5000;

export function live(main, connectionLost, pauseButton) {
  let etag = null;
  let failures = 0;
  let pendingPage = null;
  let controller = null;

  const isPaused = () => pauseButton.getAttribute("aria-pressed") === "true";

  const togglePause = () => pauseButton.setAttribute("aria-pressed", String(!isPaused()));

  const isInUse = () => {
    const rows = main.querySelector("[data-rows]");
    if (!rows) return false;
    return scrollY > rows.getBoundingClientRect().top + scrollY || rows.matches(":hover") || rows.matches(":focus-within");
  };

  const show = (page) => {
    pendingPage = null;
    morph(main, page.querySelector("main"));
    document.title = page.title;
    updateTimes(main);
    showButton(0);
  };

  const showButton = (count, all = false) => {
    const container = main.querySelector(".new-rows");
    if (!container) return;
    if (!count) return container.replaceChildren();
    const button = container.querySelector("button") ?? container.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = `${count}${all ? "+" : ""} new`;
    button.onclick = () => {
      scrollTo({ top: 0 });
      if (pendingPage) show(pendingPage);
    };
  };

  const countNewRows = (page) => {
    const known = new Set([...main.querySelectorAll("[data-rows] > *")].map((row) => row.dataset.key));
    return [...page.querySelectorAll("[data-rows] > *")].filter((row) => !known.has(row.dataset.key)).length;
  };

  async function refresh(addressChanged = false) {
    controller = new AbortController();
    const address = location.href;
    const response = await fetch(address, {
      cache: "no-store", signal: controller.signal, headers: etag ? { "If-None-Match": etag } : {},
    });
    if (response.status >= 500) throw new Error(response.statusText);
    failures = 0;
    connectionLost.hidden = true;
    if (response.status === 304) return;
    if ("waitForTrace" in main.dataset && response.ok) return location.reload();
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    // The reader may have paused, or another script may have changed the address, while the page was loading.
    if (address !== location.href || !page.querySelector("main") || (isPaused() && !addressChanged)) return;
    etag = response.headers.get("ETag");
    const count = countNewRows(page);
    if (count && isInUse()) {
      pendingPage = page;
      showButton(count, count === page.querySelectorAll("[data-rows] > *").length);
    } else show(page);
  }

  async function poll() {
    let elapsed = 0;
    for (;;) {
      const interval = Number(main.dataset.live) || 0;
      // A slow hub is polled less often.
      const delay = interval ? Math.min(interval * 2 ** failures + elapsed, MAX_INTERVAL_MS) : 1000;
      await new Promise((resolve) => setTimeout(resolve, delay));
      pauseButton.hidden = !interval;
      if (!interval || document.hidden || isPaused()) continue;
      const started = performance.now();
      try {
        await refresh();
      } catch (error) {
        if (error.name === "AbortError") continue;
        failures = Math.min(failures + 1, 4);
        connectionLost.hidden = false;
      }
      elapsed = performance.now() - started;
    }
  }

  // Another script has changed the address: load the page of the new address.
  document.addEventListener("modeltrace:address", async () => {
    controller?.abort();
    etag = null;
    try {
      await refresh(true);
    } catch (error) {
      if (error.name !== "AbortError") location.reload();
    }
  });

  pauseButton.hidden = !Number(main.dataset.live);
  pauseButton.addEventListener("click", togglePause);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "p" || event.ctrlKey || event.metaKey || event.altKey || pauseButton.hidden) return;
    if (!event.target.closest("input, select, textarea")) togglePause();
  });
  poll();
}

// Keeps a page up to date: asks for the page again and changes what differs. While somebody points at a list, reads
// further down or has a control open, new rows wait behind a button, so that nothing moves under them.
import { morph } from "./morph.js";
import { tick } from "./time.js";

const SLOWEST = 5000;

export function live(main, lost) {
  let etag = null;
  let failures = 0;
  let waiting = null;
  let controller = null;

  const busy = () => {
    const rows = main.querySelector("[data-rows]");
    if (!rows) return false;
    return scrollY > rows.getBoundingClientRect().top + scrollY || rows.matches(":hover") || rows.matches(":focus-within");
  };

  const show = (next) => {
    waiting = null;
    morph(main, next.querySelector("main"));
    document.title = next.title;
    tick(main);
    offer(0);
  };

  const offer = (count, all = false) => {
    const place = main.querySelector(".fresh");
    if (!place) return;
    if (!count) return place.replaceChildren();
    const button = place.querySelector("button") ?? place.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = `${count}${all ? "+" : ""} new`;
    button.onclick = () => {
      scrollTo({ top: 0 });
      if (waiting) show(waiting);
    };
  };

  const news = (next) => {
    const known = new Set([...main.querySelectorAll("[data-rows] > tr")].map((row) => row.dataset.key));
    return [...next.querySelectorAll("[data-rows] > tr")].filter((row) => !known.has(row.dataset.key)).length;
  };

  async function look() {
    controller = new AbortController();
    const address = location.href;
    const answer = await fetch(address, {
      cache: "no-store", signal: controller.signal, headers: etag ? { "If-None-Match": etag } : {},
    });
    if (answer.status >= 500) throw new Error(answer.statusText);
    failures = 0;
    lost.hidden = true;
    if (answer.status === 304) return;
    if ("untilFound" in main.dataset && answer.ok) return location.reload();
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (address !== location.href || !next.querySelector("main")) return;
    etag = answer.headers.get("ETag");
    const count = news(next);
    if (count && busy()) {
      waiting = next;
      offer(count, count === next.querySelectorAll("[data-rows] > tr").length);
    } else show(next);
  }

  async function keepLooking() {
    let took = 0;
    for (;;) {
      const pause = Number(main.dataset.live) || 0;
      // A hub that needs long to answer is asked less often.
      await new Promise((resolve) => setTimeout(resolve, pause ? Math.min(pause * 2 ** failures + took, SLOWEST) : 1000));
      if (!pause || document.hidden) continue;
      const began = performance.now();
      try {
        await look();
      } catch (error) {
        if (error.name === "AbortError") continue;
        failures = Math.min(failures + 1, 4);
        lost.hidden = false;
      }
      took = performance.now() - began;
    }
  }

  // Other scripts change the address, then ask for the page that belongs to it.
  document.addEventListener("modeltrace:address", async () => {
    controller?.abort();
    etag = null;
    try {
      await look();
    } catch (error) {
      if (error.name !== "AbortError") location.reload();
    }
  });

  keepLooking();
}

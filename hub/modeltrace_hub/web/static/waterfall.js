// Control the waterfall with mouse and keyboard: select spans, fold them, and move with j, k and the arrow keys.

const links = () => [...document.querySelectorAll(".waterfall li:not([hidden]) a.span")];

let timer;

// Change the address at once, so that quick changes add up; load the page when the reader pauses.
function setParameter(name, value) {
  const address = new URL(location.href);
  address.searchParams.set(name, value);
  address.hash = "";
  history.replaceState(null, "", address);
  clearTimeout(timer);
  timer = setTimeout(() => document.dispatchEvent(new Event("modeltrace:address")), 60);
}

function select(link) {
  for (const other of document.querySelectorAll('a.span[aria-current="true"]')) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  link.scrollIntoView({ block: "nearest" });
  setParameter("span", link.dataset.span);
}

function fold(row, closed) {
  const button = row.querySelector("[data-fold]");
  if (!button) return false;
  if ((button.getAttribute("aria-expanded") === "false") === closed) return false;
  button.setAttribute("aria-expanded", String(!closed));
  const depth = Number(row.dataset.depth);
  let foldedDepth = Infinity;
  for (let next = row.nextElementSibling; next && Number(next.dataset.depth) > depth; next = next.nextElementSibling) {
    const nextDepth = Number(next.dataset.depth);
    if (nextDepth <= foldedDepth) foldedDepth = Infinity;
    next.hidden = closed || nextDepth > foldedDepth;
    const nested = next.querySelector("[data-fold]");
    if (!closed && foldedDepth === Infinity && nested?.getAttribute("aria-expanded") === "false") foldedDepth = nextDepth;
  }
  return true;
}

function parentOf(row) {
  const depth = Number(row.dataset.depth);
  for (let before = row.previousElementSibling; before; before = before.previousElementSibling) {
    if (Number(before.dataset.depth) < depth) return before;
  }
  return null;
}

function move(step) {
  const all = links();
  const current = all.findIndex((link) => link.getAttribute("aria-current") === "true");
  const next = all[Math.min(Math.max(current + step, 0), all.length - 1)];
  if (next) {
    select(next);
    if (document.activeElement?.closest(".waterfall")) next.focus({ preventScroll: true });
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const inside = event.target.closest?.(".waterfall");
  const steps = { j: 1, k: -1, ...(inside ? { ArrowDown: 1, ArrowUp: -1 } : {}) };
  if (event.key in steps) {
    event.preventDefault();
    move(steps[event.key]);
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const row = document.querySelector('a.span[aria-current="true"]')?.closest("li");
    if (!row || !inside) return;
    event.preventDefault();
    if (fold(row, event.key === "ArrowLeft") || event.key === "ArrowRight") return;
    const link = parentOf(row)?.querySelector("a.span");
    if (link) {
      select(link);
      link.focus({ preventScroll: true });
    }
  }
}

export function waterfall() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const button = event.target.closest("[data-fold]");
    if (button) {
      fold(button.closest("li"), button.getAttribute("aria-expanded") === "true");
      return;
    }
    const link = event.target.closest("a[data-span], a[data-logs]");
    if (!link) return;
    event.preventDefault();
    const row = link.dataset.span && document.querySelector(`.waterfall a.span[data-span="${CSS.escape(link.dataset.span)}"]`);
    if (row) select(row);
    else if (link.dataset.span) setParameter("span", link.dataset.span);
    else setParameter("logs", link.dataset.logs);
  });
}

// The waterfall by keyboard and mouse: select without leaving the page, fold, move with j, k and the arrows.

const links = () => [...document.querySelectorAll(".waterfall li:not([hidden]) a.span")];

let timer;

// The address changes at once, so that two changes in a row add up; the page follows when the reader pauses.
function open(what, which) {
  const address = new URL(location.href);
  address.searchParams.set(what, which);
  address.hash = "";
  history.replaceState(null, "", address);
  clearTimeout(timer);
  timer = setTimeout(() => document.dispatchEvent(new Event("modeltrace:address")), 60);
}

function select(link) {
  for (const other of document.querySelectorAll('a.span[aria-current="true"]')) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  link.scrollIntoView({ block: "nearest" });
  open("span", link.dataset.span);
}

function fold(row, closed) {
  const button = row.querySelector("[data-fold]");
  if (!button) return false;
  if ((button.getAttribute("aria-expanded") === "false") === closed) return false;
  button.setAttribute("aria-expanded", String(!closed));
  const depth = Number(row.dataset.depth);
  let inner = Infinity;
  for (let next = row.nextElementSibling; next && Number(next.dataset.depth) > depth; next = next.nextElementSibling) {
    const own = Number(next.dataset.depth);
    if (own <= inner) inner = Infinity;
    next.hidden = closed || own > inner;
    const nested = next.querySelector("[data-fold]");
    if (!closed && inner === Infinity && nested?.getAttribute("aria-expanded") === "false") inner = own;
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
  const at = all.findIndex((link) => link.getAttribute("aria-current") === "true");
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
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
    else if (link.dataset.span) open("span", link.dataset.span);
    else open("logs", link.dataset.logs);
  });
}

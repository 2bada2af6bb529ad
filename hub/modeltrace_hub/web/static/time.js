// Update relative times every second. On hover, add the exact time in the reader's time zone.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function age(seconds) {
  if (seconds < 0) return null;
  if (seconds < 1) return "now";
  const [size, unit] = UNITS.find(([size]) => seconds >= size);
  return `${Math.floor(seconds / size)}\u202f${unit} ago`;
}

export function updateTimes(root = document) {
  const now = Date.now() / 1000;
  for (const time of root.querySelectorAll("time[data-ns]")) {
    const text = age(now - Number(time.dataset.ns) / 1e9);
    if (text !== null && time.textContent !== text) time.textContent = text;
  }
}

export function startClock() {
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time[data-ns]");
    if (!time || time.dataset.local) return;
    const local = new Date(Number(time.dataset.ns) / 1e6).toLocaleString(undefined, { timeZoneName: "short" });
    time.title += `\n${local}`;
    time.dataset.local = "yes";
  });
  updateTimes();
  setInterval(updateTimes, 1000);
}

// Apply the colours that the reader has chosen, and show what needs scripts. This script runs before the page is drawn,
// so that nothing changes or moves while it loads. The button #theme switches the colours.
(() => {
  document.documentElement.classList.remove("no-js");
  const read = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const apply = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(read());
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme")) return;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const current = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
    const next = current === "dark" ? "light" : "dark";
    // The choice that equals the system's is not stored: the page then follows the system again.
    const choice = (next === "dark") === dark ? null : next;
    apply(choice);
    try {
      if (choice) localStorage.setItem("theme", choice);
      else localStorage.removeItem("theme");
    } catch { /* the choice lasts until the page is left */ }
  });
})();

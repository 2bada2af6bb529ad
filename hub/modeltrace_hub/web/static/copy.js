// A click on anything with data-copy copies it, and says so.
export function copyOnClick(said) {
  let timer;
  const say = (words) => {
    said.textContent = words;
    said.classList.add("on");
    clearTimeout(timer);
    timer = setTimeout(() => said.classList.remove("on"), 1500);
  };
  document.addEventListener("click", async (event) => {
    const source = event.target.closest("[data-copy]");
    if (!source || String(getSelection())) return;
    event.preventDefault();
    try {
      await navigator.clipboard.writeText(source.dataset.copy);
      say("Copied");
    } catch {
      getSelection().selectAllChildren(source);
      say("Press Ctrl-C to copy");
    }
  });
}

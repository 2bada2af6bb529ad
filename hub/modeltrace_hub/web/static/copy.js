// Copy the text of an element with data-copy when it is clicked, and confirm it in a toast.
export function copyOnClick(toast) {
  let timer;
  const notify = (text) => {
    toast.textContent = text;
    toast.classList.add("visible");
    clearTimeout(timer);
    timer = setTimeout(() => toast.classList.remove("visible"), 1500);
  };
  document.addEventListener("click", async (event) => {
    const source = event.target.closest("[data-copy]");
    if (!source || String(getSelection())) return;
    event.preventDefault();
    try {
      await navigator.clipboard.writeText(source.dataset.copy);
      notify("Copied");
    } catch {
      getSelection().selectAllChildren(source);
      notify("Press Ctrl-C to copy");
    }
  });
}

// Makes one element like another by changing only what differs, so that focus, selection, open parts and the scroll
// position stay. Children are told apart by data-key or id; those without one by their place.

// What only the page here decides.
const OURS = new Set(["open", "hidden", "aria-expanded", "data-local"]);

const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || null : null;

export function morph(here, there) {
  for (const { name } of [...here.attributes]) {
    if (!there.hasAttribute(name) && !OURS.has(name) && name !== "class") here.removeAttribute(name);
  }
  for (const { name, value } of there.attributes) {
    if (OURS.has(name) || here.getAttribute(name) === value) continue;
    if (name === "title" && here.dataset.local) continue;
    here.setAttribute(name, value);
  }
  if (here.localName === "time") return;
  if (here === document.activeElement && /^(input|select)$/.test(here.localName)) return;
  if (!here.hasAttribute("data-keep")) children(here, there);
}

function children(here, there) {
  const keyed = new Map();
  for (const child of here.childNodes) {
    const key = keyOf(child);
    if (key) keyed.set(key, child);
  }
  let at = here.firstChild;
  for (const wanted of [...there.childNodes]) {
    const key = keyOf(wanted);
    let match = key ? keyed.get(key) : at;
    while (!key && match && keyOf(match)) match = match.nextSibling;
    if (match && match.nodeName === wanted.nodeName) {
      if (match !== at) here.insertBefore(match, at);
      if (match.nodeType === Node.TEXT_NODE) {
        if (match.data !== wanted.data) match.data = wanted.data;
      } else if (match.nodeType === Node.ELEMENT_NODE) morph(match, wanted);
      at = match.nextSibling;
    } else {
      const added = document.importNode(wanted, true);
      if (added.localName === "tr" && keyed.size) added.classList.add("new");
      here.insertBefore(added, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

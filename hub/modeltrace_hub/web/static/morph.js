// Make an element equal to another one by changing only what differs, so that focus, selection, open details and the
// scroll position stay. Children are identified by data-key or id, others by their position.

// Attributes that the page itself controls.
const LOCAL_ATTRIBUTES = new Set(["open", "hidden", "aria-expanded", "aria-activedescendant", "data-local"]);

const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || null : null;

export function morph(target, source) {
  if (target.hasAttribute("data-keep")) return; // a script draws this element
  for (const { name } of [...target.attributes]) {
    if (!source.hasAttribute(name) && !LOCAL_ATTRIBUTES.has(name) && name !== "class") target.removeAttribute(name);
  }
  for (const { name, value } of source.attributes) {
    if (LOCAL_ATTRIBUTES.has(name) || target.getAttribute(name) === value) continue;
    if (name === "title" && target.dataset.local) continue;
    target.setAttribute(name, value);
  }
  if (target.localName === "time") return;
  if (target === document.activeElement && /^(input|select)$/.test(target.localName)) return;
  morphChildren(target, source);
}

function morphChildren(target, source) {
  const keyed = new Map();
  for (const child of target.childNodes) {
    const key = keyOf(child);
    if (key) keyed.set(key, child);
  }
  let current = target.firstChild;
  for (const sourceChild of [...source.childNodes]) {
    const key = keyOf(sourceChild);
    let match = key ? keyed.get(key) : current;
    while (!key && match && keyOf(match)) match = match.nextSibling;
    if (match && match.nodeName === sourceChild.nodeName) {
      if (match !== current) target.insertBefore(match, current);
      if (match.nodeType === Node.TEXT_NODE) {
        if (match.data !== sourceChild.data) match.data = sourceChild.data;
      } else if (match.nodeType === Node.ELEMENT_NODE) morph(match, sourceChild);
      current = match.nextSibling;
    } else {
      const added = document.importNode(sourceChild, true);
      if (key && keyed.size && target.hasAttribute("data-rows")) added.classList.add("just-added");
      target.insertBefore(added, current);
    }
  }
  while (current) {
    const next = current.nextSibling;
    current.remove();
    current = next;
  }
}

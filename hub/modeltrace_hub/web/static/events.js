// Read the changes of a page, which the hub sends as server-sent events (web/live_updates.py). The browser's own
// EventSource neither tells the status of a response nor sends the version of the page that is shown.

// Call onPage with the version and the HTML of the page after each event. Return when the hub ends the response.
export async function readChanges(body, onPage) {
  let lines = [];
  for await (const { id, data } of events(body)) {
    const next = [];
    for (const part of JSON.parse(data)) {
      if (typeof part === "string") next.push(...part.split("\n"));
      else next.push(...lines.slice(part[0], part[0] + part[1]));
    }
    lines = next;
    onPage(id, lines.join("\n"));
  }
}

// The hub writes one line per field, a space after each colon, and a comment for nothing.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (fields.data) yield { id: fields.id ?? "", data: fields.data };
    }
  }
}

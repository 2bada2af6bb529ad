// What is written at the end of an unfinished filter line. The grammar is that of queries/filter_line.py of the hub.

export interface Context {
  kind: "name" | "operator" | "value";
  // The name of the condition, if the kind is not "name".
  name: string;
  // Where the unfinished part starts, and its text without quotation marks.
  start: number;
  prefix: string;
}

const PARTS = {
  name: /"(?:[^"\\]|\\.)*"?|[^\s"=!<>~]+/y,
  operator: /!=|>=|<=|[=><~]|\w+/y,
  value: /"(?:[^"\\]|\\.)*"?|[^\s"]\S*/y,
};

// Return null if the line is invalid before its end.
export function contextAt(line: string): Context | null {
  let kind: Context["kind"] = "name";
  let name = "";
  let position = 0;
  for (;;) {
    position += /^\s*/.exec(line.slice(position))![0].length;
    if (position === line.length) return { kind, name, start: position, prefix: "" };
    const part: RegExp = PARTS[kind];
    part.lastIndex = position;
    const text: string | undefined = part.exec(line)?.[0];
    if (text === undefined) return null;
    const end = position + text.length;
    const symbol: boolean = kind === "operator" && !/\w/.test(text);
    if (end === line.length && !symbol) {
      // A quoted part is finished by its second quotation mark.
      if (text.length > 1 && /^".*(?<!\\)"$/s.test(text)) return null;
      return { kind, name, start: position, prefix: unquote(text) };
    }
    if (kind === "name") {
      if (text.toLowerCase() === "and") {
        position = end;
        continue;
      }
      name = unquote(text);
      kind = "operator";
    } else if (kind === "operator") {
      if (!symbol && text.toLowerCase() !== "exists") return null;
      kind = symbol ? "value" : "name";
    } else kind = "name";
    position = end;
  }
}

// Return a name or value as a filter line writes it.
export function quote(text: string, kind: "name" | "value"): string {
  const plain = kind === "name" ? /^[^\s"=!<>~]+$/ : /^[^\s"]\S*$/;
  if (plain.test(text)) return text;
  const escapes: Record<string, string> = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return `"${text.replace(/["\\\n\r\t]/g, (character) => escapes[character] ?? character)}"`;
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  return text.slice(1).replace(/(?<!\\)"$/, "").replace(/\\(["\\])/g, "$1");
}

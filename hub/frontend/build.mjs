// Bundle each island of src/ into one file: src/NAME/index.ts becomes NAME.js. Packages of node_modules that a bundle
// contains are listed with their licences in LICENSES.txt. Usage: node build.mjs [FOLDER]
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const output = process.argv[2] ?? join(here, "../modeltrace_hub/web/static/islands");
const islands = readdirSync(join(here, "src")).filter((name) => existsSync(join(here, "src", name, "index.ts")));

rmSync(output, { recursive: true, force: true });
mkdirSync(output, { recursive: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: Object.fromEntries(islands.map((name) => [name, `src/${name}/index.ts`])),
  outdir: output,
  banner: { js: "// Generated from hub/frontend/src by ./dev frontend; do not edit." },
  bundle: true,
  format: "esm",
  legalComments: "none",
  metafile: true,
  minify: true,
  target: "es2022",
});

const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const match = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
  if (match) packages.add(match[0]);
}
if (packages.size) {
  writeFileSync(join(output, "LICENSES.txt"), [...packages].sort().map(licence).join("\n\n"));
}

function licence(folder) {
  const path = join(here, folder);
  const { name, version, license } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  const file = readdirSync(path).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} ${version} has no licence file in ${path}`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(path, file), "utf8").trim()}\n`;
}

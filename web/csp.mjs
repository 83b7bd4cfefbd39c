// Lists the hashes of each page's inline scripts in out/csp.json, by file: the server allows
// these and no other inline script. Runs after `next build`.
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const OUT = fileURLToPath(new URL("out", import.meta.url));
const SCRIPT = /<script\b([^>]*)>([\s\S]*?)<\/script>/g;

function hashes(html) {
  const inline = [...html.matchAll(SCRIPT)].filter(([, attributes]) => !/\ssrc=/.test(attributes));
  return inline.map(([, , code]) => `sha256-${createHash("sha256").update(code).digest("base64")}`);
}

const files = await readdir(OUT, { recursive: true });
const listing = {};
for (const file of files.filter((name) => name.endsWith(".html")).sort()) {
  listing[file.split(sep).join("/")] = hashes(await readFile(join(OUT, file), "utf8"));
}
await writeFile(join(OUT, "csp.json"), JSON.stringify(listing, null, 1));
console.log(`${relative(process.cwd(), join(OUT, "csp.json"))}: ${Object.keys(listing).length} pages`);

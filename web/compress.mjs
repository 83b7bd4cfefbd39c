// Lays a .br and a .gz beside each file of out/ that gets much smaller by it; the server sends the
// one that the browser takes. Runs after `next build`.
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const OUT = fileURLToPath(new URL("out", import.meta.url));
const TEXT = /\.(html|js|css|svg|txt|json)$/;
const LEAST_BYTES = 1024;

for (const name of await readdir(OUT, { recursive: true })) {
  if (!TEXT.test(name) || name === "csp.json") continue;
  const file = join(OUT, name);
  const content = await readFile(file);
  if (content.length < LEAST_BYTES) continue;
  const size = { [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
  await writeFile(`${file}.br`, brotliCompressSync(content, { params: size }));
  await writeFile(`${file}.gz`, gzipSync(content, { level: 9 }));
}

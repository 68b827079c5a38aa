// Loads what `tests/run` has installed from npm, which is not beside these programs.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// load(DIR, NAME): the module NAME in the `node_modules` DIR.
export const load = (dir, name) => import(pathToFileURL(createRequire(join(dir, "from-here")).resolve(name)));

// A request as a curl command for bash.

import { baseUrl } from "./snippet-values.js";

export function curl(operation, values) {
  const isMultipart = values.some(({ kind }) => kind === "file");
  const options = values.map((value) => (isMultipart ? part(value) : field(value)));
  return [`curl ${quoted(baseUrl() + operation.path)}`, ...options].join(" \\\n  ");
}

function field({ name, kind, value }) {
  if (kind === "token") return `-d ${name}="$TOKEN"`;
  if (/^[\w.-]+$/.test(value)) return `-d ${name}=${value}`;
  return `--data-urlencode ${quoted(`${name}=${value}`)}`;
}

function part({ name, kind, value }) {
  if (kind === "token") return `--form-string ${name}="$TOKEN"`;
  if (kind === "file") return `-F ${quoted(`${name}=@${fileName(value)}`)}`;
  return `--form-string ${quoted(`${name}=${value}`)}`;
}

/** Quotes a file name for curl, if needed: a comma, for example, would end the name. */
function fileName(name) {
  if (name === "-") return "./-"; // curl reads the standard input for `-`
  return /^[\w.-]+$/.test(name) ? name : `"${name.replace(/["\\]/g, "\\$&")}"`;
}

/** Quotes a text for the shell, if needed. */
export const quoted = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

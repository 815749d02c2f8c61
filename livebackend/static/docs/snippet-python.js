// A request as Python code for the package livebackend_client.

import { baseUrl } from "./snippet-values.js";

const MAX_LINE_LENGTH = 72;

export function python(operation, values) {
  const needsToken = values.some(({ kind }) => kind === "token");
  const keywords = values
    .filter(({ kind }) => kind !== "token" && kind !== "selector")
    .map((value) => `${snakeCase(value.name)}=${literal(value)}`);
  const client = [JSON.stringify(baseUrl())];
  if (needsToken) client.push('token=os.environ["TOKEN"]');
  return [
    ...(needsToken ? ["import os", ""] : []),
    "from livebackend_client import Client",
    "",
    `with Client(${client.join(", ")}) as client:`,
    `    response = ${call(operation, keywords)}`,
    "    print(response)",
  ].join("\n");
}

function call({ name }, keywords) {
  const line = `client.${name}(${keywords.join(", ")})`;
  if (line.length <= MAX_LINE_LENGTH) return line;
  return [`client.${name}(`, ...keywords.map((keyword) => `        ${keyword},`), "    )"].join("\n");
}

const snakeCase = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

const literal = ({ kind, value }) =>
  kind === "number" && /^(0|-?[1-9]\d*)$/.test(value) ? value : JSON.stringify(value);

// A request as TypeScript code, which Node.js 22.18 and newer versions execute as a file `.mts`.

import { baseUrl } from "./snippet-values.js";

export function typescript(operation, values) {
  const url = JSON.stringify(baseUrl() + operation.path);
  const isMultipart = values.some(({ kind }) => kind === "file");
  return [
    ...(isMultipart ? ['import { openAsBlob } from "node:fs";'] : []),
    'import process from "node:process";',
    "",
    ...(isMultipart ? multipartRequest(url, values) : formRequest(url, values)),
    "const reply = (await response.json()) as { result: string; message: unknown };",
    "console.dir(reply, { depth: null });",
    'if (reply.result !== "0000") {',
    '  console.error(response.headers.get("X-Error"));',
    "  process.exitCode = 1;",
    "}",
  ].join("\n");
}

function formRequest(url, values) {
  return [
    `const response = await fetch(${url}, {`,
    '  method: "POST",',
    "  body: new URLSearchParams({",
    ...values.map((value) => `    ${value.name}: ${literal(value)},`),
    "  }),",
    "});",
  ];
}

function multipartRequest(url, values) {
  return [
    "const form = new FormData();",
    ...values.map((value) => `form.set(${JSON.stringify(value.name)}, ${formValue(value)});`),
    `const response = await fetch(${url}, { method: "POST", body: form });`,
  ];
}

function formValue(value) {
  const text = literal(value);
  return value.kind === "file" ? `await openAsBlob(${text}), ${text}` : text;
}

const literal = ({ kind, value }) =>
  kind === "token" ? 'process.env.TOKEN ?? ""' : JSON.stringify(value);

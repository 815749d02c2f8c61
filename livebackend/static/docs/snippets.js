// A request as a curl command and as Python code.

const baseUrl = () => new URL(".", location.href).href.replace(/\/$/, "");

/** Quotes a text for the shell, if needed. */
const quoted = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

const plainValue = (value) => (value instanceof File ? value.name : value);

export function curl(operation, fields) {
  const lines = [`curl ${quoted(baseUrl() + operation.path)}`];
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) lines.push(`-F ${quoted(`${name}=@${value.name}`)}`);
    else if (/^[\w.-]+$/.test(value)) lines.push(`-d ${name}=${value}`);
    else lines.push(`--data-urlencode ${quoted(`${name}=${value}`)}`);
  }
  return lines.join(" \\\n  ");
}

export function python(operation, { token, ...fields }) {
  const needsToken = operation.request.properties.token?.["x-login-token"] ?? false;
  const text = (value) => JSON.stringify(plainValue(value));
  const clientArguments = needsToken ? `${text(baseUrl())}, token=${text(token ?? "")}` : text(baseUrl());
  if (token !== undefined && !needsToken) fields = { token, ...fields };
  const keywords = Object.entries(fields)
    .filter(([name]) => name !== operation.selector)
    .map(([name, value]) => {
      const isNumber = operation.request.properties[name]?.type === "integer";
      return `${name}=${isNumber && /^[0-9]+$/.test(value) ? value : text(value)}`;
    });
  const oneLine = `client.${operation.name}(${keywords.join(", ")})`;
  const call =
    oneLine.length < 64
      ? oneLine
      : `client.${operation.name}(\n${keywords.map((keyword) => `    ${keyword},\n`).join("")})`;
  return `from livebackend_client import Client\n\nclient = Client(${clientArguments})\nmessage = ${call}`;
}

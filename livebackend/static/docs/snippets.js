// The call in a form as one would write it elsewhere.

const base = () => new URL(".", location.href).href.replace(/\/$/, "");

/** Quoted for a shell, where that is needed. */
const quoted = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

const shown = (value) => (value instanceof File ? value.name : value);

export function curl(operation, fields) {
  const lines = [`curl ${quoted(base() + operation.path)}`];
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) lines.push(`-F ${quoted(`${name}=@${value.name}`)}`);
    else if (/^[\w.-]+$/.test(value)) lines.push(`-d ${name}=${value}`);
    else lines.push(`--data-urlencode ${quoted(`${name}=${value}`)}`);
  }
  return lines.join(" \\\n  ");
}

export function python(operation, { token, ...fields }) {
  const needsToken = operation.request.properties.token?.["x-login-token"] ?? false;
  const text = (value) => JSON.stringify(shown(value));
  const made = needsToken ? `${text(base())}, token=${text(token ?? "")}` : text(base());
  if (token !== undefined && !needsToken) fields = { token, ...fields };
  const given = Object.entries(fields)
    .filter(([name]) => name !== operation.selector)
    .map(([name, value]) => {
      const isNumber = operation.request.properties[name]?.type === "integer";
      return `${name}=${isNumber && /^[0-9]+$/.test(value) ? value : text(value)}`;
    });
  const flat = `client.${operation.name}(${given.join(", ")})`;
  const call =
    flat.length < 64
      ? flat
      : `client.${operation.name}(\n${given.map((each) => `    ${each},\n`).join("")})`;
  return `from livebackend_client import Client\n\nclient = Client(${made})\nreply = ${call}`;
}

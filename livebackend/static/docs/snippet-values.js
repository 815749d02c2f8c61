// The parameters that the code of a request contains.

export const baseUrl = () => new URL(".", location.href).href.replace(/\/$/, "");

/**
 * Returns name, value and kind of each parameter: the filled-in ones, and the required ones with the
 * values of the examples. A login token has no value: the code reads it from the environment.
 */
export function snippetValues(operation, fields) {
  const values = operation.parameters
    .map(({ name, schema, required }) => {
      const kind = kindOf(schema);
      if (kind === "token") return { name, kind };
      const example = required ? (kind === "file" ? "avatar.jpg" : schema.examples?.[0]) : undefined;
      const value = fields[name] instanceof File ? fields[name].name : (fields[name] ?? example);
      return { name, kind, value: value === undefined ? undefined : String(value) };
    })
    .filter(({ kind, value }) => kind === "token" || value !== undefined);
  const { selector } = operation;
  return selector ? [{ name: selector, kind: "selector", value: "1" }, ...values] : values;
}

function kindOf(schema) {
  if (schema["x-login-token"]) return "token";
  if (schema.contentMediaType) return "file";
  return schema.type === "integer" ? "number" : "text";
}

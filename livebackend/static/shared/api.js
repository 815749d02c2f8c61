// A call of the API: a POST of a form, answered with JSON.

/** What came back: `status`, `body` (null where it was no JSON), `headers`, `took` in ms. */
export async function call(path, fields) {
  const values = Object.entries(fields);
  const hasFile = values.some(([, value]) => value instanceof Blob);
  const form = hasFile ? new FormData() : new URLSearchParams();
  for (const [name, value] of values) form.append(name, value);
  const started = performance.now();
  // Relative: the pages may stand below a proxy's path.
  const response = await fetch(path.replace(/^\//, ""), { method: "POST", body: form });
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy in front may answer by itself.
  }
  const took = Math.round(performance.now() - started);
  return { status: response.status, headers: response.headers, body, text, took };
}

// Requests of the API: a POST of a form with a JSON response.

// Long enough for the upload of a picture over a slow connection.
const TIMEOUT_MS = 60_000;

/** Sends a form. `body` is null if the response is not JSON. */
export async function sendRequest(path, fields) {
  const values = Object.entries(fields);
  const hasFile = values.some(([, value]) => value instanceof Blob);
  const form = hasFile ? new FormData() : new URLSearchParams();
  for (const [name, value] of values) form.append(name, value);
  const started = performance.now();
  // A relative URL, because a proxy can serve the pages below a path prefix.
  const response = await fetch(path.replace(/^\//, ""), {
    method: "POST",
    body: form,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // The response of a proxy can be HTML.
  }
  const milliseconds = Math.round(performance.now() - started);
  return { status: response.status, headers: response.headers, body, text, milliseconds };
}

// Masks secrets in requests and responses that a page shows. This module has the only list of them.

export const MASK = "…";

// Parameters and response fields. `code_v` is the ticket of a code, `pay` authorizes a payment.
const SECRET_NAMES = new Set(["token", "password", "oldPassword", "code", "code_v", "publishKey", "pay"]);
// The query of these URLs has a key, a signature or a ticket.
const SECRET_URL_NAMES = new Set(["publishUrl", "url"]);
// If `message` is a text, operations of these paths return a login token, a ticket or a code.
const PATHS_WITH_SECRET_MESSAGE = new Set(["/register", "/log"]);

/** The shown value of a request parameter. */
export function maskParameter(name, value) {
  // The parameter `token` of a code request is a phone number.
  if (name === "token" && /^[0-9]{11}$/.test(value)) return value;
  return SECRET_NAMES.has(name) && value ? MASK : value;
}

/** The shown text of a response; `body` is its JSON, or null. */
export function maskResponse(path, { body, text }) {
  if (body === null) return text;
  const masked = maskValue(body);
  if (PATHS_WITH_SECRET_MESSAGE.has(path) && typeof body.message === "string") masked.message = MASK;
  return JSON.stringify(masked);
}

function maskValue(value) {
  if (typeof value === "string") return maskText(value);
  if (Array.isArray(value)) return value.map(maskValue);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, maskMember(name, member)]),
  );
}

function maskMember(name, value) {
  if (SECRET_NAMES.has(name)) return maskEverything(value);
  if (SECRET_URL_NAMES.has(name)) return String(value).replace(/\?.*/, `?${MASK}`);
  return maskValue(value);
}

function maskEverything(value) {
  if (value === null) return null;
  if (typeof value !== "object") return MASK;
  return Object.fromEntries(Object.keys(value).map((name) => [name, MASK]));
}

/** Masks JSON inside a text, such as the stream of a room. */
function maskText(text) {
  if (!text.startsWith("{")) return text;
  try {
    return JSON.stringify(maskValue(JSON.parse(text)));
  } catch {
    return text; // a text of a user that is not JSON
  }
}

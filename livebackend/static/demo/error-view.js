// Shows in both languages why the server refused a request.

import { element } from "../shared/dom.js";
import { errorMessage } from "../shared/error-message.js";
import { bilingual } from "../shared/language.js";

// The page contains the texts, because the settings can disable /openapi.json.
const { results, reasons } = JSON.parse(document.getElementById("error-messages").textContent);

/** The message of the header X-Error, or null without it. */
export const reasonMessage = ({ headers }) => errorMessage(headers, reasons);

/** The error reason of a response, such as `room_not_open`, or "". */
export const errorReason = ({ headers }) => /reason=(\w+)/.exec(headers.get("X-Error") ?? "")?.[1] ?? "";

export const resultCode = ({ status, body }) => body?.result ?? `HTTP ${status}`;

/** The seconds until a retry, or 0. */
export const retryAfterS = ({ headers }) => Number(/^[0-9]+$/.exec(headers.get("Retry-After") ?? "")?.[0] ?? 0);

/** The reason, the time until a retry, and the result code with its description. */
export function errorView(response) {
  const code = resultCode(response);
  const description = results[code];
  const seconds = retryAfterS(response);
  return element(
    "div",
    { class: "error-view" },
    element("p", {}, reasonMessage(response) ?? bilingual("The server refused the request.", "服务器拒绝了请求。")),
    seconds ? element("p", {}, bilingual(`Try again in ${seconds} s.`, `请在 ${seconds} 秒后重试。`)) : null,
    element(
      "small",
      {},
      element("code", {}, code),
      " ",
      description ? bilingual(description.description, description["x-zh"]) : null,
    ),
  );
}

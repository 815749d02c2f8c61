// Shows a response: result code, status, selected headers, body.

import { element } from "../shared/dom.js";
import { errorMessage } from "../shared/error-message.js";
import { bilingual, localize } from "../shared/language.js";
import { highlighted } from "./json.js";

const HEADERS = ["X-Error", "Retry-After", "X-Request-Outcome", "X-Retry-Request-Id", "X-Request-Id"];

export function responseView({ status, headers, body, text, milliseconds }, { results, reasons }) {
  const code = body?.result;
  const result = results[code];
  const shownHeaders = HEADERS.filter((name) => headers.has(name));
  const error = errorMessage(headers, reasons);
  const block = element("pre", { tabindex: "0" }, body ? highlighted(body) : text);
  localize(block, "ariaLabel", "Body of the response", "响应体");
  return element(
    "div",
    { class: code === "0000" ? "response good" : "response" },
    element(
      "p",
      { class: "summary" },
      element("b", {}, code ?? String(status)),
      result ? bilingual(result.description, result["x-zh"]) : null,
      element("small", {}, `HTTP ${status} · ${milliseconds} ms`),
    ),
    error ? element("p", { class: "error" }, error) : null,
    element(
      "dl",
      {},
      ...shownHeaders.flatMap((name) => [
        element("dt", {}, name),
        element("dd", {}, headers.get(name)),
      ]),
    ),
    block,
  );
}

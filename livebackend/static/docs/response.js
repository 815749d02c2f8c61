// Shows a response: result code, status, selected headers, body.

import { element } from "../shared/dom.js";
import { errorMessage } from "../shared/error-message.js";
import { bilingual } from "../shared/language.js";

const HEADERS = ["X-Error", "Retry-After", "X-Request-Outcome", "X-Retry-Request-Id", "X-Request-Id"];

export function responseView({ status, headers, body, text, milliseconds }, { results, reasons }) {
  const code = body?.result;
  const result = results[code];
  const shownHeaders = HEADERS.filter((name) => headers.has(name));
  const error = errorMessage(headers, reasons);
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
    element("pre", { tabindex: "0" }, body ? highlighted(body) : text),
  );
}

/** Indented JSON with syntax highlighting. */
function highlighted(value) {
  const code = element("code", {});
  const json = JSON.stringify(value, null, 2);
  let end = 0;
  for (const match of json.matchAll(/("(?:\\.|[^"\\])*")(:?)|\b(?:true|false|null|-?\d[\d.e+-]*)\b/g)) {
    code.append(json.slice(end, match.index));
    const kind = match[2] ? "key" : match[1] ? "text" : "plain";
    code.append(element("span", { class: kind }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  code.append(json.slice(end));
  return code;
}

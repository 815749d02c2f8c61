// A reply as it came: the status, the headers that matter, and the body.

import { element } from "../shared/dom.js";
import { both } from "../shared/language.js";

const HEADERS = ["X-Refusal", "Retry-After", "X-Request-Outcome", "X-Repeat-As", "X-Request-Id"];

export function replyView({ status, headers, body, text, took }, results) {
  const code = body?.result;
  const says = results[code];
  const told = HEADERS.filter((name) => headers.has(name));
  return element(
    "div",
    { class: code === "0000" ? "came good" : "came" },
    element(
      "p",
      { class: "verdict" },
      element("b", {}, code ?? String(status)),
      says ? both(says.description, says["x-zh"]) : null,
      element("small", {}, `HTTP ${status} · ${took} ms`),
    ),
    element(
      "dl",
      {},
      ...told.flatMap((name) => [
        element("dt", {}, name),
        element("dd", {}, headers.get(name)),
      ]),
    ),
    element("pre", { tabindex: "0" }, body ? coloured(body) : text),
  );
}

/** JSON over several lines, keys and values in their own colours. */
function coloured(value) {
  const code = element("code", {});
  const lines = JSON.stringify(value, null, 2);
  let end = 0;
  for (const match of lines.matchAll(/("(?:\\.|[^"\\])*")(:?)|\b(?:true|false|null|-?\d[\d.e+-]*)\b/g)) {
    code.append(lines.slice(end, match.index));
    const kind = match[2] ? "key" : match[1] ? "text" : "plain";
    code.append(element("span", { class: kind }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  code.append(lines.slice(end));
  return code;
}

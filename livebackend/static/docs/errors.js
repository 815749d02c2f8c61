// The result codes and error reasons of an operation.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { meaningOf } from "./document.js";
import { prose } from "./text.js";

/** `tables` has the descriptions of `results` and error `reasons`. */
export function errorList(operation, { results, reasons }) {
  const codes = ["0000", ...Object.keys(operation.errors), "0003"];
  return element(
    "details",
    { class: "more", id: `errors-${operation.name}` },
    element(
      "summary",
      {},
      bilingual("Result codes and error reasons", "返回码与错误原因"),
      element("span", { class: "note" }, codes.join(" ")),
    ),
    element(
      "ul",
      { class: "errors" },
      ...codes.map((code) =>
        element(
          "li",
          { id: `${operation.name}-${code}` },
          element("a", { href: `#result-${code}` }, element("code", {}, code)),
          prose(...meaningOf(results[code])),
          code === "0003" ? invalidRequests() : reasonList(operation.errors[code] ?? [], reasons),
        ),
      ),
    ),
  );
}

function reasonList(tokens, reasons) {
  if (!tokens.length) return null;
  return element(
    "ul",
    {},
    ...tokens.map((token) =>
      element(
        "li",
        {},
        element("a", { href: `#reason-${token}` }, element("code", {}, token)),
        prose(...meaningOf(reasons[token])),
      ),
    ),
  );
}

function invalidRequests() {
  return element(
    "p",
    {},
    bilingual("It is not a valid API request: ", "不是有效的接口请求："),
    element("a", { href: "#http-status" }, bilingual("HTTP status", "HTTP 状态码")),
  );
}

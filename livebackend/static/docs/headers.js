// The response headers that an operation can have.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { hasParameter, meaningOf } from "./document.js";
import { prose } from "./text.js";

// Reasons of errors with status 200 that have the header Retry-After.
const REASONS_WITH_RETRY_AFTER = ["rate_limited", "ledger_busy"];

export function headerTable(openapi, operation) {
  const { headers } = openapi.components;
  const heading = (...texts) => element("th", { scope: "col" }, bilingual(...texts));
  return element(
    "details",
    { class: "more", id: `headers-${operation.name}` },
    element("summary", {}, bilingual("Response headers", "响应头")),
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element("tr", {}, heading("Header", "响应头"), heading("Meaning", "含义")),
      ),
      element(
        "tbody",
        {},
        ...occurrences(operation).map(([name, when]) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, element("code", {}, name)),
            element("td", {}, prose(...meaningOf(headers[name])), element("small", {}, prose(...when))),
          ),
        ),
      ),
    ),
  );
}

/** The headers, and the responses that have them. */
function occurrences(operation) {
  const reasons = Object.values(operation.errors).flat();
  const retryable = REASONS_WITH_RETRY_AFTER.filter((reason) => reasons.includes(reason));
  const withRetryAfter = ["HTTP 503", ...retryable.map((reason) => `\`${reason}\``)];
  const headers = [
    ["X-Error", ["every error, except a 503 that the reverse proxy sends", "所有错误，反向代理自己返回的 503 除外"]],
    ["Retry-After", [withRetryAfter.join(", "), withRetryAfter.join("、")]],
    ["X-Request-Outcome", ["HTTP 503 whose outcome is unknown", "结果未知的 HTTP 503"]],
  ];
  if (hasParameter(operation, "requestId")) {
    headers.push([
      "X-Retry-Request-Id",
      [
        "HTTP 503 whose outcome is unknown, unless the reverse proxy sends it",
        "结果未知的 HTTP 503，反向代理自己返回的除外",
      ],
    ]);
  }
  return [...headers, ["X-Request-Id", ["every response", "所有响应"]]];
}

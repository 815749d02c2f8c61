// Whether a retry of an operation is safe after an unknown outcome.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { hasParameter } from "./document.js";
import { prose } from "./text.js";

export function retryNote(operation) {
  const isSafe = operation.isIdempotent || hasParameter(operation, "requestId");
  return element(
    "p",
    { class: isSafe ? "retry safe" : "retry" },
    prose(...text(operation)),
    " ",
    element("a", { href: "#unknown-outcome" }, bilingual("When to retry", "何时重试")),
  );
}

function text(operation) {
  if (hasParameter(operation, "requestId")) {
    return [
      "A retry with the same `requestId` is safe: coins move at most once.",
      "使用相同的 `requestId` 可安全重试：金币最多变动一次。",
    ];
  }
  if (operation.alreadyDone) {
    return [
      `A retry is safe: \`${operation.alreadyDone}\` means that the first request succeeded.`,
      `可安全重试：若返回 \`${operation.alreadyDone}\`，说明首次请求已成功。`,
    ];
  }
  return operation.isIdempotent
    ? ["A retry is safe: it has the same result.", "可安全重试：结果相同。"]
    : ["A retry can have another result.", "重试的结果可能不同。"];
}

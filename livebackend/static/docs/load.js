// Loads openapi-operations.json. After a failure, shows the cause and a button to try again.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";

const TIMEOUT_MS = 20_000;

class LoadError extends Error {
  constructor(english, chinese) {
    super(english);
    this.text = [english, chinese];
  }
}

/** Returns the document; until it is loaded, `place` shows the failures. */
export async function loadDocument(place) {
  for (let isRetry = false; ; isRetry = true) {
    try {
      const openapi = await fetchDocument();
      place.replaceChildren();
      // The button that had the focus is gone.
      if (isRetry) place.focus();
      return openapi;
    } catch (error) {
      if (!(error instanceof LoadError)) throw error;
      await showFailure(place, error, isRetry);
    }
  }
}

async function fetchDocument() {
  let response;
  try {
    response = await fetch("openapi-operations.json", { signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new LoadError("The server did not respond.", "服务器没有响应。");
  }
  if (!response.ok) {
    throw new LoadError(
      `The server responded with HTTP status ${response.status}.`,
      `服务器返回 HTTP 状态码 ${response.status}。`,
    );
  }
  try {
    const openapi = await response.json();
    if (openapi?.paths && openapi.components) return openapi;
  } catch {
    // Not JSON, or the connection broke: the error below describes both.
  }
  throw new LoadError(
    "The response is incomplete, or it is not an OpenAPI document.",
    "响应不完整，或不是 OpenAPI 文档。",
  );
}

/** Shows a failure; resolves when the reader presses the button. */
function showFailure(place, error, isRetry) {
  const label = element("span", {}, bilingual("Try again", "重试"));
  const button = element("button", { class: "main-button", type: "button" }, label);
  place.replaceChildren(
    element(
      "section",
      { class: "failure" },
      element(
        "div",
        { role: "alert" },
        element("h2", {}, bilingual("The operations could not be loaded", "接口列表加载失败")),
        element("p", {}, bilingual(...error.text)),
      ),
      button,
    ),
  );
  if (isRetry) button.focus();
  return new Promise((resolve) => {
    button.addEventListener(
      "click",
      () => {
        // A disabled button would lose the focus.
        button.setAttribute("aria-disabled", "true");
        label.replaceChildren(bilingual("Loading…", "正在加载…"));
        resolve();
      },
      { once: true },
    );
  });
}

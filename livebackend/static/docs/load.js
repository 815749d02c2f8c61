// Loads the documents of the API. After a failure, shows the cause and a button to try again.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";

const TIMEOUT_MS = 20_000;

class LoadError extends Error {
  constructor(english, chinese) {
    super(english);
    this.text = [english, chinese];
  }
}

/** Returns the OpenAPI and AsyncAPI documents; until they are loaded, `place` shows the failures. */
export async function loadDocuments(place) {
  for (let isRetry = false; ; isRetry = true) {
    try {
      const documents = await Promise.all([
        fetchDocument("openapi-operations.json", "paths"),
        fetchDocument("asyncapi.json", "channels"),
      ]);
      place.replaceChildren();
      // The button that had the focus is gone.
      if (isRetry) place.focus();
      return documents;
    } catch (error) {
      if (!(error instanceof LoadError)) throw error;
      await showFailure(place, error, isRetry);
    }
  }
}

async function fetchDocument(path, requiredField) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
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
    const content = await response.json();
    if (content?.[requiredField] && content.components) return content;
  } catch {
    // Not JSON, or the connection broke: the error below describes both.
  }
  throw new LoadError(
    "The response is incomplete, or it is not a document of the API.",
    "响应不完整，或不是接口文档。",
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

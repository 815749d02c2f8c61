// A log of the API requests of both phones, newest first.

import { element } from "../shared/dom.js";
import { errorMessage } from "../shared/error-message.js";
import { bilingual, localize } from "../shared/language.js";

const MAX_ENTRIES = 80;
const SECRETS = ["token", "password"];

export class CallLog {
  constructor({ results, reasons }) {
    this.results = results;
    this.reasons = reasons;
    this.list = element("ol", {});
    this.node = element(
      "section",
      { class: "call-log", "aria-labelledby": "call-log-title" },
      element("h2", { id: "call-log-title" }, bilingual("API requests", "接口请求")),
      element(
        "p",
        { class: "empty" },
        bilingual("No requests yet. Start on the left phone.", "还没有请求，请从左边的手机开始。"),
      ),
      this.list,
    );
    localize(this.list, "ariaLabel", "Requests, newest first", "请求，最新在前");
  }

  /** Adds a request. `quiet`: the phone sent it without a user action. */
  add({ side, name, path, fields, response, isExtension, quiet }) {
    const code = response.body?.result ?? String(response.status);
    const selector = Object.keys(fields).find((field) => fields[field] === "1" && field !== "gender");
    const error = errorMessage(response.headers, this.reasons);
    const entry = element(
      "li",
      {},
      element(
        "details",
        {},
        element(
          "summary",
          {},
          element("i", { class: `dot ${side}` }),
          element("span", { class: "visually-hidden" }, bilingual(name.english, name.chinese)),
          element("code", {}, path, selector ? element("b", {}, ` ${selector}`) : null),
          isExtension ? element("small", {}, bilingual("extension", "扩展")) : null,
          element("span", { class: code === "0000" ? "code good" : "code" }, code),
        ),
        element("pre", { tabindex: "0" }, `${formatFields(fields)}\n\n${response.text}`),
      ),
      error ? element("p", { class: "error" }, error) : null,
    );
    (quiet ? this.#quietRequests() : this.list).prepend(entry);
    while (this.list.children.length > MAX_ENTRIES) this.list.lastChild.remove();
  }

  /** The list of quiet requests in the newest entry, which is created if needed. */
  #quietRequests() {
    let line = this.list.firstElementChild;
    if (!line?.classList.contains("quiet")) {
      line = element(
        "li",
        { class: "quiet" },
        element(
          "details",
          {},
          element("summary", {}, bilingual("automatic list refresh", "自动刷新列表"), element("span", { class: "code" })),
          element("ol", {}),
        ),
      );
      this.list.prepend(line);
    }
    const requests = line.querySelector("ol");
    line.querySelector(".code").textContent = `× ${requests.children.length + 1}`;
    return requests;
  }

  description(code) {
    const result = this.results[code];
    return result ? bilingual(result.description, result["x-zh"]) : null;
  }
}

function formatFields(fields) {
  return Object.entries(fields)
    .map(([name, value]) => {
      if (SECRETS.includes(name) && fields[name] && !/^[0-9]{11}$/.test(value)) return `${name}=…`;
      return `${name}=${value instanceof Blob ? (value.name ?? "…") : value}`;
    })
    .join("\n");
}

// A log of the API requests and live events of both phones, newest first. It shows no secrets.

import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { maskParameter, maskResponse } from "../shared/secrets.js";
import { reasonMessage, resultCode } from "./error-view.js";

const MAX_ENTRIES = 80;

export class CallLog {
  constructor() {
    this.list = element("ol", {});
    /** Shows the number of requests. */
    this.counter = element("b", { class: "count" });
    this.node = element(
      "section",
      { class: "call-log", "aria-labelledby": "call-log-title" },
      element("h2", { id: "call-log-title" }, bilingual("API requests and live events", "接口请求和实时事件")),
      element(
        "p",
        { class: "empty" },
        bilingual("No requests yet. Start on Ann's phone.", "还没有请求，请从小安的手机开始。"),
      ),
      this.list,
    );
    localize(this.list, "ariaLabel", "Requests and live events, newest first", "请求和实时事件，最新在前");
    this.clear();
  }

  clear() {
    this.list.replaceChildren();
    this.#setCount(0);
  }

  /** Adds a request. `quiet`: without a user action; the log collapses the successful ones. */
  add({ side, name, path, fields, response, isExtension, quiet }) {
    this.#setCount(this.count + 1);
    const code = resultCode(response);
    const selector = Object.keys(fields).find((field) => fields[field] === "1" && field !== "gender");
    const error = reasonMessage(response);
    const entry = logEntry(
      { side, name, content: `${formatFields(fields)}\n\n${maskResponse(path, response)}` },
      element("code", {}, path, selector ? element("b", {}, ` ${selector}`) : null),
      isExtension ? element("small", {}, bilingual("extension", "扩展")) : null,
      element("span", { class: code === "0000" ? "code good" : "code" }, code),
    );
    if (error) entry.append(element("p", { class: "error" }, error));
    this.#prepend(entry, { quiet: quiet && code === "0000" });
  }

  /** Adds a live event that a phone has received. */
  addEvent({ side, name, event }) {
    const entry = logEntry(
      { side, name, content: JSON.stringify(event) },
      element("code", {}, event.type),
      element("small", {}, bilingual("live event", "实时事件")),
    );
    this.#prepend(entry, { quiet: false });
  }

  #prepend(entry, { quiet }) {
    const list = quiet ? this.#quietRequests() : this.list;
    list.prepend(entry);
    for (const bounded of [list, this.list]) {
      while (bounded.children.length > MAX_ENTRIES) bounded.lastChild.remove();
    }
  }

  #setCount(count) {
    this.count = count;
    this.counter.textContent = String(count);
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
          element("summary", {}, bilingual("automatic requests", "自动请求"), element("span", { class: "code" })),
          element("ol", {}),
        ),
      );
      this.list.prepend(line);
    }
    const requests = line.querySelector("ol");
    line.querySelector(".code").textContent = `× ${requests.children.length + 1}`;
    return requests;
  }
}

function logEntry({ side, name, content }, ...summary) {
  return element(
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
        ...summary,
      ),
      element("pre", { tabindex: "0" }, content),
    ),
  );
}

function formatFields(fields) {
  return Object.entries(fields)
    .map(([name, value]) => {
      const shown = value instanceof Blob ? (value.name ?? "…") : maskParameter(name, value);
      return `${name}=${shown}`;
    })
    .join("\n");
}

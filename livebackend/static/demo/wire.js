// The calls of both phones, the newest first: what was asked and what came back.

import { element } from "../shared/dom.js";
import { both, follow } from "../shared/language.js";

const KEPT = 80;
const SECRETS = ["token", "password"];

export class Wire {
  constructor(meanings) {
    this.meanings = meanings;
    this.list = element("ol", {});
    this.node = element(
      "section",
      { class: "wire", "aria-labelledby": "wire-title" },
      element("h2", { id: "wire-title" }, both("On the wire", "调用记录")),
      element(
        "p",
        { class: "empty" },
        both("Nothing yet. Begin on the left.", "还没有调用。从左边开始吧。"),
      ),
      this.list,
    );
    follow(this.list, "ariaLabel", "calls, the newest first", "调用，最新在前");
  }

  /** Writes a call down. `quiet`: a phone looked for news by itself. */
  write({ side, name, path, fields, answer, isExtension, quiet }) {
    const code = answer.body?.result ?? String(answer.status);
    const selector = Object.keys(fields).find((field) => fields[field] === "1" && field !== "gender");
    const refusal = answer.headers.get("X-Refusal");
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
          element("span", { class: "unseen" }, both(name.english, name.chinese)),
          element("code", {}, path, selector ? element("b", {}, ` ${selector}`) : null),
          isExtension ? element("small", {}, both("extension", "扩展")) : null,
          element("span", { class: code === "0000" ? "code good" : "code" }, code),
        ),
        element("pre", { tabindex: "0" }, `${written(fields)}\n\n${answer.text}`),
      ),
      refusal ? element("p", { class: "refusal" }, refusal) : null,
    );
    (quiet ? this.#looks() : this.list).prepend(entry);
    while (this.list.children.length > KEPT) this.list.lastChild.remove();
  }

  /** The list, within the newest line, of what phones asked by themselves. */
  #looks() {
    let line = this.list.firstElementChild;
    if (!line?.classList.contains("quiet")) {
      line = element(
        "li",
        { class: "quiet" },
        element(
          "details",
          {},
          element("summary", {}, both("the phones look for news", "手机刷新列表"), element("span", { class: "code" })),
          element("ol", {}),
        ),
      );
      this.list.prepend(line);
    }
    const calls = line.querySelector("ol");
    line.querySelector(".code").textContent = `× ${calls.children.length + 1}`;
    return calls;
  }

  meaning(code) {
    const says = this.meanings[code];
    return says ? both(says.description, says["x-zh"]) : null;
  }
}

function written(fields) {
  return Object.entries(fields)
    .map(([name, value]) => {
      if (SECRETS.includes(name) && fields[name] && !/^[0-9]{11}$/.test(value)) return `${name}=…`;
      return `${name}=${value instanceof Blob ? (value.name ?? "…") : value}`;
    })
    .join("\n");
}

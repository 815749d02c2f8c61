// Texts of the OpenAPI document, in which backticks enclose code.

import { element } from "../shared/dom.js";

/** Returns a node with a text in both languages, one of them visible. */
export function prose(english, chinese) {
  return element(
    "span",
    {},
    element("span", { lang: "en" }, ...withCode(english)),
    element("span", { lang: "zh-CN" }, ...withCode(chinese)),
  );
}

const withCode = (text) =>
  text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));

// The code of a request in several languages. All boxes on the page show the same language.

import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { copyButton, tokenCopyButton } from "./copy-button.js";
import { needsLogin } from "./document.js";
import { curl } from "./snippet-curl.js";
import { python } from "./snippet-python.js";
import { typescript } from "./snippet-typescript.js";
import { snippetValues } from "./snippet-values.js";

const LANGUAGES = { curl, Python: python, TypeScript: typescript };
const redrawFunctions = [];
let language = "curl";

/** `fields` returns the filled-in parameters of the form. */
export function codeBox(operation, form, fields) {
  const text = element("code", {});
  const block = element("pre", { tabindex: "0", role: "group" }, text);
  const tabs = Object.keys(LANGUAGES).map((name) =>
    element("button", { type: "button", onclick: () => chooseLanguage(name) }, name),
  );
  const draw = () => {
    text.textContent = LANGUAGES[language](operation, snippetValues(operation, fields()));
    for (const tab of tabs) tab.ariaPressed = String(tab.textContent === language);
  };
  localize(block, "ariaLabel", `Request as code: ${operation.name}`, `请求代码：${operation.name}`);
  form.addEventListener("input", draw);
  form.addEventListener("change", draw);
  redrawFunctions.push(draw);
  // The form is still empty: its fields are added later.
  queueMicrotask(draw);
  return element(
    "div",
    { class: "code" },
    element("div", { class: "tabs" }, ...tabs, copyButton(() => text.textContent)),
    needsLogin(operation) ? tokenCommand() : null,
    block,
  );
}

function chooseLanguage(name) {
  language = name;
  for (const redraw of redrawFunctions) redraw();
}

/** The command that sets the login token; only its copy contains the token of the page. */
function tokenCommand() {
  return element(
    "p",
    { class: "token-command" },
    element("span", {}, bilingual("First", "先执行"), " ", element("code", {}, "export TOKEN=…")),
    tokenCopyButton(),
  );
}

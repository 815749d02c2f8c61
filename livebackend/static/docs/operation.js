// One operation: parameters, a form that sends requests, code snippets, the response.

import { sendRequest } from "../shared/api.js";
import { copyText, element } from "../shared/dom.js";
import { bilingual, localize, localized, onLanguageChange } from "../shared/language.js";
import { responseView } from "./response.js";
import { curl, python } from "./snippets.js";
import { onToken, storeToken } from "./token.js";

/** `tables` has the descriptions of `results` and error `reasons`. */
export function operationSection(operation, tables) {
  const form = element("form", { class: "call", novalidate: true, autocomplete: "off" });
  const inputs = parameters(operation).map((parameter) => row(operation, parameter));
  const send = element("button", { class: "main-button", type: "submit" }, bilingual("Send", "发送"));
  const output = element("div", { class: "response-output", role: "status" });
  const fields = () => filledFields(operation, form);
  const code = snippets(operation, fields, form);
  form.append(...inputs, send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const response = await sendRequest(operation.path, fields());
      output.replaceChildren(responseView(response, tables));
      if (operation.returnsToken && response.body?.result === "0000") {
        storeToken(response.body.message, { fresh: true });
      }
    } catch {
      output.replaceChildren(
        element("p", { class: "no-response" }, bilingual("No response.", "未收到响应。")),
      );
    } finally {
      send.disabled = false;
      output.scrollIntoView({ block: "nearest" });
    }
  });
  return element(
    "article",
    { class: "operation", id: operation.name, "aria-labelledby": `${operation.name}-title` },
    element(
      "header",
      {},
      element(
        "h3",
        { id: `${operation.name}-title` },
        bilingual(operation.summary, operation["x-zh"]),
        operation["x-extension"]
          ? element("span", { class: "extension" }, bilingual("extension", "扩展"))
          : null,
      ),
      address(operation),
      retryNote(operation),
    ),
    form,
    element("div", { class: "right" }, code, output),
    codes(operation, tables.results),
  );
}

function address(operation) {
  const otherPaths = operation.paths.slice(1);
  return element(
    "p",
    { class: "address" },
    element("b", {}, "POST"),
    element("code", {}, operation.path),
    operation.selector ? element("code", { class: "selector" }, `${operation.selector}=1`) : null,
    otherPaths.length ? element("span", {}, bilingual("also on ", "也可用 "), otherPaths.join(" ")) : null,
  );
}

/** How to retry after an unknown outcome, for operations that are not idempotent by themselves. */
function retryNote(operation) {
  const link = (text) => element("a", { href: "#unknown-outcome" }, text);
  if (operation.request.properties.requestId) {
    return element(
      "p",
      { class: "retry" },
      link(bilingual("After an unknown outcome", "结果未知时")),
      bilingual(
        ", retry with the same requestId.",
        "，请使用相同的 requestId 重试。",
      ),
    );
  }
  const reason = operation["x-already-done"];
  if (!reason) return null;
  return element(
    "p",
    { class: "retry" },
    link(bilingual("After an unknown outcome", "结果未知时")),
    bilingual(", retry; the error reason ", "，请重试；若返回原因 "),
    element("code", {}, reason),
    bilingual(" means that the first request succeeded.", "，说明首次请求已成功。"),
  );
}

function parameters(operation) {
  return Object.entries(operation.request.properties)
    .filter(([name]) => name !== operation.selector)
    .map(([name, schema]) => ({
      name,
      schema,
      required: operation.request.required.includes(name),
    }));
}

function row(operation, { name, schema, required }) {
  const id = `${operation.name}-${name}`;
  const input = field(operation, id, name, schema, required);
  return element(
    "div",
    { class: "parameter" },
    element(
      "label",
      { for: id },
      element("code", {}, name),
      required ? null : element("small", {}, bilingual("optional", "可选")),
    ),
    element("p", { id: `${id}-hint` }, bilingual(schema.description, schema["x-zh"]), rule(schema)),
    input,
  );
}

/** The allowed values as a pattern or range. */
function rule(schema) {
  const text = schema.pattern
    ? schema.pattern.replace(/^\^(\(\?:)?/, "").replace(/\)?\$$/, "")
    : schema.maxLength
      ? `${schema.minLength}–${schema.maxLength}`
      : schema.maximum
        ? `${schema.minimum}–${schema.maximum}`
        : "";
  return text ? element("code", { class: "rule" }, text) : null;
}

function field(operation, id, name, schema, required) {
  const shared = { id, name, class: "field", "aria-describedby": `${id}-hint` };
  if (schema.contentMediaType) return element("input", { ...shared, type: "file", accept: "image/*" });
  if (schema.enum) {
    const choice = element("select", shared);
    if (!required) choice.append(element("option", { value: "" }, "–"));
    choice.append(...schema.enum.map((value) => element("option", { value }, String(value))));
    if (required && schema.examples) choice.value = schema.examples[0];
    return choice;
  }
  const example = schema.examples?.[0];
  const input = element("input", {
    ...shared,
    type: "text",
    spellcheck: "false",
    placeholder: example ?? false,
    inputmode: schema.type === "integer" || schema.format === "phone" ? "numeric" : false,
  });
  if (schema["x-login-token"]) {
    onToken((token) => {
      input.value = token;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
  } else if (required || isFirstOfOptional(operation, name)) {
    // Prefilled, so that the form can be sent as it is.
    input.value = example ?? "";
  }
  return input;
}

/** The first parameter is prefilled if none is required. */
function isFirstOfOptional({ request }, name) {
  return request.required.length === 0 && Object.keys(request.properties)[0] === name;
}

/** The non-empty parameters of the form. */
function filledFields(operation, form) {
  const fields = operation.selector ? { [operation.selector]: "1" } : {};
  for (const input of form.elements) {
    if (!input.name) continue;
    const value = input.type === "file" ? input.files[0] : input.value;
    if (value) fields[input.name] = value;
  }
  return fields;
}

function snippets(operation, fields, form) {
  const languages = { curl, Python: python };
  let language = "curl";
  const text = element("code", {});
  const block = element("pre", { tabindex: "0" }, text);
  const draw = () => {
    text.textContent = languages[language](operation, fields());
  };
  const tabs = Object.keys(languages).map((name) =>
    element(
      "button",
      {
        type: "button",
        "aria-pressed": String(name === language),
        onclick: () => {
          language = name;
          for (const tab of tabs) tab.ariaPressed = String(tab.textContent === name);
          draw();
        },
      },
      name,
    ),
  );
  const copyButton = element("button", { type: "button", class: "copy" });
  const showCopyLabel = () => {
    copyButton.textContent = localized("Copy", "复制");
  };
  copyButton.addEventListener("click", async () => {
    await copyText(text.textContent);
    copyButton.textContent = localized("Copied", "已复制");
    setTimeout(showCopyLabel, 1600);
  });
  onLanguageChange(showCopyLabel);
  showCopyLabel();
  localize(block, "ariaLabel", "Request as code", "请求代码");
  form.addEventListener("input", draw);
  form.addEventListener("change", draw);
  queueMicrotask(draw);
  return element("div", { class: "code" }, element("div", { class: "tabs" }, ...tabs, copyButton), block);
}

function codes(operation, results) {
  return element(
    "ul",
    { class: "codes" },
    ...operation.results.map((code) =>
      element(
        "li",
        {},
        element("a", { href: `#result-${code}` }, code),
        element("span", {}, bilingual(results[code].description, results[code]["x-zh"])),
      ),
    ),
  );
}

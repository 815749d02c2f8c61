// One operation: what it takes, a form to try it, the same call elsewhere, and the reply.

import { call } from "../shared/api.js";
import { copy, element } from "../shared/dom.js";
import { both, follow, onLanguage, say } from "../shared/language.js";
import { replyView } from "./reply.js";
import { curl, python } from "./snippets.js";
import { keepToken, onToken } from "./token.js";

export function operationSection(operation, results) {
  const form = element("form", { class: "call", novalidate: true, autocomplete: "off" });
  const inputs = parameters(operation).map((parameter) => row(operation, parameter));
  const send = element("button", { class: "main-button", type: "submit" }, both("Send", "发送"));
  const reply = element("div", { class: "reply", role: "status" });
  const fields = () => filled(operation, form);
  const code = snippets(operation, fields, form);
  form.append(...inputs, send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const answer = await call(operation.path, fields());
      reply.replaceChildren(replyView(answer, results));
      if (operation.givesToken && answer.body?.result === "0000") {
        keepToken(answer.body.message, { fresh: true });
      }
    } catch {
      reply.replaceChildren(element("p", { class: "lost" }, both("No reply came.", "没有收到回复。")));
    } finally {
      send.disabled = false;
      reply.scrollIntoView({ block: "nearest" });
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
        both(operation.summary, operation["x-zh"]),
        operation["x-extension"]
          ? element("span", { class: "extension" }, both("extension", "扩展"))
          : null,
      ),
      address(operation),
      retryNote(operation),
    ),
    form,
    element("div", { class: "right" }, code, reply),
    codes(operation, results),
  );
}

function address(operation) {
  const also = operation.paths.slice(1);
  return element(
    "p",
    { class: "address" },
    element("b", {}, "POST"),
    element("code", {}, operation.path),
    operation.selector ? element("code", { class: "selector" }, `${operation.selector}=1`) : null,
    also.length ? element("span", {}, both("also on ", "亦可用 "), also.join(" ")) : null,
  );
}

/** What a retry after an unknown outcome means, where that is not the same as the first call. */
function retryNote(operation) {
  const link = (text) => element("a", { href: "#unknown-outcome" }, text);
  if (operation.request.properties.requestId) {
    return element(
      "p",
      { class: "retry" },
      link(both("After an unknown outcome", "结果未知时")),
      both(
        ", send it again with the same requestId.",
        "请用同一个 requestId 重试。",
      ),
    );
  }
  const reason = operation["x-already-done"];
  if (!reason) return null;
  return element(
    "p",
    { class: "retry" },
    link(both("After an unknown outcome", "结果未知时")),
    both(", send it again; the reason ", "请重试；若返回原因 "),
    element("code", {}, reason),
    both(" means that it was done.", "，说明首次请求已成功。"),
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
      required ? null : element("small", {}, both("optional", "可选")),
    ),
    element("p", { id: `${id}-hint` }, both(schema.description, schema["x-zh"]), rule(schema)),
    input,
  );
}

/** What the value must be, in a few signs. */
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
    // Good to send as it is, but for what only an earlier reply can tell.
    input.value = example ?? "";
  }
  return input;
}

/** Where nothing is required, the first is what one sends. */
function isFirstOfOptional({ request }, name) {
  return request.required.length === 0 && Object.keys(request.properties)[0] === name;
}

/** The parameters that the form holds; what is empty is left out. */
function filled(operation, form) {
  const fields = operation.selector ? { [operation.selector]: "1" } : {};
  for (const input of form.elements) {
    if (!input.name) continue;
    const value = input.type === "file" ? input.files[0] : input.value;
    if (value) fields[input.name] = value;
  }
  // Where a parameter's mere presence selects the operation, one of them is there.
  const marks = (operation.request.anyOf ?? []).map(({ required: [name] }) => name);
  if (marks.length && !marks.some((name) => name in fields)) fields[marks[0]] = "";
  return fields;
}

function snippets(operation, fields, form) {
  const languages = { curl, Python: python };
  let chosen = "curl";
  const text = element("code", {});
  const block = element("pre", { tabindex: "0" }, text);
  const draw = () => {
    text.textContent = languages[chosen](operation, fields());
  };
  const tabs = Object.keys(languages).map((name) =>
    element(
      "button",
      {
        type: "button",
        "aria-pressed": String(name === chosen),
        onclick: () => {
          chosen = name;
          for (const tab of tabs) tab.ariaPressed = String(tab.textContent === name);
          draw();
        },
      },
      name,
    ),
  );
  const copier = element("button", { type: "button", class: "copy" });
  const name = () => {
    copier.textContent = say("Copy", "复制");
  };
  copier.addEventListener("click", async () => {
    await copy(text.textContent);
    copier.textContent = say("Copied", "已复制");
    setTimeout(name, 1600);
  });
  onLanguage(name);
  name();
  follow(block, "ariaLabel", "the call as code", "调用代码");
  form.addEventListener("input", draw);
  form.addEventListener("change", draw);
  queueMicrotask(draw);
  return element("div", { class: "code" }, element("div", { class: "tabs" }, ...tabs, copier), block);
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
        element("span", {}, both(results[code].description, results[code]["x-zh"])),
      ),
    ),
  );
}

// The form of an operation: a field for each parameter.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { meaningOf } from "./document.js";
import { anchor } from "./links.js";
import { prose } from "./text.js";
import { onToken } from "./token.js";

export function operationForm(operation) {
  return element(
    "form",
    { class: "call", novalidate: true, autocomplete: "off" },
    ...operation.parameters.map((parameter) => row(operation, parameter)),
    element("button", { class: "main-button", type: "submit" }, bilingual("Send", "发送")),
  );
}

/** The non-empty parameters of the form. */
export function filledFields(operation, form) {
  const fields = operation.selector ? { [operation.selector]: "1" } : {};
  for (const input of form.elements) {
    if (!input.name) continue;
    const value = input.type === "file" ? input.files[0] : input.value;
    if (value) fields[input.name] = value;
  }
  return fields;
}

function row(operation, parameter) {
  const { name, schema, required } = parameter;
  const id = `${operation.name}-${name}`;
  return element(
    "div",
    { class: "parameter", id },
    element(
      "div",
      { class: "parameter-name" },
      element("label", { for: `${id}-field` }, element("code", {}, name)),
      required ? null : element("small", {}, bilingual("optional", "可选")),
      anchor(id),
    ),
    element("p", { id: `${id}-text` }, prose(...meaningOf(schema)), rule(schema)),
    field(operation, id, parameter),
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

function field(operation, id, { name, schema, required }) {
  const attributes = {
    id: `${id}-field`,
    name,
    class: "field",
    "aria-describedby": `${id}-text`,
  };
  if (schema.contentMediaType) {
    return element("input", { ...attributes, type: "file", accept: "image/*" });
  }
  const [example = ""] = schema.examples ?? [];
  if (schema.enum) return choice(attributes, schema.enum, required, example);
  const input = element("input", {
    ...attributes,
    type: "text",
    spellcheck: "false",
    placeholder: example === "" ? false : example,
    inputmode: schema.type === "integer" || schema.format === "phone" ? "numeric" : false,
    "aria-required": required ? "true" : false,
  });
  if (schema["x-login-token"]) {
    onToken((token) => {
      input.value = token;
    });
  } else if (required || isFirstOfOptional(operation, name)) {
    // Filled in, so that the form can be sent as it is.
    input.value = example;
  }
  return input;
}

function choice(attributes, values, required, example) {
  const select = element(
    "select",
    attributes,
    required ? null : element("option", { value: "" }, "–"),
    ...values.map((value) => element("option", { value }, String(value))),
  );
  if (required) select.value = example;
  return select;
}

/** The first parameter is filled in if none is required. */
function isFirstOfOptional({ parameters }, name) {
  return parameters[0].name === name && !parameters.some(({ required }) => required);
}

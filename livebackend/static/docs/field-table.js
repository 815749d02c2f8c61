// The table of the fields in a successful response, or in an event.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { meaningOf, resolve } from "./document.js";
import { prose } from "./text.js";

const TYPES = {
  string: { one: ["string", "字符串"], many: "strings" },
  integer: { one: ["integer", "整数"], many: "integers" },
  number: { one: ["number", "数字"], many: "numbers" },
  boolean: { one: ["boolean", "布尔值"], many: "booleans" },
  object: { one: ["object", "对象"], many: "objects" },
  array: { one: ["array", "数组"], many: "arrays" },
  null: { one: ["null", "null"], many: "null" },
  any: { one: ["any value", "任意值"], many: "values" },
};

// A longer table is closed at first, so that the operation fits on a screen.
const MAX_OPEN_FIELDS = 8;

/** The table of a response. */
export function responseTable(openapi, operation) {
  const { fields, inner } = responseFields(openapi, operation);
  const heading = ["Response fields", "响应字段"];
  return fieldTable(`fields-${operation.name}`, heading, fields, inner);
}

/** The `inner` fields are those of the JSON that `message` contains as a string. */
export function fieldTable(id, title, fields, inner = []) {
  const count = fields.length + inner.length;
  const heading = (...texts) => element("th", { scope: "col" }, bilingual(...texts));
  return element(
    "details",
    { class: "more", id, open: count <= MAX_OPEN_FIELDS },
    element(
      "summary",
      {},
      bilingual(...title),
      element("span", { class: "note" }, String(count)),
    ),
    element(
      "table",
      { class: "fields" },
      element("thead", {}, element("tr", {}, heading("Field", "字段"), heading("Meaning", "含义"))),
      element("tbody", {}, ...fields.map(fieldRow)),
      inner.length ? element("tbody", {}, contentHeading(), ...inner.map(fieldRow)) : null,
    ),
  );
}

/** Lists the fields, and the `inner` ones of the JSON that `message` contains as a string. */
export function responseFields(openapi, operation) {
  const { result, ...properties } = operation.response.properties;
  const content = resolve(openapi, properties.message).contentSchema;
  return {
    fields: fieldsOf(openapi, "", properties),
    inner: content ? fieldsOf(openapi, "", resolve(openapi, content).properties) : [],
  };
}

function contentHeading() {
  const heading = prose("Fields of the JSON in `message`", "`message` 中 JSON 的字段");
  return element("tr", {}, element("th", { colspan: "2", scope: "rowgroup" }, heading));
}

/** Lists the fields, each before those that it contains. */
export function fieldsOf(openapi, prefix, properties) {
  return Object.entries(properties).flatMap(([name, property]) => {
    const { schema, nullable } = withoutNull(openapi, property);
    const isArray = schema.type === "array";
    const item = isArray ? withoutNull(openapi, schema.items).schema : schema;
    const inner = item.properties ?? {};
    const field = {
      prefix,
      name,
      type: typeText(schema, item, nullable),
      values: valuesOf(item),
      meaning: meaningOf(schema) ?? defaultMeaning(schema, inner),
    };
    return [field, ...fieldsOf(openapi, `${prefix}${name}${isArray ? "[]" : ""}.`, inner)];
  });
}

/** The schema of a value that is not null, and whether the value can be null. */
function withoutNull(openapi, property) {
  const { anyOf, ...schema } = resolve(openapi, property);
  if (!anyOf) return { schema, nullable: false };
  const alternative = anyOf.find(({ type }) => type !== "null");
  const nullable = anyOf.some(({ type }) => type === "null");
  return { schema: { ...resolve(openapi, alternative), ...schema }, nullable };
}

function typeText(schema, item, nullable) {
  const { one, many } = TYPES[item.type ?? "any"];
  const [english, chinese] =
    schema.type === "array" ? [`array of ${many}`, `${one[1]}数组`] : one;
  return nullable ? [`${english} or null`, `${chinese}或 null`] : [english, chinese];
}

const valuesOf = ({ enum: values, const: value }) => values ?? (value === undefined ? [] : [value]);

function defaultMeaning({ type }, inner) {
  if (type === "null") return ["no content", "无内容"];
  return Object.keys(inner).length ? ["the fields below", "含下列字段"] : ["", ""];
}

function fieldRow({ prefix, name, type, values, meaning }) {
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      element("code", {}, ...breakable(prefix), element("b", {}, name)),
      element("small", {}, bilingual(...type)),
    ),
    element(
      "td",
      {},
      prose(...meaning),
      ...values.map((value) => element("code", { class: "rule" }, JSON.stringify(value))),
    ),
  );
}

/** A path that a narrow table can break after a dot. */
const breakable = (path) =>
  path.split(/(?<=\.)/).flatMap((part) => [part, element("wbr")]);

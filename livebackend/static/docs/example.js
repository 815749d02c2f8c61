// The example of a successful response.

import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { highlighted } from "./json.js";
import { prose } from "./text.js";

/** For a message that is JSON in a string, the example also has the parsed message. */
export function exampleBox(operation) {
  const { message } = operation.response.properties;
  const isJson = message.contentMediaType === "application/json";
  return element(
    "details",
    { class: "example", open: true },
    element("summary", {}, bilingual("Example of a response", "响应示例")),
    exampleBlock(operation.name, operation.example),
    isJson ? element("p", {}, prose("The parsed `message`:", "解析后的 `message`：")) : null,
    isJson ? exampleBlock(operation.name, JSON.parse(operation.example.message)) : null,
  );
}

export function exampleBlock(name, value) {
  const node = element("pre", { tabindex: "0", role: "group" }, highlighted(value));
  return localize(node, "ariaLabel", `Example: ${name}`, `示例：${name}`);
}

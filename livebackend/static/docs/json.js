// Indented JSON with syntax highlighting.

import { element } from "../shared/dom.js";

const TOKENS = /("(?:\\.|[^"\\])*")(:?)|\b(?:true|false|null|-?\d[\d.e+-]*)\b/g;

export function highlighted(value) {
  const code = element("code", {});
  const json = JSON.stringify(value, null, 2);
  let end = 0;
  for (const match of json.matchAll(TOKENS)) {
    code.append(json.slice(end, match.index));
    const kind = match[2] ? "key" : match[1] ? "text" : "plain";
    code.append(element("span", { class: kind }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  code.append(json.slice(end));
  return code;
}

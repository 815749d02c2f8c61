// The header X-Error in words: "parameter; reason=token; max=32".

import { bilingual } from "./language.js";

/** Returns a node with the message in both languages, or null without the header. */
export function errorMessage(headers, reasons) {
  const header = headers.get("X-Error");
  if (!header) return null;
  const [parameter, ...fields] = header.split("; ");
  const { reason, ...limits } = Object.fromEntries(fields.map((field) => field.split("=")));
  const messages = reasons[reason];
  if (!messages) return document.createTextNode(header);
  const withLimits = (message) => message.replace(/\{(\w+)\}/g, (placeholder, name) => limits[name] ?? placeholder);
  return bilingual(
    `${parameter} ${withLimits(messages.description)}`,
    `${parameter}：${withLimits(messages["x-zh"])}`,
  );
}

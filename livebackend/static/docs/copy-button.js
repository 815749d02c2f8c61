// A button that copies a text.

import { copyText, element } from "../shared/dom.js";
import { localized, onLanguageChange } from "../shared/language.js";

/** `text` returns the text to copy. */
export function copyButton(text) {
  const button = element("button", { type: "button", class: "copy" });
  const showLabel = () => {
    button.textContent = localized("Copy", "复制");
  };
  button.addEventListener("click", async () => {
    await copyText(text());
    button.textContent = localized("Copied", "已复制");
    setTimeout(showLabel, 1600);
  });
  onLanguageChange(showLabel);
  showLabel();
  return button;
}

// Buttons that copy a text.

import { copyText, element } from "../shared/dom.js";
import { localized, onLanguageChange } from "../shared/language.js";
import { quoted } from "./snippet-curl.js";
import { currentToken, onToken } from "./token.js";

const copyLabel = () => localized("Copy", "复制");

/** `text` returns the text to copy. */
export function copyButton(text, label = copyLabel) {
  const button = element("button", { type: "button", class: "copy" });
  const showLabel = () => {
    button.textContent = label();
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

/** A button that copies the command that sets the login token. Without a token it is disabled. */
export function tokenCopyButton() {
  const label = () =>
    currentToken() ? copyLabel() : localized("Log in to copy", "登录后可复制");
  const button = copyButton(() => `export TOKEN=${quoted(currentToken())}`, label);
  onToken((token) => {
    button.disabled = !token;
    button.textContent = label();
  });
  return button;
}

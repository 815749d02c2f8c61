// The login token: taken from the login response, stored until the tab is closed.

import { localize, localized, onLanguageChange } from "../shared/language.js";

const KEY = "livebackend.token";
const listeners = [];
let token = "";
let isFresh = false; // from a login on this page

export const currentToken = () => token;

export function onToken(listener) {
  listeners.push(listener);
  listener(token);
}

export function storeToken(value, { fresh = false } = {}) {
  token = value;
  isFresh = fresh;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is disabled: the token is lost when the page is closed.
  }
  for (const listener of listeners) listener(token);
}

export function startToken() {
  try {
    token = sessionStorage.getItem(KEY) ?? "";
  } catch {
    // Storage is disabled.
  }
  const field = document.getElementById("token");
  const hint = document.getElementById("token-hint");
  const updateStatusText = () => {
    if (!token) hint.textContent = localized("Filled in when you log in below.", "在下方登录后自动填入。");
    else if (isFresh) hint.textContent = localized("Saved from the login response and filled into every form.", "已从登录响应中保存，并填入各表单。");
    else hint.textContent = localized("Saved until this tab is closed.", "保存至关闭此标签页。");
  };
  onToken((value) => {
    if (field.value !== value) field.value = value;
    updateStatusText();
  });
  onLanguageChange(updateStatusText);
  localize(field, "placeholder", "not logged in", "尚未登录");
  field.addEventListener("input", () => storeToken(field.value.trim()));
  document.getElementById("forget").addEventListener("click", () => storeToken(""));
  document.getElementById("token-form").addEventListener("submit", (event) => event.preventDefault());
}

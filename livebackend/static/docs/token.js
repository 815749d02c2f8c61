// The login token: got from log in, kept while the tab is open, filled into every form.

import { follow, onLanguage, say } from "../shared/language.js";

const KEY = "livebackend.token";
const watchers = [];
let token = "";
let isFresh = false;

export function onToken(watcher) {
  watchers.push(watcher);
  watcher(token);
}

export function keepToken(value, { fresh = false } = {}) {
  token = value;
  isFresh = fresh;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Then it is kept by the page alone.
  }
  for (const watcher of watchers) watcher(token);
}

export function startToken() {
  try {
    token = sessionStorage.getItem(KEY) ?? "";
  } catch {
    // No storage: nothing was kept.
  }
  const field = document.getElementById("token");
  const hint = document.getElementById("token-hint");
  const tell = () => {
    if (!token) hint.textContent = say("Log in below, and it comes here by itself.", "在下面登录后会自动填入。");
    else if (isFresh) hint.textContent = say("Kept from log in; every form has it.", "已从登录返回中保存，并填入各表单。");
    else hint.textContent = say("Kept until this tab is closed.", "保存至关闭此标签页。");
  };
  onToken((value) => {
    if (field.value !== value) field.value = value;
    tell();
  });
  onLanguage(tell);
  follow(field, "placeholder", "none yet", "尚未登录");
  field.addEventListener("input", () => keepToken(field.value.trim()));
  document.getElementById("forget").addEventListener("click", () => keepToken(""));
  document.getElementById("token-form").addEventListener("submit", (event) => event.preventDefault());
}

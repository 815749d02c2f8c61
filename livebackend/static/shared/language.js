// Two languages on one page: the `lang` of the root element selects the visible one.

import { element } from "./dom.js";

const root = document.documentElement;
const listeners = [];

export const isChinese = () => root.lang.startsWith("zh");

/** Returns a text in the current language. */
export const localized = (english, chinese) => (isChinese() ? chinese : english);

/** Returns a node with a text in both languages, one of them visible. */
export function bilingual(english, chinese) {
  if (english === chinese) return document.createTextNode(english);
  return element(
    "span",
    {},
    element("span", { lang: "en" }, english),
    element("span", { lang: "zh-CN" }, chinese),
  );
}

/** Sets a property, now and whenever the language changes. */
export function localize(node, property, english, chinese) {
  const set = () => {
    node[property] = localized(english, chinese);
  };
  listeners.push(set);
  set();
  return node;
}

export function onLanguageChange(listener) {
  listeners.push(listener);
}

function store(name, value) {
  try {
    localStorage.setItem(`livebackend.${name}`, value);
  } catch {
    // Storage is disabled: the setting is lost when the page is closed.
  }
}

function setLanguage(language) {
  root.lang = language === "zh" ? "zh-CN" : "en";
  store("language", language);
  for (const listener of listeners) listener();
}

const isDark = () =>
  root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

/** Starts the language and theme buttons in the header. */
export function startSwitches() {
  const language = document.getElementById("language");
  const theme = document.getElementById("theme");
  language.addEventListener("click", () => setLanguage(isChinese() ? "en" : "zh"));
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store("theme", root.dataset.theme);
    for (const listener of listeners) listener();
  });
  localize(language, "textContent", "中文", "English");
  localize(language, "lang", "zh-CN", "en");
  const setThemeLabel = () => {
    theme.ariaLabel = isDark()
      ? localized("Light theme", "浅色主题")
      : localized("Dark theme", "深色主题");
    theme.title = theme.ariaLabel;
  };
  listeners.push(setThemeLabel);
  setThemeLabel();
  for (const node of document.querySelectorAll("[data-title-en]")) {
    localize(node, "textContent", node.dataset.titleEn, node.dataset.titleZh);
  }
}

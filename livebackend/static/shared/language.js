// Two languages on one page: both are there, and the root's `lang` says which is seen.

import { element } from "./dom.js";

const root = document.documentElement;
const watchers = [];

export const isChinese = () => root.lang.startsWith("zh");

/** A text in the language of the page. */
export const say = (english, chinese) => (isChinese() ? chinese : english);

/** A text that follows the language. */
export function both(english, chinese) {
  if (english === chinese) return document.createTextNode(english);
  return element(
    "span",
    {},
    element("span", { lang: "en" }, english),
    element("span", { lang: "zh-CN" }, chinese),
  );
}

/** Sets an attribute, or the text of an option, and again whenever the language changes. */
export function follow(node, property, english, chinese) {
  const set = () => {
    node[property] = say(english, chinese);
  };
  watchers.push(set);
  set();
  return node;
}

export function onLanguage(watcher) {
  watchers.push(watcher);
}

function remember(name, value) {
  try {
    localStorage.setItem(`livebackend.${name}`, value);
  } catch {
    // Then it holds until the page is left.
  }
}

function setLanguage(language) {
  root.lang = language === "zh" ? "zh-CN" : "en";
  remember("language", language);
  for (const watcher of watchers) watcher();
}

const isDark = () =>
  root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

/** Brings the switches in the page's head to life. */
export function startSwitches() {
  const language = document.getElementById("language");
  const theme = document.getElementById("theme");
  language.addEventListener("click", () => setLanguage(isChinese() ? "en" : "zh"));
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("theme", root.dataset.theme);
    for (const watcher of watchers) watcher();
  });
  follow(language, "textContent", "中文", "English");
  follow(language, "lang", "zh-CN", "en");
  const name = () => {
    theme.ariaLabel = isDark()
      ? say("Light colours", "浅色")
      : say("Dark colours", "深色");
    theme.title = theme.ariaLabel;
  };
  watchers.push(name);
  name();
  for (const node of document.querySelectorAll("[data-title-en]")) {
    follow(node, "textContent", node.dataset.titleEn, node.dataset.titleZh);
  }
}

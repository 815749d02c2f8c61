// Before anything is drawn: the language and the light that were chosen here, or else the browser's.
(() => {
  const root = document.documentElement;
  const chosen = (name) => {
    try {
      return localStorage.getItem(`livebackend.${name}`);
    } catch {
      return null; // storage is switched off
    }
  };
  const language = chosen("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  root.lang = language === "zh" ? "zh-CN" : "en";
  const theme = chosen("theme");
  if (theme) root.dataset.theme = theme;
})();

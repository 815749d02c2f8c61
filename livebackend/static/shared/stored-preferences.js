// Runs before the first paint: sets the stored language and theme, or the browser's.
(() => {
  const root = document.documentElement;
  const stored = (name) => {
    try {
      return localStorage.getItem(`livebackend.${name}`);
    } catch {
      return null; // storage is disabled
    }
  };
  const language = stored("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  root.lang = language === "zh" ? "zh-CN" : "en";
  const theme = stored("theme");
  if (theme) root.dataset.theme = theme;
})();

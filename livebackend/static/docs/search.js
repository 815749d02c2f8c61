// The search field of the contents: it hides the entries that do not match.

import { element } from "../shared/dom.js";
import { bilingual, localize, localized, onLanguageChange } from "../shared/language.js";

/**
 * Returns the field. Each group has a node and entries; each entry has a node and the texts that
 * are `searched`. `fold` contains all of them.
 */
export function searchField(groups, fold) {
  const input = element("input", {
    ...{ id: "search-field", class: "field", type: "search", autocomplete: "off" },
    ...{ spellcheck: "false", "aria-controls": fold.id, "aria-keyshortcuts": "/" },
  });
  const count = element("p", { role: "status" });
  localize(input, "placeholder", "Search (press /)", "搜索（按 /）");
  const update = () => {
    const matches = filter(groups, input.value);
    count.textContent = input.value.trim() ? countText(matches.length) : "";
  };
  onLanguageChange(update);
  input.addEventListener("input", () => {
    fold.open = true;
    update();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing) {
      event.preventDefault();
      input.value = "";
      update();
    } else if (event.key === "Enter" && !event.isComposing && input.value.trim()) {
      filter(groups, input.value)[0]?.node.querySelector("a").click();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
  const label = element("label", { class: "visually-hidden", for: input.id }, bilingual("Search the operations", "搜索接口"));
  return element("div", { class: "search", role: "search" }, label, input, count);
}

/** Shows the entries that contain every word of the query; returns them. */
function filter(groups, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = [];
  for (const { node, entries } of groups) {
    const shown = entries.filter((entry) => containsAll(entry, words));
    for (const entry of entries) entry.node.hidden = !shown.includes(entry);
    node.hidden = !shown.length;
    matches.push(...shown);
  }
  return matches;
}

function containsAll({ searched }, words) {
  const text = searched.join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function countText(count) {
  if (!count) return localized("No match.", "没有匹配项。");
  return localized(count === 1 ? "1 match" : `${count} matches`, `${count} 个匹配项`);
}

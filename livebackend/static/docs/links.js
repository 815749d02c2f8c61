// Links to parts of the page.

import { element } from "../shared/dom.js";

/** Returns a visible link to the part with this id, which a reader can copy. */
export const anchor = (id) =>
  element("a", { class: "anchor", href: `#${id}`, "aria-label": `#${id}` }, "#");

/** Shows the part that the URL names, now and when the URL changes. */
export function followLinks() {
  addEventListener("hashchange", () => {
    // The browser has scrolled to the part, but it may not open details.
    if (openDetails()) linkedPart().scrollIntoView();
  });
  openDetails();
  // Navigating again scrolls to the part, and selects it for the CSS selector :target. When the
  // page loaded, the part did not exist.
  if (linkedPart()) location.replace(location.hash);
}

const linkedPart = () => document.getElementById(location.hash.slice(1));

/** Opens the details that contain the part; returns whether any were closed. */
function openDetails() {
  let hasOpened = false;
  for (let node = linkedPart(); node; node = node.parentElement) {
    if (node.tagName !== "DETAILS" || node.open) continue;
    node.open = true;
    hasOpened = true;
  }
  return hasOpened;
}

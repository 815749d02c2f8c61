// Moves the focus when the content of a phone changes, so that it is never lost.

import { element } from "../shared/dom.js";

/** The heading of a screen, which gets the focus when the screen appears. */
export const heading = (...children) => element("h3", { tabindex: "-1" }, ...children);

/** Focuses the heading of the screen, unless the focus is elsewhere, such as on the other phone. */
export function focusHeading(phoneNode) {
  const focused = document.activeElement;
  if (focused === document.body || phoneNode.contains(focused)) moveFocusToHeading(phoneNode);
}

/** Focuses the heading of the screen, wherever the focus is. */
export function moveFocusToHeading(phoneNode) {
  phoneNode.querySelector(".screen h3")?.focus();
}

/** Runs an action; if it removes the focused element, focuses the heading of the screen. */
export async function keepFocus(phoneNode, action) {
  const hadFocus = phoneNode.contains(document.activeElement);
  await action();
  if (hadFocus && document.activeElement === document.body) focusHeading(phoneNode);
}

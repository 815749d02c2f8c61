// Form elements of the phones.

import { element } from "../shared/dom.js";
import { keepFocus } from "./focus.js";
import { untilLoginEnds } from "./login.js";

let count = 0;

export function field(label, properties, hint = null) {
  const id = `field-${(count += 1)}`;
  const input = element("input", { id, class: "field", autocomplete: "off", ...properties });
  const node = element("div", { class: "labelled" }, element("label", { for: id }, label), input, hint);
  return { node, input };
}

/** A form that ignores its button while the action runs. */
export function form(children, buttonLabel, action) {
  const submit = element("button", { type: "submit", class: "main-button" }, buttonLabel);
  return element(
    "form",
    {
      class: "stack",
      onsubmit: (event) => {
        event.preventDefault();
        runOnce(submit, action);
      },
    },
    ...children,
    submit,
  );
}

/** A button that does nothing while its action runs. */
export function button(cssClass, label, action) {
  const node = element("button", { type: "button", class: cssClass }, label);
  node.addEventListener("click", () => runOnce(node, action));
  return node;
}

/** Runs the action of a button until the login ends, unless it runs already. */
async function runOnce(node, action) {
  // Not `disabled`: a disabled button loses the focus.
  if (node.hasAttribute("aria-disabled")) return;
  node.setAttribute("aria-disabled", "true");
  try {
    await keepFocus(node.closest(".phone"), () => untilLoginEnds(action));
  } finally {
    node.removeAttribute("aria-disabled");
  }
}

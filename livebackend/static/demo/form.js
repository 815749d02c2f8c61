// Form elements of the phones.

import { element } from "../shared/dom.js";

let count = 0;

export function field(label, properties, hint = null) {
  const id = `field-${(count += 1)}`;
  const input = element("input", { id, class: "field", autocomplete: "off", ...properties });
  const node = element("div", { class: "labelled" }, element("label", { for: id }, label), input, hint);
  return { node, input };
}

/** A form whose button is disabled while the action runs. */
export function form(children, buttonLabel, action) {
  const submit = element("button", { type: "submit", class: "main-button" }, buttonLabel);
  return element(
    "form",
    {
      class: "stack",
      onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        await action();
        submit.disabled = false;
      },
    },
    ...children,
    submit,
  );
}

/** A button that is disabled while the action runs. */
export function button(cssClass, label, action) {
  const node = element("button", { type: "button", class: cssClass }, label);
  node.addEventListener("click", async () => {
    node.disabled = true;
    await action();
    node.disabled = false;
  });
  return node;
}

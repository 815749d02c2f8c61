// Forms of the phones: a label above each field, one button below.

import { element } from "../shared/dom.js";

let count = 0;

export function field(label, properties, hint = null) {
  const id = `field-${(count += 1)}`;
  const input = element("input", { id, class: "field", autocomplete: "off", ...properties });
  const node = element("div", { class: "labelled" }, element("label", { for: id }, label), input, hint);
  return { node, input };
}

/** A form whose button rests while its work is under way. */
export function form(children, button, work) {
  const submit = element("button", { type: "submit", class: "main-button" }, button);
  return element(
    "form",
    {
      class: "stack",
      onsubmit: async (event) => {
        event.preventDefault();
        submit.disabled = true;
        await work();
        submit.disabled = false;
      },
    },
    ...children,
    submit,
  );
}

/** A button that rests while its work is under way. */
export function button(kind, label, work) {
  const node = element("button", { type: "button", class: kind }, label);
  node.addEventListener("click", async () => {
    node.disabled = true;
    await work();
    node.disabled = false;
  });
  return node;
}

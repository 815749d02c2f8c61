// One operation: description, form, code, and what the server responds.

import { sendRequest } from "../shared/api.js";
import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { codeBox } from "./code-box.js";
import { errorList } from "./errors.js";
import { exampleBox } from "./example.js";
import { responseTable } from "./field-table.js";
import { filledFields, operationForm } from "./form.js";
import { headerTable } from "./headers.js";
import { anchor } from "./links.js";
import { responseView } from "./response.js";
import { retryNote } from "./retry.js";
import { prose } from "./text.js";
import { storeToken } from "./token.js";

/** `tables` has the descriptions of `results` and error `reasons`. */
export function operationSection(openapi, operation, tables) {
  const form = operationForm(operation);
  const fields = () => filledFields(operation, form);
  const output = element("div", { class: "response-output", role: "status" });
  const example = exampleBox(operation);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    const focused = document.activeElement;
    button.disabled = true;
    output.replaceChildren(await send(operation, fields(), tables));
    example.open = false;
    button.disabled = false;
    // A disabled button loses the focus. The user may have moved the focus in the meantime.
    if (document.activeElement === document.body) focused.focus({ preventScroll: true });
    if (document.activeElement === focused) output.scrollIntoView({ block: "nearest" });
  });
  return element(
    "article",
    { class: "operation", id: operation.name, "aria-labelledby": `title-${operation.name}` },
    header(operation),
    element(
      "div",
      { class: "left" },
      form,
      responseTable(openapi, operation),
      errorList(operation, tables),
      headerTable(openapi, operation),
    ),
    element("div", { class: "right" }, codeBox(operation, form, fields), output, example),
  );
}

/** Sends the request; returns a view of the response. */
async function send(operation, fields, tables) {
  try {
    const response = await sendRequest(operation.path, fields);
    if (operation.returnsToken && response.body?.result === "0000") {
      storeToken(response.body.message, { fresh: true });
    }
    return responseView(response, tables);
  } catch {
    return element("p", { class: "no-response" }, bilingual("No response.", "未收到响应。"));
  }
}

function header(operation) {
  const title = element(
    "h3",
    { id: `title-${operation.name}` },
    bilingual(...operation.title),
    operation.isExtension
      ? element("span", { class: "extension" }, bilingual("extension", "扩展"))
      : null,
  );
  return element(
    "header",
    {},
    element("div", { class: "title" }, title, anchor(operation.name)),
    address(operation),
    element("p", { class: "description" }, prose(...operation.description)),
    retryNote(operation),
  );
}

function address({ path, paths, selector }) {
  const otherPaths = paths.slice(1);
  return element(
    "p",
    { class: "address" },
    element("b", {}, "POST"),
    element("code", {}, path),
    selector ? element("code", { class: "selector" }, `${selector}=1`) : null,
    otherPaths.length
      ? element("span", {}, bilingual("also on ", "也可用 "), otherPaths.join(" "))
      : null,
  );
}

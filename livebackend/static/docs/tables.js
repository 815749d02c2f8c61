// The tables of result codes, error reasons and HTTP statuses.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { meaningOf, resolve } from "./document.js";
import { anchor } from "./links.js";
import { prose } from "./text.js";

export function resultTable(results) {
  return table([["Code", "返回码"], ["Meaning", "含义"]], describedRows("result", results));
}

export function reasonTable(reasons) {
  return table([["Reason", "原因"], ["Message", "说明"]], describedRows("reason", reasons));
}

/** The HTTP statuses of responses; they are the same for all operations. */
export function statusTable(openapi) {
  const [{ post }] = Object.values(openapi.paths);
  const rows = Object.entries(post.responses).map(([status, part]) => {
    const response = resolve(openapi, part);
    const { example } = response.content["application/json"];
    return { id: `status-${status}`, key: status, cells: [prose(...meaningOf(response)), codeOf(status, example)] };
  });
  return table([["Status", "状态码"], ["Meaning", "含义"], ["Result code", "返回码"]], rows);
}

function codeOf(status, example) {
  if (status === "200") return bilingual("all except 0003", "除 0003 外的所有返回码");
  if (status >= "500") return bilingual("default error code of the operation", "接口的默认错误码");
  return element("code", {}, example.result);
}

const describedRows = (prefix, descriptions) =>
  Object.entries(descriptions).map(([key, description]) => ({
    id: `${prefix}-${key}`,
    key,
    cells: [prose(...meaningOf(description))],
  }));

function table(headings, rows) {
  return element(
    "table",
    {},
    element(
      "thead",
      {},
      element("tr", {}, ...headings.map((texts) => element("th", { scope: "col" }, bilingual(...texts)))),
    ),
    element(
      "tbody",
      {},
      ...rows.map(({ id, key, cells }) =>
        element(
          "tr",
          { id },
          element("th", { scope: "row" }, element("code", {}, key), anchor(id)),
          ...cells.map((cell) => element("td", {}, cell)),
        ),
      ),
    ),
  );
}

// The documentation page, generated from openapi-operations.json.

import { element } from "../shared/dom.js";
import { bilingual, localize, startSwitches } from "../shared/language.js";
import { operationSection } from "./operation.js";
import { startToken } from "./token.js";

/** The operations by chapter, in the order of the document. */
function chapters(document) {
  const { schemas } = document.components;
  const operations = Object.entries(document.paths).map(([path, { post }]) => {
    const [{ schema }] = Object.values(post.requestBody.content);
    const request = schemas[schema.$ref.split("/").pop()];
    const [success] = post.responses[200].content["application/json"].schema.oneOf;
    const { message } = schemas[success.$ref.split("/").pop()].properties;
    return {
      ...post,
      name: post.operationId,
      path: path.split("#")[0],
      selector: post["x-selector"],
      paths: post["x-paths"],
      results: ["0000", ...Object.keys(post["x-errors"])],
      request,
      returnsToken: message["x-login-token"] === true,
    };
  });
  return document.tags.map((tag) => ({
    english: tag.name,
    chinese: tag["x-zh"],
    operations: operations.filter(({ tags: [chapter] }) => chapter === tag.name),
  }));
}

function contents(list) {
  return element(
    "ul",
    {},
    ...list.map((chapter) =>
      element(
        "li",
        {},
        element("strong", {}, bilingual(chapter.english, chapter.chinese)),
        element(
          "ul",
          {},
          ...chapter.operations.map((operation) =>
            element(
              "li",
              {},
              element("a", { href: `#${operation.name}` }, shortTitle(operation)),
            ),
          ),
        ),
      ),
    ),
    element(
      "li",
      {},
      element("a", { class: "of-results", href: "#results" }, bilingual("Result codes", "返回码")),
    ),
    element(
      "li",
      {},
      element("a", { class: "of-results", href: "#reasons" }, bilingual("Error reasons", "错误原因")),
    ),
  );
}

/** The title up to the first comma or semicolon. */
function shortTitle(operation) {
  return bilingual(operation.summary.split(/[;,]/)[0], operation["x-zh"]);
}

/** A table of codes or tokens with their descriptions; `prefix` is that of the row ids. */
function descriptionTable(descriptions, prefix, english, chinese) {
  const head = (...texts) => element("th", { scope: "col" }, bilingual(...texts));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, head(english, chinese), head("Description", "说明"))),
    element(
      "tbody",
      {},
      ...Object.entries(descriptions).map(([key, text]) =>
        element(
          "tr",
          { id: `${prefix}-${key}` },
          element("th", { scope: "row" }, element("code", {}, key)),
          element("td", {}, bilingual(text.description, text["x-zh"])),
        ),
      ),
    ),
  );
}

/** Marks the visible operation in the contents. */
function markVisible() {
  const links = new Map(
    [...document.querySelectorAll("#contents a")].map((link) => [link.hash.slice(1), link]),
  );
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const link = links.get(target.id);
        if (!isIntersecting || !link) continue;
        for (const other of links.values()) other.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  for (const section of document.querySelectorAll(".operation, .results")) observer.observe(section);
}

async function start() {
  startSwitches();
  startToken();
  const response = await fetch("openapi-operations.json");
  const openapi = await response.json();
  const tables = { results: openapi["x-results"], reasons: openapi["x-error-reasons"] };
  const list = chapters(openapi);
  const wide = matchMedia("(min-width: 1080px)");
  const fold = element(
    "details",
    {},
    element("summary", {}, bilingual("Contents", "目录")),
    contents(list),
  );
  const unfold = () => {
    fold.open = wide.matches;
  };
  wide.addEventListener("change", unfold);
  unfold();
  fold.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) fold.open = false;
  });
  const nav = document.getElementById("contents");
  localize(nav, "ariaLabel", "Contents", "目录");
  nav.append(fold);
  document.getElementById("calls").append(
    ...list.map((chapter) =>
      element(
        "section",
        { class: "chapter" },
        element("h2", {}, bilingual(chapter.english, chapter.chinese)),
        ...chapter.operations.map((operation) =>
          operationSection(operation, tables),
        ),
      ),
    ),
  );
  document
    .getElementById("results-table")
    .append(descriptionTable(tables.results, "result", "Code", "返回码"));
  document
    .getElementById("reasons-table")
    .append(descriptionTable(tables.reasons, "reason", "Reason", "原因"));
  markVisible();
  document.body.dataset.ready = "true";
  // The URL can name an operation, which did not exist when the page loaded.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

start();

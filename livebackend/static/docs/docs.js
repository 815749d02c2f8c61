// The page of the API: everything on it comes from openapi.json, which is made from the code.

import { element } from "../shared/dom.js";
import { both, follow, startSwitches } from "../shared/language.js";
import { operationSection } from "./operation.js";
import { startToken } from "./token.js";

/** The operations as the page shows them, chapter by chapter. */
function chapters(document) {
  const operations = new Map();
  for (const [path, { post }] of Object.entries(document.paths)) {
    for (const [name, operation] of Object.entries(post["x-operations"])) {
      if (operations.has(name)) continue;
      const request = document.components.schemas[`${name}.request`];
      const [success] = document.components.schemas[`${name}.reply`].oneOf;
      const givesToken = success.properties.message["x-login-token"] === true;
      operations.set(name, { ...operation, name, path: operation.paths[0], request, givesToken });
    }
  }
  // The schemas stand in the reader's order.
  const names = Object.keys(document.components.schemas)
    .filter((name) => name.endsWith(".request"))
    .map((name) => name.replace(/\.request$/, ""));
  return document.tags.map((tag) => ({
    english: tag.name,
    chinese: tag["x-zh"],
    operations: names.map((name) => operations.get(name)).filter(({ tag: of }) => of === tag.name),
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
        element("strong", {}, both(chapter.english, chapter.chinese)),
        element(
          "ul",
          {},
          ...chapter.operations.map((operation) =>
            element(
              "li",
              {},
              element("a", { href: `#${operation.name}` }, short(operation)),
            ),
          ),
        ),
      ),
    ),
    element(
      "li",
      {},
      element("a", { class: "of-results", href: "#results" }, both("Result codes", "返回码")),
    ),
  );
}

/** A summary up to where it begins to explain. */
function short(operation) {
  return both(operation.summary.split(/[;,]/)[0], operation["x-zh"]);
}

function resultsTable(results) {
  const head = (english, chinese) => element("th", { scope: "col" }, both(english, chinese));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, head("code", "返回码"), head("meaning", "含义"))),
    element(
      "tbody",
      {},
      ...Object.entries(results).map(([code, says]) =>
        element(
          "tr",
          { id: `result-${code}` },
          element("th", { scope: "row" }, element("code", {}, code)),
          element("td", {}, both(says.description, says["x-zh"])),
        ),
      ),
    ),
  );
}

/** Marks where the reader is in the contents. */
function followReader() {
  const links = new Map(
    [...document.querySelectorAll("#contents a")].map((link) => [link.hash.slice(1), link]),
  );
  const seen = new IntersectionObserver(
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
  for (const section of document.querySelectorAll(".operation, #results")) seen.observe(section);
}

async function start() {
  startSwitches();
  startToken();
  const response = await fetch("openapi.json");
  const described = await response.json();
  const list = chapters(described);
  const wide = matchMedia("(min-width: 1080px)");
  const fold = element(
    "details",
    {},
    element("summary", {}, both("Contents", "目录")),
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
  follow(nav, "ariaLabel", "contents", "目录");
  nav.append(fold);
  document.getElementById("calls").append(
    ...list.map((chapter) =>
      element(
        "section",
        { class: "chapter" },
        element("h2", {}, both(chapter.english, chapter.chinese)),
        ...chapter.operations.map((operation) =>
          operationSection(operation, described["x-results"]),
        ),
      ),
    ),
  );
  document.getElementById("results-table").append(resultsTable(described["x-results"]));
  followReader();
  document.body.dataset.ready = "true";
  // The address may name a call, which is there only now.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

start();

// The contents: links to the operations, events and other sections, with a search field.

import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { eventFields } from "./events.js";
import { responseFields } from "./field-table.js";
import { searchField } from "./search.js";

/** Shows the contents: the groups of the documents, and the sections of the page. */
export function showContents(documentGroups) {
  const groups = [
    ...documentGroups,
    {
      title: bilingual("More about the API", "其他说明"),
      entries: [...document.querySelectorAll(".guide")].map(guideEntry),
    },
  ];
  const fold = element(
    "details",
    { id: "contents-list" },
    element("summary", {}, bilingual("Contents", "目录")),
    element("ul", {}, ...groups.map(groupNode)),
  );
  keepUnfoldedOnWideScreens(fold);
  const nav = document.getElementById("contents");
  localize(nav, "ariaLabel", "Contents", "目录");
  nav.append(searchField(groups, fold), fold);
  markVisible(groups.flatMap(({ entries }) => entries));
}

/** Returns a group of entries for each section of the API with its operations. */
export const operationGroups = (openapi, chapters, tables) =>
  chapters.map(({ title, operations }) => ({
    title: bilingual(...title),
    entries: operations.map((operation) => operationEntry(openapi, operation, tables)),
  }));

export const eventGroup = (asyncapi, events) => ({
  title: bilingual("Events", "事件"),
  entries: events.map((event) => eventEntry(asyncapi, event)),
});

function eventEntry(asyncapi, event) {
  const { id, name, title, description, operation } = event;
  const fields = eventFields(asyncapi, event).map((field) => field.prefix + field.name);
  return {
    id,
    node: entryNode(id, bilingual(...title)),
    searched: [name, ...title, ...description, ...fields, operation?.selector ?? ""],
  };
}

function operationEntry(openapi, operation, { reasons }) {
  const { name, title, paths, selector, parameters, errors } = operation;
  const { fields, inner } = responseFields(openapi, operation);
  const tokens = Object.values(errors).flat();
  return {
    id: name,
    node: entryNode(name, bilingual(...title)),
    searched: [
      ...[name, selector, ...title, ...paths],
      ...parameters.map((parameter) => parameter.name),
      ...[...fields, ...inner].map((field) => field.prefix + field.name),
      ...Object.keys(errors),
      ...tokens,
      ...tokens.flatMap((token) => [reasons[token].description, reasons[token]["x-zh"]]),
    ],
  };
}

function guideEntry(section) {
  const title = section.querySelector("h2");
  const texts = [...title.querySelectorAll("[lang]")];
  return {
    id: section.id,
    node: entryNode(section.id, ...texts.map((text) => text.cloneNode(true))),
    searched: [section.id, section.textContent],
  };
}

const entryNode = (id, ...text) => element("li", {}, element("a", { href: `#${id}` }, ...text));

function groupNode(group) {
  const list = element("ul", {}, ...group.entries.map(({ node }) => node));
  group.node = element("li", {}, element("strong", {}, group.title), list);
  return group.node;
}

function keepUnfoldedOnWideScreens(fold) {
  const wide = matchMedia("(min-width: 1080px)");
  const unfold = () => {
    fold.open = wide.matches;
  };
  wide.addEventListener("change", unfold);
  unfold();
  fold.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) fold.open = false;
  });
}

/** Marks the visible section in the contents. */
function markVisible(entries) {
  const links = new Map(entries.map(({ id, node }) => [id, node.firstChild]));
  const observer = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(target.id).setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  for (const id of links.keys()) observer.observe(document.getElementById(id));
}

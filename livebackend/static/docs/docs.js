// The documentation page, generated from openapi-operations.json and asyncapi.json.

import { element } from "../shared/dom.js";
import { bilingual, startSwitches } from "../shared/language.js";
import { eventGroup, operationGroups, showContents } from "./contents.js";
import { copyButton, tokenCopyButton } from "./copy-button.js";
import { readChapters } from "./document.js";
import { eventChapter, readEvents } from "./events.js";
import { anchor, followLinks } from "./links.js";
import { loadDocuments } from "./load.js";
import { operationSection } from "./operation.js";
import { reasonTable, resultTable, statusTable } from "./tables.js";
import { startToken } from "./token.js";

async function start() {
  startSwitches();
  startToken();
  addControls();
  const place = document.getElementById("calls");
  const [openapi, asyncapi] = await loadDocuments(place);
  const tables = { results: openapi["x-results"], reasons: openapi["x-error-reasons"] };
  const chapters = readChapters(openapi);
  const events = readEvents(asyncapi, chapters.flatMap(({ operations }) => operations));
  place.append(
    ...chapters.map((chapter) => chapterSection(openapi, chapter, tables)),
    eventChapter(asyncapi, events),
  );
  document.getElementById("status-table").append(statusTable(openapi));
  document.getElementById("results-table").append(resultTable(tables.results));
  document.getElementById("reasons-table").append(reasonTable(tables.reasons));
  showContents([...operationGroups(openapi, chapters, tables), eventGroup(asyncapi, events)]);
  followLinks();
  document.body.dataset.ready = "true";
}

/** Adds the links and buttons that do not work without JavaScript. */
function addControls() {
  for (const section of document.querySelectorAll(".guide")) {
    section.querySelector("h2").after(anchor(section.id));
  }
  for (const command of document.querySelectorAll(".command")) {
    const text = command.querySelector("code").textContent;
    const isTokenCommand = command.id === "token-command";
    command.append(isTokenCommand ? tokenCopyButton() : copyButton(() => text));
  }
}

function chapterSection(openapi, { title, description, operations }, tables) {
  const id = `section-${title[0].toLowerCase().replaceAll(" ", "-")}`;
  return element(
    "section",
    { class: "chapter", id },
    element("div", { class: "title" }, element("h2", {}, bilingual(...title)), anchor(id)),
    element("p", {}, bilingual(...description)),
    ...operations.map((operation) => operationSection(openapi, operation, tables)),
  );
}

start();

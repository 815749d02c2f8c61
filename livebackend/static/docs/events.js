// The live events, from asyncapi.json: what a client receives, and the operation for missed events.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { meaningOf, resolve } from "./document.js";
import { exampleBlock } from "./example.js";
import { fieldsOf, fieldTable } from "./field-table.js";
import { anchor } from "./links.js";
import { prose } from "./text.js";

/** Returns the events of the document; `operations` are those of the API. */
export function readEvents(asyncapi, operations) {
  return Object.values(asyncapi.channels.user.messages).map((reference) =>
    readEvent(resolve(asyncapi, reference), operations),
  );
}

function readEvent(message, operations) {
  const { data, ...envelope } = message.payload.properties;
  return {
    id: `event-${message.name}`,
    name: message.name,
    title: [message.title, message["x-zh"]],
    description: [message.description, message["x-zh-description"]],
    // The fields that every event has; this table shows neither the type nor the inner fields.
    envelope: {
      ...envelope,
      type: { ...envelope.type, const: undefined },
      data: { ...data, properties: undefined },
    },
    data,
    example: message.examples[0].payload,
    operation: operations.find((operation) => callOf(operation) === message["x-operation"]),
  };
}

const callOf = ({ path, selector }) => `${path} ${selector}=1`;

/** The fields of `data`. */
export const eventFields = (asyncapi, { data }) => fieldsOf(asyncapi, "data.", data.properties);

/** The section with all events. */
export function eventChapter(asyncapi, events) {
  const id = "section-events";
  const { address, messages, ...channel } = asyncapi.channels.user;
  const { protocol, host, pathname } = asyncapi.servers.events;
  return element(
    "section",
    { class: "chapter", id },
    element("div", { class: "title" }, element("h2", {}, bilingual("Events", "事件")), anchor(id)),
    element("p", {}, prose(...meaningOf(asyncapi.info))),
    element("p", {}, prose(...meaningOf(channel))),
    element(
      "p",
      { class: "address" },
      ...[element("b", {}, "GET"), element("code", {}, `${protocol}://${host}${pathname}?ticket=…`)],
      ...[bilingual("channel", "频道"), element("code", { class: "selector" }, address)],
    ),
    envelopeTable(asyncapi, events[0]),
    ...events.map((event) => eventSection(asyncapi, event)),
  );
}

const envelopeTable = (asyncapi, { envelope }) =>
  fieldTable("fields-events", ["Fields of every event", "所有事件的字段"], fieldsOf(asyncapi, "", envelope));

function eventSection(asyncapi, event) {
  const fields = eventFields(asyncapi, event);
  const titleId = `title-${event.id}`;
  return element(
    "article",
    { class: "operation event", id: event.id, "aria-labelledby": titleId },
    element(
      "header",
      {},
      element(
        "div",
        { class: "title" },
        element("h3", { id: titleId }, bilingual(...event.title)),
        anchor(event.id),
      ),
      element(
        "p",
        { class: "address" },
        element("b", {}, "EVENT"),
        element("code", { class: "selector" }, event.name),
      ),
      element("p", { class: "description" }, prose(...event.description)),
      event.operation ? operationNote(event.operation) : null,
    ),
    element(
      "div",
      { class: "left" },
      fields.length ? dataTable(event, fields) : emptyData(),
    ),
    element("div", { class: "right" }, exampleOf(event)),
  );
}

function dataTable(event, fields) {
  const table = fieldTable(`fields-${event.id}`, ["Fields of the data", "内容的字段"], fields);
  // An event has no form, so it fits on a screen with its fields.
  table.open = true;
  return table;
}

const emptyData = () =>
  element("p", {}, prose("The event has no data: `data` is empty.", "没有内容，`data` 为空。"));

/** The operation that a client calls again if it has missed events. */
function operationNote(operation) {
  return element(
    "p",
    { class: "current-state" },
    bilingual("The current state: ", "当前状态："),
    element("a", { href: `#${operation.name}` }, bilingual(...operation.title)),
    " ",
    element("code", {}, callOf(operation)),
  );
}

function exampleOf({ name, example }) {
  return element(
    "details",
    { class: "example", open: true },
    element("summary", {}, bilingual("Example of the event", "事件示例")),
    exampleBlock(name, example),
  );
}

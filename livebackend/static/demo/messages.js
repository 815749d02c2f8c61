// Requests to be friends: others' to me, and mine to others.

import { element } from "../shared/dom.js";
import { both } from "../shared/language.js";
import { button } from "./form.js";
import { person } from "./friends.js";

const STATES = [
  null, // mine to accept
  ["accepted", "已接受"],
  ["waiting", "等待验证"],
  ["agreed", "已同意"],
];

export function messagesTab(phone) {
  const list = element("ul", { class: "people" });
  const badge = element("b", { class: "badge", hidden: true });
  const empty = element("p", { class: "empty" }, both("No messages.", "没有消息。"));
  const node = element("div", { class: "tab" }, element("h3", {}, both("Requests", "好友申请")), empty, list);

  function deal(message, behaviour) {
    const { userId, verifyId, objectId } = message;
    return phone.ask("/friend", { dealMessage: "1", userId, verifyId, objectId, behaviour });
  }

  async function look() {
    const { result, message: all } = await phone.ask("/list", { messagelist: "1" }, { quiet: true });
    if (result !== "0000") return;
    const open = all.filter(({ flag }) => flag === 0).length;
    badge.hidden = open === 0;
    badge.textContent = String(open);
    empty.hidden = all.length > 0;
    list.replaceChildren(
      ...all.map((message) => {
        if (STATES[message.flag]) return person(message, element("em", {}, both(...STATES[message.flag])));
        return person(
          message,
          button("main-button small", both("Accept", "接受"), async () => {
            await deal(message, "accept");
            await phone.happened();
          }),
          button("link", both("Delete", "删除"), async () => {
            await deal(message, "delete");
            await phone.happened();
          }),
        );
      }),
    );
  }

  return { title: both("Messages", "消息"), badge, node, look };
}

// The messages tab: received and sent friend requests.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { heading } from "./focus.js";
import { button } from "./form.js";
import { person } from "./friends.js";

const PENDING = 2;
const ACCEPTED = 3;
const STATES = [
  null, // received: shows buttons instead of a state
  ["accepted by you", "已同意"],
  ["pending", "等待对方同意"],
  ["accepted", "对方已同意"],
];

export function messagesTab(phone) {
  let messages = [];
  const list = element("ul", { class: "people" });
  const badge = element("b", { class: "badge", hidden: true });
  const empty = element("p", { class: "empty" }, bilingual("No messages.", "没有消息。"));
  const node = element("div", { class: "tab" }, heading(bilingual("Friend requests", "好友申请")), empty, list);

  function dealMessage(message, behaviour) {
    const { userId, verifyId, objectId } = message;
    return phone.request("/friend", { dealMessage: "1", userId, verifyId, objectId, behaviour });
  }

  async function refresh() {
    const { result, message } = await phone.request("/list", { messagelist: "1" }, { quiet: true });
    if (result === "0000") showMessages(message);
  }

  /** Shows that a user has accepted the request that the user of the phone has sent. */
  function showAccepted(userId) {
    const isAccepted = (message) => message.userId === userId && message.flag === PENDING;
    showMessages(messages.map((message) => (isAccepted(message) ? { ...message, flag: ACCEPTED } : message)));
  }

  function showMessages(newMessages) {
    messages = newMessages;
    const openCount = messages.filter(({ flag }) => flag === 0).length;
    badge.hidden = openCount === 0;
    badge.textContent = String(openCount);
    empty.hidden = messages.length > 0;
    list.replaceChildren(
      ...messages.map((message) => {
        if (STATES[message.flag]) return person(message, element("em", {}, bilingual(...STATES[message.flag])));
        return person(
          message,
          button("main-button small", bilingual("Accept", "接受"), async () => {
            await dealMessage(message, "accept");
            await phone.refresh(["friends", "messages"]);
          }),
          button("link", bilingual("Delete", "删除"), async () => {
            await dealMessage(message, "delete");
            await phone.refresh(["messages"]);
          }),
        );
      }),
    );
  }

  const title = bilingual("Messages", "消息");
  return { title, badge, operation: "/list messagelist=1", node, refresh, showAccepted };
}

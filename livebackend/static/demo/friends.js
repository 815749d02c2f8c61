// Finding people, and the friends one has: who is live can be watched.

import { element } from "../shared/dom.js";
import { both } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { button, field, form } from "./form.js";
import { watchScreen } from "./watch.js";

export function person(profile, ...beside) {
  return element(
    "li",
    { class: "person" },
    avatar(profile),
    element(
      "div",
      {},
      element("strong", {}, profile.nickname ?? profile.userId),
      element("span", {}, profile.title ?? profile.userId),
    ),
    ...beside,
  );
}

export function friendsTab(phone) {
  const found = element("ul", { class: "found" });
  const list = element("ul", { class: "people" });
  const empty = element("p", { class: "empty" }, both("No friends yet.", "还没有好友。"));
  const number = field(both("Find by phone", "按手机号查找"), {
    name: "search",
    inputmode: "numeric",
    value: phone.other.number,
  });
  const node = element(
    "div",
    { class: "tab" },
    form([number.node], both("Find", "查找"), async () => {
      const fields = { search: "1", userId: number.input.value.trim() };
      const { result, message, flag } = await phone.ask("/friend", fields);
      found.replaceChildren();
      if (result === "0000") found.append(person(message, stranger(message, flag)));
    }),
    found,
    element("h3", {}, both("Friends", "好友")),
    empty,
    list,
  );

  function stranger(profile, flag) {
    if (flag === "1") return element("em", {}, both("friend", "好友"));
    if (flag === "-1") return element("em", {}, both("you", "自己"));
    return button("quiet-button", both("Add", "加好友"), async () => {
      const { result } = await phone.ask("/friend", { add: "1", userId: profile.userId });
      if (result !== "0000") return;
      found.replaceChildren(person(profile, element("em", {}, both("asked", "已申请"))));
      await phone.happened();
    });
  }

  function watch(friend) {
    phone.panel.replaceChildren(watchScreen(phone, friend));
  }

  async function look() {
    const { result, message } = await phone.ask("/list", { friendlist: "1" }, { quiet: true });
    if (result !== "0000") return;
    empty.hidden = message.count > 0;
    if (message.count) found.replaceChildren();
    list.replaceChildren(
      ...message.friends.map((friend) => {
        if (friend.liveStatus === "off") return person(friend, part(friend));
        return person(friend, button("live-button", both("Watch", "观看"), async () => watch(friend)));
      }),
    );
  }

  function part(friend) {
    return button("link", both("Remove", "删除"), async () => {
      await phone.ask("/friend", { delete: "1", userId: friend.userId });
      await phone.happened();
    });
  }

  return { title: both("Friends", "好友"), node, look };
}

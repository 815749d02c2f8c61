// The friends tab: user search, the list of friends, watching a live friend.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { heading } from "./focus.js";
import { button, field, form } from "./form.js";
import { watchScreen } from "./watch.js";

export function person(profile, ...actions) {
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
    ...actions,
  );
}

export function friendsTab(phone) {
  let friends = [];
  const searchResult = element("ul", {});
  const list = element("ul", { class: "people" });
  const empty = element("p", { class: "empty" }, bilingual("No friends yet.", "还没有好友。"));
  const number = field(bilingual("Find by phone number", "按手机号查找"), {
    name: "search",
    inputmode: "numeric",
    value: phone.other.number,
  });
  const node = element(
    "div",
    { class: "tab" },
    heading(bilingual("Friends", "好友")),
    element(
      "div",
      {},
      form([number.node], bilingual("Find", "查找"), async () => {
        const fields = { search: "1", userId: number.input.value.trim() };
        const { result, message, flag } = await phone.request("/friend", fields);
        searchResult.replaceChildren();
        if (result === "0000") searchResult.append(person(message, friendshipStatus(message, flag)));
      }),
      element("div", { role: "status" }, searchResult),
    ),
    empty,
    list,
  );

  function friendshipStatus(profile, flag) {
    if (flag === "1") return element("em", {}, bilingual("friend", "好友"));
    if (flag === "-1") return element("em", {}, bilingual("you", "自己"));
    return button("quiet-button", bilingual("Add", "加好友"), async () => {
      const { result } = await phone.request("/friend", { add: "1", userId: profile.userId });
      if (result !== "0000") return;
      searchResult.replaceChildren(person(profile, element("em", {}, bilingual("request sent", "已申请"))));
      // If the other user has sent a request too, both are friends now.
      await phone.refresh(["friends", "messages"]);
    });
  }

  async function refresh() {
    const { result, message } = await phone.request("/list", { friendlist: "1" }, { quiet: true });
    if (result !== "0000") return;
    if (message.count) searchResult.replaceChildren();
    showFriends(message.friends);
  }

  /** Replaces a friend in the list; returns false if the list does not contain the friend. */
  function showFriend(friend) {
    const others = friends.filter(({ userId }) => userId !== friend.userId);
    if (others.length === friends.length) return false;
    // The friend who went live last is the first one of the list.
    const isLive = ({ liveStatus }) => liveStatus === "on";
    const changed = [friend, ...others];
    showFriends([...changed.filter(isLive), ...changed.filter((other) => !isLive(other))]);
    return true;
  }

  function showFriends(newFriends) {
    friends = newFriends;
    empty.hidden = friends.length > 0;
    list.replaceChildren(...friends.map((friend) => person(friend, actionButton(friend))));
    phone.watched?.showFriends(friends);
  }

  function actionButton(friend) {
    if (friend.liveStatus === "off") return removeButton(friend);
    const watch = async () => phone.showWatched(watchScreen(phone, friend));
    return button("live-button", bilingual("Watch", "观看"), watch);
  }

  function removeButton(friend) {
    return button("link", bilingual("Remove", "删除"), async () => {
      await phone.request("/friend", { delete: "1", userId: friend.userId });
      await phone.refresh(["friends"]);
    });
  }

  return { title: bilingual("Friends", "好友"), operation: "/list friendlist=1", node, refresh, showFriend };
}

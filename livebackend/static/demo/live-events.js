// Shows the live events of a user on the phone.

import { bilingual } from "../shared/language.js";
import { EventStream } from "./event-stream.js";
import { untilLoginEnds } from "./login.js";

// For each type of events, the operation that returns the current state, or "".
const OPERATIONS = JSON.parse(document.getElementById("live-events").textContent);
// If more events wait for a slow response, the lists are read instead.
const MAX_PENDING = 200;

const nameOf = ({ nickname, userId, publicId }) => nickname ?? userId ?? publicId;

/** Shows an event of each type; returns whether the operation of its type must be called. */
const SHOW_EVENT = {
  friend_request(phone, { user }) {
    const name = nameOf(user);
    phone.announce(bilingual(`${name} sent you a friend request.`, `${name}申请加你为好友。`));
    return true;
  },
  friend_accepted(phone, { user }) {
    const name = nameOf(user);
    phone.announce(bilingual(`${name} accepted your friend request.`, `${name}同意了你的好友申请。`), "good");
    phone.tabs.messages.showAccepted(user.userId);
    // The event does not say whether the friend is live.
    return true;
  },
  friend_live(phone, { user, title, playUrl }) {
    const name = nameOf(user);
    phone.announce(bilingual(`${name} is live.`, `${name}开播了。`), "good");
    return !playUrl || !phone.tabs.friends.showFriend({ ...user, liveStatus: "on", title, playUrl });
  },
  friend_left(phone, { user }) {
    const name = nameOf(user);
    phone.announce(bilingual(`${name} is no longer live.`, `${name}下播了。`));
    return !phone.tabs.friends.showFriend({ ...user, liveStatus: "off", title: null, playUrl: null });
  },
  coins_changed(phone, { balance, change, kind }) {
    phone.showCoins(balance);
    if (kind === "reversal") {
      phone.announce(bilingual(`A transfer was reversed: ${change} coins.`, `一笔转账已冲正：${change} 金币。`));
    } else if (kind === "refill") {
      phone.announce(bilingual(`You bought ${change} coins.`, `充值到账：${change} 金币。`), "good");
    } else if (change > 0) {
      phone.announce(bilingual(`You received a gift: ${change} coins.`, `收到礼物：${change} 金币。`), "good");
    }
    return false;
  },
  account_warned(phone, { text }) {
    phone.announce(bilingual(`Warning: ${text}`, `警告：${text}`), "bad");
    return false;
  },
  account_disabled(phone) {
    phone.endLogin(bilingual("Your account was disabled.", "账号已停用。"));
    return false;
  },
};

export class LiveEvents {
  #phone;
  #stream;
  #pending = [];
  /** Operations that must be called. */
  #operations = new Set();
  #isScheduled = false;

  constructor(phone) {
    this.#phone = phone;
    this.#stream = new EventStream({
      types: Object.keys(OPERATIONS),
      requestTicket: () => phone.requestTicket(),
      onEvent: (event) => this.#receive(event),
      onMissed: (operations = Object.values(OPERATIONS)) => this.#schedule(operations),
      onConnection: (isConnected) => phone.showConnection(isConnected),
    });
  }

  start() {
    return this.#stream.start();
  }

  close() {
    this.#stream.close();
    this.#pending = [];
  }

  #receive(event) {
    this.#phone.logEvent(event);
    this.#pending.push(event);
    if (this.#pending.length <= MAX_PENDING) {
      this.#schedule([]);
    } else {
      this.#pending = [];
      this.#schedule(Object.values(OPERATIONS));
    }
  }

  /** Shows the pending events after the current read, whose response can be older. */
  #schedule(operations) {
    for (const operation of operations) this.#operations.add(operation);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    untilLoginEnds(() => this.#phone.update(() => this.#showPending()));
  }

  #showPending() {
    this.#isScheduled = false;
    // Showing an event can close this object, which drops the others.
    while (this.#pending.length) {
      const { type, data } = this.#pending.shift();
      if (SHOW_EVENT[type]?.(this.#phone, data)) this.#operations.add(OPERATIONS[type]);
    }
    const operations = [...this.#operations];
    this.#operations.clear();
    return this.#phone.readTabs(({ operation }) => operations.includes(operation));
  }
}

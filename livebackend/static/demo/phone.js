// A phone: who is on it, what it shows, and its calls.

import { call } from "../shared/api.js";
import { element } from "../shared/dom.js";
import { both, follow } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { coinsTab } from "./coins.js";
import { friendsTab } from "./friends.js";
import { joinScreen } from "./join.js";
import { liveTab } from "./live.js";
import { messagesTab } from "./messages.js";

const EXTENSIONS = (document.documentElement.dataset.extensions ?? "").split(" ");

export class Phone {
  constructor({ side, english, chinese, gender, wire }) {
    Object.assign(this, { side, english, chinese, gender, wire });
    this.token = "";
    this.profile = { nickname: english, headImage: null };
    // Counted from what the replies say, where the server does not tell.
    this.coins = 0;
    this.screen = element("div", { class: "screen" });
    this.face = element("span", { class: "face" });
    this.title = element("strong", {}, both(english, chinese));
    this.number_ = element("span", { class: "number" });
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
    this.node = element(
      "section",
      { class: `phone ${side}` },
      element("header", {}, this.face, element("div", {}, this.title, this.number_)),
      this.notice,
      this.screen,
    );
    follow(this.node, "ariaLabel", `${english}'s phone`, `${chinese}的手机`);
  }

  start() {
    this.greet();
    this.screen.replaceChildren(joinScreen(this));
  }

  greet() {
    this.face.replaceChildren(avatar({ nickname: this.english, ...this.profile }));
    this.number_.textContent = this.token ? this.number : "";
  }

  /** One call of the API; resolves to the reply's body. A refusal is shown, too. */
  async ask(path, fields, { quiet = false, operation = "" } = {}) {
    const given = this.token ? { token: this.token, ...fields } : fields;
    let answer;
    try {
      answer = await call(path, given);
    } catch {
      this.tell(both("The server cannot be reached.", "无法连接服务器。"), "bad");
      return { result: "", message: null };
    }
    const name = { english: this.english, chinese: this.chinese };
    const isExtension = EXTENSIONS.includes(operation);
    this.wire.write({ side: this.side, name, path, fields: given, answer, isExtension, quiet });
    const body = answer.body ?? { result: String(answer.status), message: null };
    if (body.result !== "0000") {
      this.tell(
        element("span", {}, element("code", {}, body.result), " ", this.wire.meaning(body.result)),
        "bad",
      );
    } else if (!quiet) {
      this.tell(null);
    }
    return body;
  }

  /** Shows a line at the top, until the next one. */
  tell(content, kind = "") {
    this.notice.className = `notice ${kind}`;
    this.notice.hidden = !content;
    this.notice.replaceChildren(...(content ? [content] : []));
  }

  /** Somebody has logged in: four tabs. */
  async enter() {
    this.greet();
    const tabs = {
      friends: friendsTab(this),
      messages: messagesTab(this),
      live: liveTab(this),
      coins: coinsTab(this),
    };
    this.tabs = tabs;
    const buttons = Object.entries(tabs).map(([name, tab]) =>
      element(
        "button",
        { type: "button", "data-tab": name, onclick: () => this.show(name) },
        tab.title,
        tab.badge ?? null,
      ),
    );
    this.buttons = buttons;
    this.panel = element("div", { class: "panel" });
    const nav = element("nav", { class: "tabs" }, ...buttons);
    follow(nav, "ariaLabel", "the app", "应用");
    this.screen.replaceChildren(this.panel, nav);
    this.show("friends");
    await this.look();
  }

  show(name) {
    for (const button of this.buttons) {
      if (button.dataset.tab === name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
    this.panel.replaceChildren(this.tabs[name].node);
    this.panel.scrollTop = 0;
  }

  /** Looks for news, as an app does that was woken by a push. */
  async look() {
    if (!this.tabs) return;
    for (const tab of Object.values(this.tabs)) await tab.look?.();
  }

  /** Something happened here that the other phone may show. */
  async happened() {
    await this.look();
    await this.other.look();
  }

  /** A gift came. The app would learn of it by a push; here the other phone says so. */
  received(coins, english, chinese) {
    this.coins += coins;
    this.tell(both(`You got a ${english}: ${coins} coins.`, `收到${chinese}：${coins} 金币。`), "good");
  }

  async publishUrl() {
    if (!EXTENSIONS.includes("heartbeat")) return null;
    const { result, message } = await this.ask(
      "/room",
      { heartbeat: "1" },
      { operation: "heartbeat" },
    );
    return result === "0000" ? message.publishUrl : null;
  }

  async balance() {
    if (!EXTENSIONS.includes("balance")) return this.coins;
    const { result, message } = await this.ask(
      "/golden",
      { balance: "1" },
      { quiet: true, operation: "balance" },
    );
    return result === "0000" ? message.coins : this.coins;
  }
}

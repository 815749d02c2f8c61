// A phone: its user, screens and API requests.

import { sendRequest } from "../shared/api.js";
import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { coinsTab } from "./coins.js";
import { friendsTab } from "./friends.js";
import { phoneNumberScreen } from "./registration.js";
import { liveTab } from "./live.js";
import { messagesTab } from "./messages.js";

const EXTENSIONS = (document.documentElement.dataset.extensions ?? "").split(" ");

export class Phone {
  constructor({ side, english, chinese, gender, callLog }) {
    Object.assign(this, { side, english, chinese, gender, callLog });
    this.token = "";
    this.profile = { nickname: english, headImage: null };
    // Computed from the responses, for servers without the operation `balance`.
    this.coins = 0;
    this.screen = element("div", { class: "screen" });
    this.avatarBox = element("span", { class: "face" });
    this.title = element("strong", {}, bilingual(english, chinese));
    this.numberLabel = element("span", { class: "number" });
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
    this.node = element(
      "section",
      { class: `phone ${side}` },
      element("header", {}, this.avatarBox, element("div", {}, this.title, this.numberLabel)),
      this.notice,
      this.screen,
    );
    localize(this.node, "ariaLabel", `${english}'s phone`, `${chinese}的手机`);
  }

  start() {
    this.showProfile();
    this.screen.replaceChildren(phoneNumberScreen(this));
  }

  showProfile() {
    this.avatarBox.replaceChildren(avatar({ nickname: this.english, ...this.profile }));
    this.numberLabel.textContent = this.token ? this.number : "";
  }

  /** Sends a request, logs it, shows errors; resolves to the response body. */
  async request(path, fields, { quiet = false, operation = "" } = {}) {
    const allFields = this.token ? { token: this.token, ...fields } : fields;
    let response;
    try {
      response = await sendRequest(path, allFields);
    } catch {
      this.notify(bilingual("The server cannot be reached.", "无法连接服务器。"), "bad");
      return { result: "", message: null };
    }
    const name = { english: this.english, chinese: this.chinese };
    const isExtension = EXTENSIONS.includes(operation);
    this.callLog.add({
      side: this.side,
      name,
      path,
      fields: allFields,
      response,
      isExtension,
      quiet,
    });
    const body = response.body ?? { result: String(response.status), message: null };
    if (body.result !== "0000") {
      this.notify(
        element("span", {}, element("code", {}, body.result), " ", this.callLog.description(body.result)),
        "bad",
      );
    } else if (!quiet) {
      this.notify(null);
    }
    return body;
  }

  /** Shows a notice at the top until the next one. */
  notify(content, kind = "") {
    this.notice.className = `notice ${kind}`;
    this.notice.hidden = !content;
    this.notice.replaceChildren(...(content ? [content] : []));
  }

  /** Shows the tabs after login. */
  async showApp() {
    this.showProfile();
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
    localize(nav, "ariaLabel", "App", "应用");
    this.screen.replaceChildren(this.panel, nav);
    this.show("friends");
    await this.refresh();
  }

  show(name) {
    for (const button of this.buttons) {
      if (button.dataset.tab === name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
    this.panel.replaceChildren(this.tabs[name].node);
    this.panel.scrollTop = 0;
  }

  /** Reloads all tabs, as an app does after a push notification. */
  async refresh() {
    if (!this.tabs) return;
    for (const tab of Object.values(this.tabs)) await tab.refresh?.();
  }

  /** Reloads both phones after a change. */
  async refreshBoth() {
    await this.refresh();
    await this.other.refresh();
  }

  /** Shows a received gift; a real app learns of it by a push notification. */
  receiveGift(coins, english, chinese) {
    this.coins += coins;
    this.notify(bilingual(`You received a ${english}: ${coins} coins.`, `收到${chinese}：${coins} 金币。`), "good");
  }

  async publishUrl() {
    if (!EXTENSIONS.includes("heartbeat")) return null;
    const { result, message } = await this.request(
      "/room",
      { heartbeat: "1" },
      { operation: "heartbeat" },
    );
    return result === "0000" ? message.publishUrl : null;
  }

  async balance() {
    if (!EXTENSIONS.includes("balance")) return this.coins;
    const { result, message } = await this.request(
      "/golden",
      { balance: "1" },
      { quiet: true, operation: "balance" },
    );
    return result === "0000" ? message.coins : this.coins;
  }
}

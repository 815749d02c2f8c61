// A phone: its user, screens and API requests.

import { sendRequest } from "../shared/api.js";
import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { coinsTab } from "./coins.js";
import { errorReason, errorView, resultCode } from "./error-view.js";
import { focusHeading, keepFocus } from "./focus.js";
import { friendsTab } from "./friends.js";
import { liveTab } from "./live.js";
import { LoginEnded, untilLoginEnds } from "./login.js";
import { messagesTab } from "./messages.js";
import { logInScreen, phoneNumberScreen } from "./registration.js";

const EXTENSIONS = (document.documentElement.dataset.extensions ?? "").split(" ");
const TOKEN_ERRORS = ["0011", "0012"];

/** A random phone number, most likely without an account. */
function randomNumber() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `139${String(number % 1e8).padStart(8, "0")}`;
}

export class Phone {
  constructor({ side, english, chinese, gender, callLog, stored, save }) {
    Object.assign(this, { side, english, chinese, gender, callLog, save });
    this.number = stored.number || randomNumber();
    this.token = stored.token;
    this.profile = { nickname: stored.nickname || english, headImage: stored.headImage || null };
    this.tab = stored.tab;
    // Server, stream key and title while the user is live.
    this.live = stored.live;
    // Computed from the responses, for servers without the operation `balance`.
    this.coins = 0;
    this.screen = element("div", { class: "screen" });
    this.avatarBox = element("span", { class: "face" });
    this.title = element("h2", {});
    this.numberLabel = element("span", { class: "number" });
    this.notice = element("div", { class: "notice", role: "status" });
    this.node = element(
      "section",
      { class: `phone ${side}` },
      element("header", {}, this.avatarBox, element("div", {}, this.title, this.numberLabel)),
      this.notice,
      this.screen,
    );
    localize(this.node, "ariaLabel", `${english}'s phone`, `${chinese}的手机`);
  }

  /** What a reload must keep. */
  get state() {
    const { number, token, profile, tab, live } = this;
    return { number, token, nickname: profile.nickname, headImage: profile.headImage, tab, live };
  }

  /** Shows the first screen, or the tabs if the user was logged in. */
  start() {
    if (this.token) {
      untilLoginEnds(() => this.showApp({ focus: false }));
    } else {
      this.showProfile();
      this.showScreen(phoneNumberScreen(this), { focus: false });
    }
  }

  showProfile() {
    const name = bilingual(this.english, this.chinese);
    this.avatarBox.replaceChildren(avatar({ nickname: this.english, ...this.profile }));
    this.title.replaceChildren(this.token ? (this.profile.nickname ?? name) : name);
    this.numberLabel.textContent = this.token ? this.number : "";
  }

  /** Shows a screen before the login. */
  showScreen(node, { focus = true } = {}) {
    this.screen.replaceChildren(node);
    if (focus) focusHeading(this.node);
  }

  logIn(token) {
    this.token = token;
    this.save();
  }

  /** Shows the login screen, because the server does not accept the login token. */
  #logOut(response) {
    const profile = { nickname: this.english, headImage: null };
    Object.assign(this, { token: "", profile, tab: "friends", live: null, coins: 0, tabs: null });
    this.save();
    this.showProfile();
    this.showScreen(logInScreen(this), { focus: this.node.contains(document.activeElement) });
    this.notify(
      element(
        "div",
        {},
        element("strong", {}, bilingual("You were logged out. Log in again.", "登录已失效，请重新登录。")),
        errorView(response),
      ),
      "bad",
    );
  }

  /**
   * Sends a request, logs it, shows errors; resolves to the body and the error reason.
   * Throws LoginEnded if the response ends the login, or another one has ended it meanwhile.
   */
  async request(path, fields, { quiet = false, operation = "" } = {}) {
    const { token } = this;
    const allFields = token ? { token, ...fields } : fields;
    let response;
    try {
      response = await sendRequest(path, allFields);
    } catch {
      this.#checkLogin(token);
      this.notify(bilingual("The server cannot be reached.", "无法连接服务器。"), "bad");
      return { result: "", message: null, reason: "" };
    }
    const name = { english: this.english, chinese: this.chinese };
    const isExtension = EXTENSIONS.includes(operation);
    this.callLog.add({ side: this.side, name, path, fields: allFields, response, isExtension, quiet });
    this.#checkLogin(token);
    const result = resultCode(response);
    const reason = errorReason(response);
    if (result === "0000") {
      if (!quiet) this.notify(null);
    } else if (token && TOKEN_ERRORS.includes(result)) {
      this.#logOut(response);
      throw new LoginEnded();
    } else {
      this.notify(errorView(response), "bad");
    }
    return { message: null, ...response.body, result, reason };
  }

  #checkLogin(token) {
    if (token !== this.token) throw new LoginEnded();
  }

  /** Shows a notice at the top until the next one. */
  notify(content, kind = "") {
    this.notice.className = `notice ${kind}`;
    this.notice.replaceChildren(...(content ? [content] : []));
  }

  /** Shows the tabs after login. */
  async showApp({ focus = true } = {}) {
    this.showProfile();
    const tabs = {
      friends: friendsTab(this),
      messages: messagesTab(this),
      live: liveTab(this),
      coins: coinsTab(this),
    };
    this.tabs = tabs;
    this.buttons = Object.entries(tabs).map(([name, tab]) =>
      element(
        "button",
        { type: "button", "data-tab": name, onclick: () => this.show(name) },
        tab.title,
        tab.badge ?? null,
      ),
    );
    this.panel = element("div", { class: "panel" });
    const nav = element("nav", { class: "tabs" }, ...this.buttons);
    localize(nav, "ariaLabel", `${this.english}'s app`, `${this.chinese}的应用`);
    this.screen.replaceChildren(this.panel, nav);
    this.show(this.tab, { focus });
    await this.refresh();
  }

  show(name, { focus = true } = {}) {
    this.tab = name;
    this.save();
    for (const button of this.buttons) {
      if (button.dataset.tab === name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
    this.showPanel(this.tabs[name].node, { focus });
  }

  /** Shows a screen above the tab buttons. */
  showPanel(node, { focus = true } = {}) {
    this.panel.replaceChildren(node);
    this.panel.scrollTop = 0;
    if (focus) focusHeading(this.node);
  }

  /** Reloads all tabs, as an app does after a push notification. */
  async refresh() {
    const { tabs } = this;
    if (!tabs) return;
    await keepFocus(this.node, async () => {
      for (const tab of Object.values(tabs)) {
        await tab.refresh?.();
      }
    });
  }

  /** Reloads both phones after a change. */
  async refreshBoth() {
    try {
      await this.refresh();
    } finally {
      await untilLoginEnds(() => this.other.refresh());
    }
  }

  /** Shows a received gift; a real app learns of it by a push notification. */
  receiveGift(coins, english, chinese) {
    if (!this.token) return;
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

// A phone: its user, screens and API requests.

import { sendRequest } from "../shared/api.js";
import { element } from "../shared/dom.js";
import { bilingual, localize } from "../shared/language.js";
import { avatar } from "./avatar.js";
import { coinsTab } from "./coins.js";
import { errorReason, errorView, resultCode, retryAfterS } from "./error-view.js";
import { focusHeading, keepFocus } from "./focus.js";
import { button } from "./form.js";
import { friendsTab } from "./friends.js";
import { liveTab } from "./live.js";
import { LiveEvents } from "./live-events.js";
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
    this.coins = 0;
    // The watch screen while it is shown.
    this.watched = null;
    this.liveEvents = null;
    // Ends after the reads and the events that the phone has to show.
    this.lastUpdate = Promise.resolve();
    this.screen = element("div", { class: "screen" });
    this.avatarBox = element("span", { class: "face" });
    this.title = element("h2", {});
    this.numberLabel = element("span", { class: "number" });
    this.notice = element("div", { class: "notice", role: "status" });
    // The last live event; it does not replace an error that the user has to read.
    this.announcement = element("div", { class: "notice", role: "status" });
    this.refreshButton = button("quiet-button refresh", bilingual("Refresh", "刷新"), () => this.refresh());
    this.refreshButton.hidden = true;
    this.node = element(
      "section",
      { class: `phone ${side}` },
      element("header", {}, this.avatarBox, element("div", {}, this.title, this.numberLabel), this.refreshButton),
      this.notice,
      this.announcement,
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

  /** Ends the connections of the phone, which is no longer shown. */
  close() {
    this.liveEvents?.close();
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

  /** Shows the login screen, because the server does not accept the login token any more. */
  endLogin(reason) {
    const profile = { nickname: this.english, headImage: null };
    this.close();
    Object.assign(this, { token: "", profile, tab: "friends", live: null, coins: 0, tabs: null, watched: null });
    this.save();
    this.refreshButton.hidden = true;
    this.announce(null);
    this.showProfile();
    this.showScreen(logInScreen(this), { focus: this.node.contains(document.activeElement) });
    this.notify(
      element(
        "div",
        {},
        element("strong", {}, bilingual("You were logged out. Log in again.", "登录已失效，请重新登录。")),
        reason,
      ),
      "bad",
    );
  }

  /**
   * Sends a request, logs it, shows errors; resolves to the body, the error reason and the response.
   * Throws LoginEnded if the response ends the login, or another one has ended it meanwhile.
   */
  async request(path, fields, { quiet = false, showsErrors = true, operation = "" } = {}) {
    const { token } = this;
    // The event of this action can arrive before the response.
    if (!quiet) this.announce(null);
    const allFields = token ? { token, ...fields } : fields;
    let response;
    try {
      response = await sendRequest(path, allFields);
    } catch {
      this.#checkLogin(token);
      if (showsErrors) this.notify(bilingual("The server cannot be reached.", "无法连接服务器。"), "bad");
      return { result: "", message: null, reason: "", response: null };
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
      this.endLogin(errorView(response));
      throw new LoginEnded();
    } else if (showsErrors) {
      this.notify(errorView(response), "bad");
    }
    return { message: null, ...response.body, result, reason, response };
  }

  /** Requests a ticket for live events, as EventStream needs it. */
  async requestTicket() {
    const options = { quiet: true, showsErrors: false, operation: "event_ticket" };
    const { result, message, response } = await this.request("/events", { ticket: "1" }, options);
    if (result === "0000") return { ticket: message };
    // 404: the server has no live events.
    return { isFinal: response?.status === 404, retryAfterMs: 1000 * (response ? retryAfterS(response) : 0) };
  }

  #checkLogin(token) {
    if (token !== this.token) throw new LoginEnded();
  }

  /** Shows a notice at the top until the next one. */
  notify(content, kind = "") {
    showNotice(this.notice, content, kind);
  }

  /** Shows a live event below the notice, until the next event or action. */
  announce(content, kind = "") {
    showNotice(this.announcement, content, kind);
  }

  logEvent(event) {
    const name = { english: this.english, chinese: this.chinese };
    this.callLog.addEvent({ side: this.side, name, event });
  }

  /** Without a connection for live events, the phone has a button that reads the lists. */
  showConnection(isConnected) {
    if (isConnected && document.activeElement === this.refreshButton) focusHeading(this.node);
    this.refreshButton.hidden = isConnected;
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
    this.liveEvents = new LiveEvents(this);
    await this.liveEvents.start();
    await this.refresh();
  }

  show(name, { focus = true } = {}) {
    this.tab = name;
    this.watched = null;
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

  /** Shows the watch screen of a friend, which live events change. */
  showWatched(screen) {
    this.watched = screen;
    this.showPanel(screen.node);
  }

  /** Reads tabs again, by default all, after an action that changes their content. */
  refresh(names = Object.keys(this.tabs ?? {})) {
    const tabs = names.map((name) => this.tabs?.[name]);
    return this.update(() => this.readTabs((tab) => tabs.includes(tab)));
  }

  /** Reads the balance after a transfer, unless a live event will report it. */
  async refreshCoins() {
    if (!this.refreshButton.hidden) await this.refresh(["coins"]);
  }

  /** Reads the tabs that `isChosen` selects. Call this method in `update` only. */
  async readTabs(isChosen) {
    for (const tab of Object.values(this.tabs ?? {})) {
      if (tab.refresh && isChosen(tab)) await tab.refresh();
    }
  }

  /** Runs a change of the shown content after all others, so that older content replaces no newer. */
  update(change) {
    const result = this.lastUpdate.then(() => keepFocus(this.node, change));
    this.lastUpdate = result.catch(() => {});
    return result;
  }

  showCoins(coins) {
    this.coins = coins;
    for (const view of [...Object.values(this.tabs), this.watched]) view?.showCoins?.(coins);
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
}

function showNotice(notice, content, kind) {
  notice.className = `notice ${kind}`;
  notice.replaceChildren(...(content ? [content] : []));
}

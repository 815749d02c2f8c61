// The demo: two phones that communicate through the server, and a log of their requests.

import { element } from "../shared/dom.js";
import { bilingual, localize, startSwitches } from "../shared/language.js";
import { CallLog } from "./call-log.js";
import { moveFocusToHeading } from "./focus.js";
import { Phone } from "./phone.js";
import { forgetSession, storedSession, storeSession } from "./session.js";

const PERSONS = [
  { side: "a", english: "Ann", chinese: "小安", gender: "0" },
  { side: "b", english: "Ben", chinese: "小本", gender: "1" },
];

class Demo {
  constructor() {
    this.stage = document.getElementById("stage");
    this.phoneSwitch = document.getElementById("which");
    this.callLog = new CallLog();
  }

  start() {
    // A narrow screen shows one phone, or the log, at a time.
    localize(this.phoneSwitch, "ariaLabel", "Choose a phone or the log", "选择手机或日志");
    this.phoneSwitch.append(
      ...PERSONS.map(({ side, english, chinese }) =>
        this.#switchButton(side, element("i", { class: `dot ${side}` }), bilingual(english, chinese)),
      ),
      this.#switchButton("log", bilingual("Requests", "请求"), this.callLog.counter),
    );
    document.getElementById("start-over").addEventListener("click", () => this.#startOver());
    this.#open(storedSession());
  }

  #switchButton(view, ...label) {
    const onclick = () => {
      this.#show(view);
      this.#save();
    };
    return element("button", { type: "button", "data-side": view, onclick }, ...label);
  }

  #open({ view, phones }) {
    const { callLog } = this;
    const save = () => this.#save();
    this.phones = PERSONS.map((person) => new Phone({ ...person, callLog, save, stored: phones[person.side] }));
    const [ann, ben] = this.phones;
    ann.other = ben;
    ben.other = ann;
    for (const phone of this.phones) phone.start();
    this.stage.replaceChildren(ann.node, callLog.node, ben.node);
    this.#show(view);
    this.#save();
  }

  #show(view) {
    this.stage.dataset.side = view;
    for (const button of this.phoneSwitch.children) {
      button.ariaPressed = String(button.dataset.side === view);
    }
  }

  #save() {
    const phones = Object.fromEntries(this.phones.map((phone) => [phone.side, phone.state]));
    storeSession({ view: this.stage.dataset.side, phones });
  }

  #startOver() {
    forgetSession();
    for (const phone of this.phones) phone.close();
    this.callLog.clear();
    this.#open(storedSession());
    moveFocusToHeading(this.phones[0].node);
  }
}

startSwitches();
new Demo().start();
document.body.dataset.ready = "true";

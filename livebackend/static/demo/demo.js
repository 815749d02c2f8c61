// The demo: two phones that communicate through the server, and a log of their requests.

import { element } from "../shared/dom.js";
import { bilingual, localize, startSwitches } from "../shared/language.js";
import { Phone } from "./phone.js";
import { CallLog } from "./call-log.js";

/** A random phone number, most likely without an account. */
function randomNumber() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `139${String(number % 1e8).padStart(8, "0")}`;
}

/** The descriptions of result codes and error reasons, if the documentation is enabled. */
async function loadDescriptions() {
  if (!document.documentElement.dataset.docs) return { results: {}, reasons: {} };
  const openapi = await (await fetch("openapi.json")).json();
  return { results: openapi["x-results"], reasons: openapi["x-error-reasons"] };
}

async function start() {
  startSwitches();
  const callLog = new CallLog(await loadDescriptions());
  const phones = [
    new Phone({ side: "a", english: "Ann", chinese: "小安", gender: "0", callLog }),
    new Phone({ side: "b", english: "Ben", chinese: "小本", gender: "1", callLog }),
  ];
  for (const phone of phones) {
    phone.number = randomNumber();
    phone.other = phones.find((other) => other !== phone);
    phone.start();
  }
  const [ann, ben] = phones;
  const stage = document.getElementById("stage");
  stage.append(ann.node, callLog.node, ben.node);
  // Buttons to switch phones: a narrow screen shows one at a time.
  const phoneSwitch = document.getElementById("which");
  localize(phoneSwitch, "ariaLabel", "Choose a phone", "选择手机");
  const show = (side) => {
    stage.dataset.side = side;
    for (const button of phoneSwitch.children) {
      button.ariaPressed = String(button.dataset.side === side);
    }
  };
  phoneSwitch.append(
    ...phones.map((phone) =>
      element(
        "button",
        { type: "button", "data-side": phone.side, onclick: () => show(phone.side) },
        element("i", { class: `dot ${phone.side}` }),
        bilingual(phone.english, phone.chinese),
      ),
    ),
  );
  show("a");
  document.body.dataset.ready = "true";
}

start();

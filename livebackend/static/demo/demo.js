// Two phones that know each other only through the server, and the calls that they make.

import { element } from "../shared/dom.js";
import { both, follow, startSwitches } from "../shared/language.js";
import { Phone } from "./phone.js";
import { Wire } from "./wire.js";

/** A phone number that nobody here has yet, most likely. */
function freshNumber() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  return `139${String(number % 1e8).padStart(8, "0")}`;
}

async function meanings() {
  if (!document.documentElement.dataset.docs) return {};
  const response = await fetch("openapi.json");
  return (await response.json())["x-results"];
}

async function start() {
  startSwitches();
  const wire = new Wire(await meanings());
  const phones = [
    new Phone({ side: "a", english: "Ann", chinese: "小安", gender: "0", wire }),
    new Phone({ side: "b", english: "Ben", chinese: "小本", gender: "1", wire }),
  ];
  for (const phone of phones) {
    phone.number = freshNumber();
    phone.other = phones.find((other) => other !== phone);
    phone.start();
  }
  const [ann, ben] = phones;
  const stage = document.getElementById("stage");
  stage.append(ann.node, wire.node, ben.node);
  // On a narrow screen one phone is seen at a time.
  const which = document.getElementById("which");
  follow(which, "ariaLabel", "which phone", "选择手机");
  const show = (side) => {
    stage.dataset.side = side;
    for (const button of which.children) {
      button.ariaPressed = String(button.dataset.side === side);
    }
  };
  which.append(
    ...phones.map((phone) =>
      element(
        "button",
        { type: "button", "data-side": phone.side, onclick: () => show(phone.side) },
        element("i", { class: `dot ${phone.side}` }),
        both(phone.english, phone.chinese),
      ),
    ),
  );
  show("a");
  document.body.dataset.ready = "true";
}

start();

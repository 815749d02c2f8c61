// Coins: how many there are, and buying some.

import { element } from "../shared/dom.js";
import { both } from "../shared/language.js";
import { button } from "./form.js";

export function coinsTab(phone) {
  const amount = element("output", { class: "coins" }, "0");
  const buy = (yuan) =>
    button("quiet-button", `¥${yuan}`, async () => {
      const fields = { refill: "1", money: String(yuan), requestId: crypto.randomUUID?.() ?? "" };
      const { result, message } = await phone.ask("/golden", fields);
      if (result !== "0000") return;
      // A refill that is only ordered has something to say about paying.
      if (message === null) phone.coins += yuan;
      await phone.happened();
    });
  const node = element(
    "div",
    { class: "tab" },
    element("h3", {}, both("Coins", "金币")),
    amount,
    element("p", { class: "hint" }, both("Buy coins", "充值")),
    element("div", { class: "amounts" }, buy(10), buy(50), buy(100)),
  );

  async function look() {
    const coins = await phone.balance();
    phone.coins = coins;
    amount.textContent = String(coins);
  }

  return { title: both("Coins", "金币"), node, look };
}

// The coins tab: balance and refills.

import { element } from "../shared/dom.js";
import { bilingual } from "../shared/language.js";
import { heading } from "./focus.js";
import { button } from "./form.js";

export function coinsTab(phone) {
  const amount = element("output", { class: "coins" }, "0");
  const buy = (yuan) =>
    button("quiet-button", `¥${yuan}`, async () => {
      const fields = { refill: "1", money: String(yuan), requestId: crypto.randomUUID?.() ?? "" };
      const { result, message } = await phone.request("/golden", fields);
      if (result !== "0000") return;
      // A refill that must be paid returns an order; a free one returns null.
      if (message === null) phone.coins += yuan;
      await phone.refreshBoth();
    });
  const node = element(
    "div",
    { class: "tab" },
    heading(bilingual("Coins", "金币")),
    amount,
    element("p", { class: "hint" }, bilingual("Buy coins", "充值")),
    element("div", { class: "amounts" }, buy(10), buy(50), buy(100)),
  );

  async function refresh() {
    const coins = await phone.balance();
    phone.coins = coins;
    amount.textContent = String(coins);
  }

  return { title: bilingual("Coins", "金币"), node, refresh };
}

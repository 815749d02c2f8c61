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
      const { result } = await phone.request("/golden", fields);
      if (result === "0000") await phone.refreshCoins();
    });
  const node = element(
    "div",
    { class: "tab" },
    heading(bilingual("Coins", "金币")),
    amount,
    element("p", { class: "hint" }, bilingual("Buy coins", "充值")),
    element("div", { class: "amounts" }, buy(10), buy(50), buy(100)),
  );

  function showCoins(coins) {
    amount.textContent = String(coins);
  }

  async function refresh() {
    const options = { quiet: true, operation: "balance" };
    const { result, message } = await phone.request("/golden", { balance: "1" }, options);
    if (result === "0000") phone.showCoins(message.coins);
  }

  return { title: bilingual("Coins", "金币"), operation: "/golden balance=1", node, refresh, showCoins };
}

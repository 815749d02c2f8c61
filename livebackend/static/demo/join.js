// Before one is logged in: a number, a code, a profile; or logging in.

import { element } from "../shared/dom.js";
import { both, follow, say } from "../shared/language.js";
import { drawn } from "./avatar.js";
import { button, field, form } from "./form.js";

const PASSWORD = "harbour-42";

export function joinScreen(phone) {
  const number = field(both("Phone number", "手机号"), {
    name: "number",
    inputmode: "numeric",
    value: phone.number,
  });
  return element(
    "div",
    { class: "join" },
    element("h2", {}, both("Welcome", "欢迎")),
    element("p", {}, both("Your number is your name here.", "手机号就是你的账号。")),
    form([number.node], both("Send me a code", "发送验证码"), async () => {
      phone.number = number.input.value.trim();
      const { result, message } = await phone.ask("/register", { token: phone.number });
      if (result === "0000") phone.screen.replaceChildren(codeScreen(phone, message));
    }),
    button("quiet-button", both("I have an account", "已有账号"), async () => {
      phone.number = number.input.value.trim();
      phone.screen.replaceChildren(logInScreen(phone));
    }),
  );
}

function codeScreen(phone, ticket) {
  const code = field(both("Code", "验证码"), {
    name: "code",
    inputmode: "numeric",
    maxlength: "4",
    autocomplete: "one-time-code",
  });
  code.input.classList.add("digits");
  // In development the reply is the code itself, so that the phone can play its own message.
  if (/^[0-9]{4}$/.test(ticket)) {
    phone.tell(
      element(
        "span",
        {},
        both("Message: your code is ", "短信：验证码 "),
        element("b", {}, ticket),
        " ",
        button("link", both("Use it", "填入"), async () => {
          code.input.value = ticket;
          code.input.focus();
        }),
      ),
    );
  } else {
    phone.tell(both("The code is on its way to your phone.", "验证码已发送到手机。"));
  }
  return element(
    "div",
    { class: "join" },
    element("h2", {}, both("Four digits", "输入验证码")),
    element("p", {}, both("sent to ", "已发送至 "), phone.number),
    form([code.node], both("Verify", "验证"), async () => {
      const fields = { code_v: ticket, code: code.input.value.trim() || "-" };
      const { result } = await phone.ask("/register", fields);
      if (result === "0000") phone.screen.replaceChildren(await profileScreen(phone));
    }),
  );
}

async function profileScreen(phone) {
  let picture = await drawn(say(phone.english[0], phone.chinese.slice(-1)), phone.side);
  const preview = element("img", { class: "preview", alt: "" });
  const shown = () => {
    preview.src = URL.createObjectURL(picture);
  };
  shown();
  const file = element("input", { type: "file", accept: "image/*", class: "unseen", id: `file-${phone.side}` });
  file.addEventListener("change", () => {
    if (file.files[0]) {
      [picture] = file.files;
      shown();
    }
  });
  const nickname = field(both("Nickname", "昵称"), {
    name: "nickname",
    maxlength: "32",
    value: say(phone.english, phone.chinese),
  });
  const password = field(
    both("Password", "密码"),
    { name: "password", type: "password", value: PASSWORD, autocomplete: "new-password" },
    element("small", {}, both("8 characters, a letter and a digit", "至少8位，同时包括字母和数字")),
  );
  const genders = [
    ["0", "female", "女"],
    ["1", "male", "男"],
  ].map(([value, english, chinese]) =>
    element(
      "label",
      { class: "choice" },
      element("input", {
        type: "radio",
        name: `gender-${phone.side}`,
        value,
        checked: value === phone.gender,
      }),
      both(english, chinese),
    ),
  );
  const group = element("div", { class: "choices", role: "radiogroup" }, ...genders);
  follow(group, "ariaLabel", "gender", "性别");
  return element(
    "div",
    { class: "join" },
    element("h2", {}, both("About you", "个人资料")),
    form(
      [
        element(
          "div",
          { class: "picture" },
          preview,
          file,
          element("label", { for: file.id, class: "quiet-button" }, both("Choose a picture", "选择头像")),
        ),
        nickname.node,
        group,
        password.node,
      ],
      both("Open account", "注册"),
      async () => {
        const kept = await phone.ask("/upload", { img: picture });
        if (kept.result !== "0000") return;
        const gender = genders.find((label) => label.firstChild.checked)?.firstChild.value ?? "";
        const opened = await phone.ask("/register", {
          register: "1",
          userId: phone.number,
          password: password.input.value,
          nickname: nickname.input.value,
          gender,
          headImage: kept.message,
        });
        if (opened.result !== "0000") return;
        phone.profile = { nickname: nickname.input.value, headImage: kept.message };
        await logIn(phone, password.input.value);
      },
    ),
  );
}

function logInScreen(phone) {
  const password = field(both("Password", "密码"), {
    name: "password",
    type: "password",
    value: PASSWORD,
    autocomplete: "current-password",
  });
  return element(
    "div",
    { class: "join" },
    element("h2", {}, both("Log in", "登录")),
    element("p", {}, phone.number),
    form([password.node], both("Log in", "登录"), () => logIn(phone, password.input.value)),
    button("quiet-button", both("Back", "返回"), async () => phone.start()),
  );
}

async function logIn(phone, password) {
  const fields = { userId: phone.number, password, expire_in: "86400" };
  const { result, message } = await phone.ask("/log", fields);
  if (result !== "0000") return;
  phone.token = message;
  const found = await phone.ask("/friend", { search: "1", userId: phone.number }, { quiet: true });
  if (found.result === "0000") phone.profile = found.message;
  await phone.enter();
}

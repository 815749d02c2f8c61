// Screens before login: phone number, verification code, profile; or login.

import { element } from "../shared/dom.js";
import { bilingual, localize, localized } from "../shared/language.js";
import { drawAvatar } from "./avatar.js";
import { heading } from "./focus.js";
import { button, field, form } from "./form.js";

const PASSWORD = "harbour-42";

export function phoneNumberScreen(phone) {
  const number = field(bilingual("Phone number", "手机号"), {
    name: "number",
    inputmode: "numeric",
    value: phone.number,
  });
  return element(
    "div",
    { class: "join" },
    heading(bilingual("Welcome", "欢迎")),
    element("p", {}, bilingual("Your phone number is your user ID.", "手机号即账号。")),
    form([number.node], bilingual("Send me a code", "发送验证码"), async () => {
      setNumber(phone, number.input.value);
      const { result, message } = await phone.request("/register", { token: phone.number });
      if (result === "0000") phone.showScreen(codeScreen(phone, message));
    }),
    button("quiet-button", bilingual("I have an account", "已有账号"), async () => {
      setNumber(phone, number.input.value);
      phone.notify(null);
      phone.showScreen(logInScreen(phone));
    }),
  );
}

function setNumber(phone, text) {
  phone.number = text.trim();
  phone.save();
}

function codeScreen(phone, ticket) {
  const code = field(bilingual("Code", "验证码"), {
    name: "code",
    inputmode: "numeric",
    maxlength: "4",
    autocomplete: "one-time-code",
  });
  code.input.classList.add("digits");
  // In development mode the response contains the code, which is shown as an SMS.
  if (/^[0-9]{4}$/.test(ticket)) {
    phone.notify(
      element(
        "span",
        {},
        bilingual("SMS: your code is ", "短信：验证码 "),
        element("b", {}, ticket),
        " ",
        button("link", bilingual("Use it", "填入"), async () => {
          code.input.value = ticket;
          code.input.focus();
        }),
      ),
    );
  } else {
    phone.notify(bilingual("The code was sent to your phone.", "验证码已发送到手机。"));
  }
  return element(
    "div",
    { class: "join" },
    heading(bilingual("Enter the code", "输入验证码")),
    element("p", {}, bilingual("sent to ", "已发送至 "), phone.number),
    form([code.node], bilingual("Verify", "验证"), async () => {
      const fields = { code_v: ticket, code: code.input.value.trim() || "-" };
      const { result } = await phone.request("/register", fields);
      if (result === "0000") phone.showScreen(await profileScreen(phone));
    }),
  );
}

async function profileScreen(phone) {
  let picture = await drawAvatar(localized(phone.english[0], phone.chinese.slice(-1)), phone.side);
  const preview = element("img", { class: "preview", alt: "" });
  const showPreview = () => {
    preview.src = URL.createObjectURL(picture);
  };
  showPreview();
  const file = element("input", { type: "file", accept: "image/*", class: "visually-hidden", id: `file-${phone.side}` });
  file.addEventListener("change", () => {
    if (file.files[0]) {
      [picture] = file.files;
      showPreview();
    }
  });
  const nickname = field(bilingual("Nickname", "昵称"), {
    name: "nickname",
    maxlength: "32",
    value: localized(phone.english, phone.chinese),
  });
  const password = field(
    bilingual("Password", "密码"),
    { name: "password", type: "password", value: PASSWORD, autocomplete: "new-password" },
    element("small", {}, bilingual("at least 8 characters, with a letter and a digit", "至少8位，须同时包含字母和数字")),
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
      bilingual(english, chinese),
    ),
  );
  const group = element("div", { class: "choices", role: "radiogroup" }, ...genders);
  localize(group, "ariaLabel", "Gender", "性别");
  return element(
    "div",
    { class: "join" },
    heading(bilingual("Profile", "个人资料")),
    form(
      [
        element(
          "div",
          { class: "picture" },
          preview,
          file,
          element("label", { for: file.id, class: "quiet-button" }, bilingual("Choose a picture", "选择头像")),
        ),
        nickname.node,
        group,
        password.node,
      ],
      bilingual("Register", "注册"),
      async () => {
        const uploaded = await phone.request("/upload", { img: picture });
        if (uploaded.result !== "0000") return;
        const gender = genders.find((label) => label.firstChild.checked)?.firstChild.value ?? "";
        const registered = await phone.request("/register", {
          register: "1",
          userId: phone.number,
          password: password.input.value,
          nickname: nickname.input.value,
          gender,
          headImage: uploaded.message,
        });
        if (registered.result !== "0000") return;
        phone.profile = { nickname: nickname.input.value, headImage: uploaded.message };
        await logIn(phone, password.input.value);
      },
    ),
  );
}

export function logInScreen(phone) {
  const password = field(bilingual("Password", "密码"), {
    name: "password",
    type: "password",
    value: PASSWORD,
    autocomplete: "current-password",
  });
  return element(
    "div",
    { class: "join" },
    heading(bilingual("Log in", "登录")),
    element("p", {}, phone.number),
    form([password.node], bilingual("Log in", "登录"), () => logIn(phone, password.input.value)),
    button("quiet-button", bilingual("Back", "返回"), async () => {
      phone.notify(null);
      phone.showScreen(phoneNumberScreen(phone));
    }),
  );
}

async function logIn(phone, password) {
  const fields = { userId: phone.number, password, expire_in: "86400" };
  const { result, message } = await phone.request("/log", fields);
  if (result !== "0000") return;
  phone.logIn(message);
  const own = await phone.request("/friend", { search: "1", userId: phone.number }, { quiet: true });
  if (own.result === "0000") phone.profile = own.message;
  await phone.showApp();
}

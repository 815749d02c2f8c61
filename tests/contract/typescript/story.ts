// Two users become friends, and one sends the other a gift.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { openAsBlob } from 'node:fs';

import { client } from './client/client.gen.js';
import * as api from './client/index.js';

/** Return the response of a successful operation; throw an exception for any other response. */
async function success<Success extends { result: '0000' }>(
  call: Promise<{ data?: Success | api.Error; error?: unknown; response?: Response }>,
): Promise<Success> {
  const { data, error, response } = await call;
  if (data?.result === '0000') return data;
  throw new Error(response?.headers.get('X-Error') ?? 'no response', { cause: error });
}

const [address = '', picturePath = ''] = process.argv.slice(2);
const password = 'harbour-42';

client.setConfig({
  baseUrl: address,
  fetch: (request) => fetch(request, { signal: AbortSignal.timeout(10_000) }),
});

/** Register an account with an avatar, and return its login token. */
async function newUser(phone: string, nickname: string): Promise<string> {
  const { message: ticket } = await success(api.sendCode({ body: { token: phone } }));
  // A development server returns the code. In production, the user reads it in the SMS.
  await success(api.verifyCode({ body: { code_v: ticket, code: ticket } }));
  const img = new File([await openAsBlob(picturePath)], 'avatar.png');
  const { message: headImage } = await success(api.upload({ body: { img } }));
  const account = { userId: phone, password, nickname, headImage };
  await success(api.register({ body: { register: '1', ...account } }));
  const login = await success(api.logIn({ body: { userId: phone, password } }));
  return login.message;
}

const annPhone = '13700000001';
const benPhone = '13700000002';
const ann = await newUser(annPhone, 'Ann');
const ben = await newUser(benPhone, 'Ben');

// Ben sends a friend request, and Ann accepts it.
await success(api.add({ body: { add: '1', token: ben, userId: annPhone } }));
const messages = await success(api.messagelist({ body: { messagelist: '1', token: ann } }));
const request = messages.message[0];
assert(request);
const { userId, verifyId, objectId } = request;
const acceptance = { userId, verifyId, objectId, behaviour: 'accept' as const };
await success(api.dealMessage({ body: { dealMessage: '1', token: ann, ...acceptance } }));

// Ann goes live. The stream is JSON inside a string.
const room = await success(api.live({ body: { live: '1', token: ann, title: 'hello' } }));
const stream = JSON.parse(room.message) as api.Stream;
assert.equal(stream.disabled, false);
const { message } = await success(api.friendlist({ body: { friendlist: '1', token: ben } }));
assert.deepEqual(
  message.friends.map((friend) => [friend.nickname, friend.liveStatus, friend.title]),
  [['Ann', 'on', 'hello']],
);

// Ben buys coins, and sends a gift. Each tap of the user gets a new requestId.
await success(
  api.refill({ body: { refill: '1', token: ben, money: 50, requestId: randomUUID() } }),
);
const gift = { object: annPhone, value: 30, description: 'rose', requestId: randomUUID() };
await success(api.sendGift({ body: { send_gift: '1', token: ben, ...gift } }));

// The second gift exceeds the balance.
const body = { send_gift: '1' as const, token: ben, ...gift, requestId: randomUUID() };
const { data, response } = await api.sendGift({ body });
assert(data && response);
if (data.result === '0000') {
  console.log('the gift was sent');
} else if (response.headers.get('X-Error')?.includes('reason=insufficient_coins')) {
  console.log(`result code ${data.result}: not enough coins`);
} else {
  console.log(`the gift was not sent: result code ${data.result}`);
}

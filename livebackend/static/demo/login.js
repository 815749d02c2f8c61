// Ends the actions of a user whose login has ended: the next user of the phone must not see them.

/** Thrown by a request if the login that it began with has ended. */
export class LoginEnded extends Error {}

/** Runs an action until it completes or the login ends. */
export async function untilLoginEnds(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof LoginEnded)) throw error;
  }
}

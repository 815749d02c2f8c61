"""Two users become friends, and one sends the other a gift."""

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from httpx import Timeout
from livebackend_api import Client
from livebackend_api.api.coins import refill, send_gift
from livebackend_api.api.friends import add, deal_message
from livebackend_api.api.lists import friendlist, messagelist
from livebackend_api.api.login import log_in
from livebackend_api.api.registration import register, send_code, upload, verify_code
from livebackend_api.api.rooms import live
from livebackend_api.models import (
    AddRequest,
    DealMessageRequest,
    DealMessageRequestBehaviour,
    Error,
    FriendlistRequest,
    LiveRequest,
    LogInRequest,
    MessagelistRequest,
    RefillRequest,
    RefillRequestMoney,
    RegisterRequest,
    SendCodeRequest,
    SendGiftRequest,
    SendGiftResponse,
    Stream,
    UploadRequest,
    VerifyCodeRequest,
)
from livebackend_api.types import File

PASSWORD = "harbour-42"
ANN_PHONE, BEN_PHONE = "13700000003", "13700000004"
Success = TypeVar("Success")

address, picture_path = sys.argv[1:]
client = Client(base_url=address, timeout=Timeout(10))


def success(response: Success | Error | None) -> Success:
    """Return the response of a successful operation; raise RuntimeError for any other response."""
    if response is None or isinstance(response, Error):
        raise RuntimeError(response)
    return response


def new_user(phone: str, nickname: str) -> str:
    """Register an account with an avatar, and return its login token."""
    ticket = success(send_code.sync(client=client, body=SendCodeRequest(token=phone))).message
    # A development server returns the code. In production, the user reads it in the SMS.
    verification = VerifyCodeRequest(code_v=ticket, code=ticket)
    success(verify_code.sync(client=client, body=verification))
    img = File(BytesIO(Path(picture_path).read_bytes()), file_name="avatar.png")
    picture = success(upload.sync(client=client, body=UploadRequest(img=img))).message
    account = RegisterRequest(
        register="1", user_id=phone, password=PASSWORD, nickname=nickname, head_image=picture
    )
    success(register.sync(client=client, body=account))
    credentials = LogInRequest(user_id=phone, password=PASSWORD)
    return success(log_in.sync(client=client, body=credentials)).message


ann = new_user(ANN_PHONE, "Ann")
ben = new_user(BEN_PHONE, "Ben")

# Ben sends a friend request, and Ann accepts it.
success(add.sync(client=client, body=AddRequest(add="1", token=ben, user_id=ANN_PHONE)))
messages = messagelist.sync(client=client, body=MessagelistRequest(messagelist="1", token=ann))
(request,) = success(messages).message
acceptance = DealMessageRequest(
    deal_message="1",
    token=ann,
    user_id=request.user_id,
    verify_id=request.verify_id,
    object_id=request.object_id,
    behaviour=DealMessageRequestBehaviour.ACCEPT,
)
success(deal_message.sync(client=client, body=acceptance))

# Ann goes live. The stream is JSON inside a string.
room = success(live.sync(client=client, body=LiveRequest(live="1", token=ann, title="hello")))
stream = Stream.from_dict(json.loads(room.message))
assert not stream.disabled
friends = friendlist.sync(client=client, body=FriendlistRequest(friendlist="1", token=ben))
(friend,) = success(friends).message.friends
assert (friend.nickname, friend.live_status, friend.title) == ("Ann", "on", "hello")

# Ben buys coins, and sends a gift. Each tap of the user gets a new requestId.
order = RefillRequest(
    refill="1", token=ben, money=RefillRequestMoney.VALUE_50, request_id=str(uuid4())
)
success(refill.sync(client=client, body=order))


def gift() -> SendGiftRequest:
    return SendGiftRequest(
        send_gift="1",
        token=ben,
        object_=ANN_PHONE,
        value=30,
        description="rose",
        request_id=str(uuid4()),
    )


success(send_gift.sync(client=client, body=gift()))

# The second gift exceeds the balance.
response = send_gift.sync_detailed(client=client, body=gift())
if isinstance(response.parsed, SendGiftResponse):
    print("the gift was sent")
elif isinstance(response.parsed, Error):
    reason = response.headers["X-Error"]
    print(f"result code {response.parsed.result.value}: {reason}")

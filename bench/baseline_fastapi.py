"""The benchmarked operations, written as the FastAPI documentation recommends.

The server uses uvicorn with uvloop and httptools, SQLAlchemy's asyncio extension with asyncpg,
mapped classes, one session per request, pydantic models for responses, and PyJWT.
"""

import os
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Form, HTTPException
from pydantic import BaseModel
from sqlalchemy import BigInteger, ForeignKey, select, text, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.baseline_statements import COUNT_REQUEST as COUNT_REQUEST_STATEMENT

SECRET = os.environ["LIVEBACKEND_SECRETS"]
DATABASE_URL = os.environ["LIVEBACKEND_DATABASE_URL"].replace("+psycopg2", "+asyncpg")

COUNT_REQUEST = text(re.sub(r"%\((\w+)\)s", r":\1", COUNT_REQUEST_STATEMENT.text))

engine = create_async_engine(DATABASE_URL, pool_size=10, max_overflow=0, pool_timeout=10)
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(openapi_url=None)


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    phone: Mapped[str]
    nickname: Mapped[str | None]
    gender: Mapped[str | None]
    head_image: Mapped[str | None]
    token_version: Mapped[int]
    disabled_at: Mapped[datetime | None]


class RevokedToken(Base):
    __tablename__ = "revoked_tokens"

    token_id: Mapped[str] = mapped_column(primary_key=True)


class Friendship(Base):
    __tablename__ = "friendships"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    friend_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)


class FriendRequest(Base):
    __tablename__ = "friend_requests"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    applicant_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    addressee_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    state: Mapped[str]
    sent_at_us: Mapped[int] = mapped_column(BigInteger)
    applicant_visible: Mapped[bool]
    addressee_visible: Mapped[bool]


class Room(Base):
    __tablename__ = "rooms"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    title: Mapped[str | None]
    state: Mapped[str]
    play_urls: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    started_at: Mapped[datetime]


class ProfileCard(BaseModel):
    userId: str
    nickname: str | None
    gender: str | None
    headImage: str | None


class FriendCard(ProfileCard):
    liveStatus: str
    title: str | None
    playUrl: dict[str, str] | None


class FriendList(BaseModel):
    count: int
    friends: list[FriendCard]


class MessageCard(ProfileCard):
    verifyId: str
    objectId: str
    flag: int
    time: datetime


class FriendListResponse(BaseModel):
    result: str = "0000"
    message: FriendList


class MessageListResponse(BaseModel):
    result: str = "0000"
    message: list[MessageCard]


class SearchResponse(BaseModel):
    result: str = "0000"
    message: ProfileCard
    flag: str


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as db:
        yield db


Session = Annotated[AsyncSession, Depends(session)]


def issue_token(account_id: int, version: int) -> str:
    expires_at = datetime.now(UTC) + timedelta(days=7)
    claims = {"sub": str(account_id), "v": version, "exp": expires_at, "jti": f"{time.time_ns()}"}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def current_account(token: Annotated[str, Form()], db: Session) -> Account:
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    account = await db.scalar(
        select(Account).where(
            Account.id == int(claims["sub"]),
            Account.disabled_at.is_(None),
            ~select(RevokedToken).where(RevokedToken.token_id == claims["jti"]).exists(),
        )
    )
    if account is None or account.token_version != claims["v"]:
        raise HTTPException(401)
    return account


CurrentAccount = Annotated[Account, Depends(current_account)]


def profile(account: Account) -> dict[str, str | None]:
    return {
        "userId": account.phone,
        "nickname": account.nickname,
        "gender": account.gender,
        "headImage": account.head_image,
    }


@app.post("/friendlist")
async def friendlist(me: CurrentAccount, db: Session) -> FriendListResponse:
    rows = await db.execute(
        select(Account, Room)
        .join(Friendship, Friendship.friend_id == Account.id)
        .outerjoin(Room, (Room.account_id == Account.id) & (Room.state == "open"))
        .where(Friendship.account_id == me.id)
        .order_by(
            Room.started_at.desc().nulls_last(),
            Account.nickname.collate("C").nulls_last(),
            Account.phone,
        )
        .limit(5000)
    )
    friends = [
        FriendCard(
            **profile(friend),
            liveStatus="on" if room else "off",
            title=room.title if room else None,
            playUrl=room.play_urls if room else None,
        )
        for friend, room in rows
    ]
    return FriendListResponse(message=FriendList(count=len(friends), friends=friends))


@app.post("/messagelist")
async def messagelist(me: CurrentAccount, db: Session) -> MessageListResponse:
    # With UNION ALL, PostgreSQL uses two indexes; with an OR condition, it would scan the table.
    visible_requests = union_all(
        select(FriendRequest.id, FriendRequest.addressee_id.label("other_id")).where(
            FriendRequest.applicant_id == me.id, FriendRequest.applicant_visible
        ),
        select(FriendRequest.id, FriendRequest.applicant_id.label("other_id")).where(
            FriendRequest.addressee_id == me.id, FriendRequest.addressee_visible
        ),
    ).subquery()
    rows = await db.execute(
        select(FriendRequest, Account)
        .join(visible_requests, visible_requests.c.id == FriendRequest.id)
        .join(Account, Account.id == visible_requests.c.other_id)
        .order_by(FriendRequest.sent_at_us.desc())
        .limit(500)
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    messages = []
    for request, other_account in rows:
        is_applicant = request.applicant_id == me.id
        addressee, applicant = (other_account, me) if is_applicant else (me, other_account)
        messages.append(
            MessageCard(
                **profile(other_account),
                verifyId=f"{addressee.phone},{request.sent_at_us}",
                objectId=f"{applicant.phone},{request.sent_at_us}",
                flag=2 * is_applicant + (request.state == "accepted"),
                time=epoch + timedelta(microseconds=request.sent_at_us),
            )
        )
    return MessageListResponse(message=messages)


@app.post("/search")
async def search(userId: Annotated[str, Form()], me: CurrentAccount, db: Session) -> SearchResponse:
    rule = {"maximums": [1_000_000], "windows_s": [3600], "counted": [True]}
    retry_after_s = await db.scalar(COUNT_REQUEST, {"keys": [f"search/3600/{me.id}"], **rule})
    if retry_after_s is not None:
        raise HTTPException(429)
    await db.commit()
    account = await db.scalar(select(Account).where(Account.phone == userId))
    if account is None:
        raise HTTPException(404)
    friendship = await db.get(Friendship, (me.id, account.id))
    flag = "-1" if account.id == me.id else "1" if friendship else "0"
    return SearchResponse(message=ProfileCard(**profile(account)), flag=flag)


@app.post("/nothing")
async def nothing(token: Annotated[str, Form()] = "") -> dict[str, str | None]:
    return {"result": "0012", "message": None}

"""WeChat Pay's trade bill: a CSV file of a day's payments and refunds.

Source: WeChat Pay API v3, "交易账单文件格式说明".
"""

import logging
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import BytesIO, TextIOWrapper

from livebackend.gateways.payments.protocol import BillEntry

log = logging.getLogger(__name__)

_FEN_PER_YUAN = 100
# The summary at the end of a bill begins with this column name.
_SUMMARY_START = "总交易单数"
# The column names of each amount, before and after discounts. If a bill has both columns, the first
# of these names is used.
_PAID_AMOUNT_COLUMNS = ("订单金额", "应结订单金额")
_REFUNDED_AMOUNT_COLUMNS = ("申请退款金额", "退款金额")
_REFUND_STATES = {"SUCCESS", "PROCESSING"}

Row = Mapping[str, str]


def bill_entries(content: bytes, *, merchant: str, app_id: str) -> list[BillEntry]:
    """Return the payments and refunds of a merchant's app.

    Leaves out revoked payments, failed refunds, and rows of other merchants and apps. For a refund,
    `fen` is the order amount of the row, which WeChat Pay sets to 0 for refunds. Raises ValueError
    for a malformed or truncated file.
    """
    rows = _rows(TextIOWrapper(BytesIO(content), "utf-8-sig", newline="\n"))
    return [
        entry
        for row in rows
        if (row["商户号"], row["公众账号ID"]) == (merchant, app_id)
        for entry in _entries(row)
    ]


def _rows(lines: Iterator[str]) -> Iterator[Row]:
    column_names = [name.strip().lstrip("`") for name in next(lines, "").split(",")]
    _check_column_names(column_names)
    for line_number, line in enumerate(lines, 2):
        if line.startswith(_SUMMARY_START):
            return
        # Each field starts with a backtick. A comma without a backtick is part of a product name.
        fields = [field.strip() for field in line.strip().removeprefix("`").split(",`")]
        if len(fields) != len(column_names):
            raise ValueError(
                f"line {line_number} has {len(fields)} fields instead of {len(column_names)}"
            )
        yield dict(zip(column_names, fields, strict=True))
    raise ValueError("the summary is missing: the file is truncated")


def _check_column_names(column_names: list[str]) -> None:
    required_names = {"商户号", "公众账号ID", "商户订单号", "微信订单号", "交易状态", "退款状态"}
    missing_names = sorted(required_names - set(column_names))
    for alternative_names in (_PAID_AMOUNT_COLUMNS, _REFUNDED_AMOUNT_COLUMNS):
        if not set(alternative_names) & set(column_names):
            missing_names.append("/".join(alternative_names))
    if missing_names:
        raise ValueError(f"the file lacks the columns {', '.join(missing_names)}")


def _entries(row: Row) -> Iterator[BillEntry]:
    """Yield the payment or refund of a row, or nothing if it is revoked or failed.

    Raises ValueError for an unknown state.
    """
    order_id, payment_id, state = row["商户订单号"], row["微信订单号"], row["交易状态"]
    fen = _fen(row, _PAID_AMOUNT_COLUMNS)
    if state == "SUCCESS":
        yield BillEntry(order_id, payment_id, fen)
    elif state == "REFUND":
        if row["退款状态"] in _REFUND_STATES:
            yield BillEntry(order_id, payment_id, fen, _fen(row, _REFUNDED_AMOUNT_COLUMNS))
        else:
            log.warning(
                "WeChat Pay: bill: refund of order %s skipped, because the refund has the state %s",
                order_id,
                row["退款状态"],
            )
    elif state != "REVOKED":
        raise ValueError(f"order {order_id} has the unknown state {state}")


def _fen(row: Row, column_names: tuple[str, ...]) -> int:
    yuan_text = next(row[name] for name in column_names if name in row)
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,2}0*)?", yuan_text):
        raise ValueError(f"order {row['商户订单号']} has the invalid amount {yuan_text[:20]!r}")
    return int(Decimal(yuan_text) * _FEN_PER_YUAN)

"""WeChat Pay's trade bill: download, digest check and CSV format."""

from datetime import date
from typing import Any

import pytest

from livebackend.gateways.payments.protocol import BillEntry, PaymentFailed
from livebackend.gateways.payments.wechat.bills import bill_entries
from livebackend.gateways.payments.wechat.client import API_URL
from livebackend.gateways.payments.wechat.gateway import WechatPayments
from tests.support.wechat_server import (
    APP_ID,
    MERCHANT,
    ORDER,
    PAYMENT_ID,
    FakeResponse,
    FakeWechatPay,
)

DAY = date(2026, 10, 3)
BILL_PATH, DOWNLOAD_PATH = "/v3/bill/tradebill", "/v3/billdownload/file"
HEADER_LINE = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,"
    "交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,"
    "充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
)
COLUMN_NAMES = HEADER_LINE.split(",")
SUMMARY_LINES = (
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
    "`2,`99.00,`50.00,`0.00,`0.60,`100.00,`50.00\r\n"
)
PAYMENT_ROW = {
    "交易时间": "2026-10-03 10:34:56",
    "公众账号ID": APP_ID,
    "商户号": MERCHANT,
    "特约商户号": "0",
    "微信订单号": PAYMENT_ID,
    "商户订单号": ORDER.order_id,
    "交易类型": "APP",
    "交易状态": "SUCCESS",
    "货币种类": "CNY",
    "应结订单金额": "49.00",
    "代金券金额": "1.00",
    "微信退款单号": "0",
    "退款金额": "0.00",
    "商品名称": "50 coins",
    "手续费": "0.30000",
    "费率": "0.60%",
    "订单金额": "50.00",
    "申请退款金额": "0.00",
}
REFUND_ROW = PAYMENT_ROW | {
    "交易状态": "REFUND",
    "应结订单金额": "0.00",
    "订单金额": "0.00",
    "退款金额": "49.00",
    "申请退款金额": "50.00",
    "退款状态": "SUCCESS",
}
PAID_ENTRY = BillEntry(ORDER.order_id, PAYMENT_ID, 5000)
REFUNDED_ENTRY = BillEntry(ORDER.order_id, PAYMENT_ID, 0, 5000)


def bill_csv(
    *rows: dict[str, str],
    columns: list[str] = COLUMN_NAMES,
    summary: str = SUMMARY_LINES,
    byte_order_mark: str = "\ufeff",
) -> bytes:
    lines = [",".join("`" + row.get(column, "") for column in columns) for row in rows]
    return (
        byte_order_mark + "".join(f"{line}\r\n" for line in [",".join(columns), *lines]) + summary
    ).encode()


def parse_content(content: bytes) -> list[BillEntry]:
    return bill_entries(content, merchant=MERCHANT, app_id=APP_ID)


class TestFormat:
    def test_payments_and_refunds_are_entries_in_fen(self) -> None:
        assert parse_content(bill_csv(PAYMENT_ROW, REFUND_ROW)) == [PAID_ENTRY, REFUNDED_ENTRY]

    def test_bill_without_a_byte_order_mark_is_parsed(self) -> None:
        assert parse_content(bill_csv(PAYMENT_ROW, byte_order_mark="")) == [PAID_ENTRY]

    def test_columns_can_be_in_any_order(self) -> None:
        assert parse_content(bill_csv(PAYMENT_ROW, REFUND_ROW, columns=COLUMN_NAMES[::-1])) == [
            PAID_ENTRY,
            REFUNDED_ENTRY,
        ]

    def test_settled_amounts_are_used_where_the_order_amounts_are_missing(self) -> None:
        columns = [column for column in COLUMN_NAMES if column not in ("订单金额", "申请退款金额")]
        assert parse_content(bill_csv(PAYMENT_ROW, REFUND_ROW, columns=columns)) == [
            PAID_ENTRY._replace(fen=4900),
            REFUNDED_ENTRY._replace(refunded_fen=4900),
        ]

    @pytest.mark.parametrize(
        ("yuan", "fen"),
        [
            ("0.29", 29),
            ("1.1", 110),
            ("50", 5000),
            ("0.01000", 1),
            ("4503599627370.49", None),
            ("99999999.99", 9999999999),
        ],
    )
    def test_amounts_are_converted_exactly_to_fen(self, yuan: str, fen: int | None) -> None:
        content = bill_csv(PAYMENT_ROW | {"订单金额": yuan})
        if fen is None:
            with pytest.raises(ValueError, match="has the invalid amount"):
                parse_content(content)
        else:
            assert parse_content(content) == [PAID_ENTRY._replace(fen=fen)]

    @pytest.mark.parametrize("yuan", ["", "-1.00", "1e3", "NaN", "1.234", "1,5", "٣", "1.00 元"])
    def test_malformed_amount_is_rejected(self, yuan: str) -> None:
        with pytest.raises(ValueError, match="has the invalid amount"):
            parse_content(bill_csv(PAYMENT_ROW | {"订单金额": yuan}))

    @pytest.mark.parametrize(
        "changed_fields",
        [{"公众账号ID": "wx0000000000000002"}, {"商户号": "1900000002"}, {"交易状态": "REVOKED"}],
    )
    def test_revoked_payment_and_row_of_another_merchant_or_app_are_left_out(
        self, changed_fields: dict[str, str]
    ) -> None:
        assert parse_content(bill_csv(PAYMENT_ROW | changed_fields, REFUND_ROW)) == [REFUNDED_ENTRY]

    def test_refund_in_progress_is_an_entry(self) -> None:
        assert parse_content(bill_csv(REFUND_ROW | {"退款状态": "PROCESSING"})) == [REFUNDED_ENTRY]

    @pytest.mark.parametrize("status", ["FAIL", "CHANGE", ""])
    def test_failed_refund_is_left_out(self, status: str) -> None:
        assert parse_content(bill_csv(REFUND_ROW | {"退款状态": status}, PAYMENT_ROW)) == [
            PAID_ENTRY
        ]

    def test_product_name_can_contain_commas(self) -> None:
        assert parse_content(bill_csv(PAYMENT_ROW | {"商品名称": "50, 60, or 70 coins"})) == [
            PAID_ENTRY
        ]

    def test_unknown_trade_state_is_rejected(self) -> None:
        with pytest.raises(ValueError, match="unknown state OTHER"):
            parse_content(bill_csv(PAYMENT_ROW | {"交易状态": "OTHER"}))

    @pytest.mark.parametrize("missing_column", ["商户订单号", "微信订单号", "交易状态", "退款状态"])
    def test_error_names_a_missing_column(self, missing_column: str) -> None:
        with pytest.raises(ValueError, match=missing_column):
            parse_content(
                bill_csv(
                    PAYMENT_ROW,
                    columns=[column for column in COLUMN_NAMES if column != missing_column],
                )
            )

    def test_error_names_a_missing_amount_column(self) -> None:
        columns = [column for column in COLUMN_NAMES if column not in ("订单金额", "应结订单金额")]
        with pytest.raises(ValueError, match="订单金额/应结订单金额"):
            parse_content(bill_csv(PAYMENT_ROW, columns=columns))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xfe",
            "无账单".encode(),
            bill_csv(PAYMENT_ROW, summary=""),
            bill_csv(PAYMENT_ROW, summary="`2026-10-03,`wx\r\n"),
            bill_csv(PAYMENT_ROW)[:600],
        ],
        ids=["empty", "not UTF-8", "text", "no summary", "short row", "truncated"],
    )
    def test_malformed_file_is_rejected(self, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"column|summary|fields|decode"):
            parse_content(content)


class TestDownload:
    def test_bill_of_a_day_is_downloaded_and_parsed(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW, REFUND_ROW))
        assert payments.bill(DAY) == [PAID_ENTRY, REFUNDED_ENTRY]
        (request,) = wechat.received(BILL_PATH)
        assert request.target == f"{BILL_PATH}?bill_date=2026-10-03&bill_type=ALL"
        (request,) = wechat.received(DOWNLOAD_PATH)
        assert request.target == f"{DOWNLOAD_PATH}?token=abc%2Fd"

    @pytest.mark.parametrize(
        ("code", "day"),
        [("STATEMENT_CREATING", DAY), ("NO_STATEMENT_EXIST", date(2999, 1, 1))],
    )
    def test_bill_that_is_not_available_yet_fails(
        self, code: str, day: date, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.responses[BILL_PATH] = FakeResponse(400, {"code": code, "message": "账单文件不存在"})
        with pytest.raises(PaymentFailed, match=f"the bill of {day} is not available yet"):
            payments.bill(day)

    def test_bill_of_a_day_without_payments_is_empty(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        response = FakeResponse(400, {"code": "NO_STATEMENT_EXIST", "message": "账单文件不存在"})
        wechat.responses[BILL_PATH] = response
        assert payments.bill(DAY) == []

    @pytest.mark.parametrize(
        "changed_fields",
        [
            {"hash_value": "0" * 40},
            {"hash_value": None},
            {"hash_type": "MD5"},
            {"download_url": "https://example.com/v3/billdownload/file?token=x"},
            {"download_url": "http://api.mch.weixin.qq.com/v3/billdownload/file?token=x"},
            {"download_url": "https://api.mch.weixin.qq.com.example.com/file"},
            {"download_url": "https://api.mch.weixin.qq.com@example.com/file"},
            {"download_url": "https://api.mch.weixin.qq.com:444/file"},
            {"download_url": ""},
            {"download_url": None},
        ],
        ids=str,
    )
    def test_wrong_digest_or_url_fails(
        self, changed_fields: dict[str, Any], payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW), **changed_fields)
        with pytest.raises(PaymentFailed, match=r"SHA1|host"):
            payments.bill(DAY)
        assert len(wechat.received(DOWNLOAD_PATH)) == (
            "hash_value" in changed_fields or "hash_type" in changed_fields
        )

    def test_digest_in_upper_case_is_accepted(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW))
        content = wechat.responses[BILL_PATH].content
        upper_case = {"hash_value": content["hash_value"].upper()}
        wechat.responses[BILL_PATH] = FakeResponse(200, content | upper_case)
        assert payments.bill(DAY) == [PAID_ENTRY]

    @pytest.mark.parametrize("path", [BILL_PATH, DOWNLOAD_PATH])
    @pytest.mark.parametrize(
        "response",
        [
            FakeResponse(500, {"code": "SYSTEM_ERROR"}),
            FakeResponse(403, {"code": "NO_AUTH", "message": "x" * 1000}),
            FakeResponse(302, headers={"Location": "https://example.com/"}),
            FakeResponse(200, b"<html>"),
            FakeResponse(204),
        ],
        ids=["500", "403", "302", "200", "204"],
    )
    def test_unsuccessful_response_fails_without_the_token(
        self, path: str, response: FakeResponse, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW))
        wechat.responses[path] = response
        with pytest.raises(PaymentFailed) as failed:
            payments.bill(DAY)
        assert len(str(failed.value)) <= 200
        assert "token" not in str(failed.value)

    def test_malformed_bill_fails(self, payments: WechatPayments, wechat: FakeWechatPay) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW, summary=""))
        with pytest.raises(PaymentFailed, match="the summary is missing"):
            payments.bill(DAY)

    def test_bill_over_the_size_limit_fails(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(b" " * (64 * 1024 * 1024 + 1))
        with pytest.raises(PaymentFailed, match="too large"):
            payments.bill(DAY)

    def test_hanging_download_fails_at_the_deadline(
        self, payments: WechatPayments, wechat: FakeWechatPay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("livebackend.gateways.payments.wechat.gateway.BILL_TIMEOUT_S", 0.3)
        wechat.serve_bill(bill_csv(PAYMENT_ROW))
        wechat.delay_s[DOWNLOAD_PATH] = 10
        with pytest.raises(PaymentFailed, match="timeout"):
            payments.bill(DAY)

    def test_download_goes_to_the_api_host(
        self, payments: WechatPayments, wechat: FakeWechatPay
    ) -> None:
        wechat.serve_bill(bill_csv(PAYMENT_ROW), download_url=f"{API_URL}/other/path?token=x")
        wechat.responses["/other/path"] = wechat.responses[DOWNLOAD_PATH]
        assert payments.bill(DAY) == [PAID_ENTRY]

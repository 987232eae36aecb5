"""Personal data that is replaced, and look-alikes that are kept."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.corpus.filters.privacy import without_personal_data
from mindllm_jax.corpus.filters.privacy_checks import is_bank_card, is_identity_number

REPLACED = [
    ("身份证号11010519491231002X，男", "身份证号<id_number>，男"),
    ("号码440524188001010014。", "号码440524188001010014。"),  # born in 1880
    ("卡号6222021234567890128，或6222021234567890127", "卡号<bank_card>，或6222021234567890127"),
    ("card 4012 8888 8888 1881 was", "card <bank_card> was"),
    ("卡号5200-8282-8282-8210。", "卡号<bank_card>。"),
    ("amex 3782 822463 10005", "amex <bank_card>"),
    ("联系电话13912345678王先生", "联系电话<phone>王先生"),
    ("手机：139 1234 5678，座机：010-65529988", "手机：<phone>，座机：<phone>"),
    ("+86 139-1234-5678 或 (0571)88889999", "<phone> 或 <phone>"),
    ("0531-8888 9999", "<phone>"),
    ("call +44 20 7946 0958 or +1 (617) 253-1000 or +14155552671.", "call <phone> or <phone> or <phone>."),
    ("+1(415)-555-2671", "<phone>"),
    ("call (617) 253-1000 or 617-253-1000.", "call <phone> or <phone>."),
    ("邮箱zhang.san@163.com，或li_si+a@mail.tsinghua.edu.cn。", "邮箱<email>，或<email>。"),
    ("服务器地址是45.20.209.46，端口", "服务器地址是<ip>，端口"),
    ("from 45.20.209.46. IP:45.20.209.47 http://45.20.209.48:80/", "from <ip>. IP:<ip> http://<ip>:80/"),
    ("AAAA 2620:10a:80ba::68 and 2a00:1450:4001:801::1011", "AAAA <ip> and <ip>"),
    ("key sk-" + "a1" * 20, "key <key>"),
    ("ghp_" + "a1" * 18 + " AKIAIOSFODNN7EXAMPLE", "<key> <key>"),
    ("电话：（0755）23456789，传真010—23456789", "电话：<phone>，传真<phone>"),
    ("138—1234—5678 138.1234.5678 0086-10-23456789 +86 (21) 6598 2200", "<phone> <phone> <phone> <phone>"),
    ("座机65529988转8012，Tel: 6552 9988", "座机<phone>转8012，Tel: <phone>"),
    ("617.253.1000, 07911 123456, +33 1 42 68 53 00, +1.212.736.5000", "<phone>, <phone>, <phone>, <phone>"),
    ("邮箱：zhang.san@163.com(张三)，jo@acme.com-Sales", "邮箱：<email>(张三)，<email>-Sales"),
    ("Ann <ann@other.org>, <mailto:bo@other.org>, 'O'Hara@other.org'", "Ann <email>, <email>, '<email>'"),
    ("li (at) pku (dot) edu (dot) cn, r2d2 AT rebels DOT net", "<email>, <email>"),
    ("身份证：110105 19491231 002X，1101 0519 4912 3100 2X", "身份证：<id_number>，<id_number>"),
    ("身份证110105491231002 SSN 219-09-9999", "身份证<id_number> SSN <id_number>"),
    (
        "护照号：E12345678，G87654321号护照，Passport No. X4512387",
        "护照号：<passport>，<passport>号护照，Passport No. <passport>",
    ),
    ("车牌京A12345、沪AD12345、粤B·8D6K2", "车牌<plate>、<plate>、<plate>"),
    ("license plate was 7ABC123", "license plate was <plate>"),
    ("微信号lihua1990，加vx：li_hua，WeChat ID: foodie-lin", "微信号<account>，加vx：<account>，WeChat ID: <account>"),
    ("QQ：2853917604，QQ群 613290874", "QQ：<account>，QQ群 <account>"),
    ('password = "Tr0ub4dor&3"\n密码：Tq7#mZ90，', 'password = "<password>"\n密码：<password>，'),
    ("  23.9.117.80\n又见 23.172.138.74 与 151.101.0.81", "  <ip>\n又见 <ip> 与 <ip>"),
    ("IP 8.40.3.9 还是 nginx/1.9 来自 12.40.33.9", "IP <ip> 还是 nginx/1.9 来自 <ip>"),
    ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n\nabc+/=\n-----END RSA PRIVATE KEY-----", "<key>"),
]


@pytest.mark.parametrize(("text", "left"), REPLACED, ids=[text for text, _ in REPLACED])
def test_replaced(text: str, left: str) -> None:
    assert without_personal_data(text)[0] == left


STAYS = {
    "dates": "2023-12-15，20231215，1949年10月1日 12:30:45，2023-12-15 12:30:45.123456，20231215123045，1651133780123",
    "books": "ISBN 978-7-111-12345-6, ISBN 9787111123456, ISBN 0-262-03384-4",
    "papers": "doi:10.1038/s41586-020-2649-2, arXiv:2112.11446, https://doi.org/10.1145/4012888888881881",
    "prices": "¥13,912,345,678.00，$4,012,888,888，13912345678.50元",
    "hashes": "a3f5c9e04012888888881881b2 95e0222ba6399739834380eb10afcd73e0670bc5",
    "identifiers": "par_id4012888888881881 /status/4012888888881881 [BackupTS=434693927394607136]",
    "decimals": "3.14159265358979323846 0.13912345678 1.13912345678e5",
    "arithmetic": "x=(31&t)+1099511627776*t+(a)+4294967296",
    "articles": "第一百二十条 《民法典》第1165条第2款 国发〔2023〕12号 (2023)京0105民初12345号",
    "versions": "version 1.2.3.4, v115.0.5790.170, Section 6.3.4.6, Chrome/60.0.3112.113, 8.8.8.8",
    "networks": "10.0.0.1 192.168.1.20 127.0.0.1 255.255.255.0 224.0.0.251 203.0.113.7 45.20.0.0/16 999.20.209.46",
    "hardware": "aa:bb:cc:dd:ee:ff 00:1A:2B:3C:4D:5E 12:30:45 std::add::be 2001:db8::1 ::1 fe80::1 23:59",
    "no person": "git@github.com:a/b.git noreply@x.org a@example.com icon@2x.png getty@tty1.service @user a@b",
    "public key": "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----",
    "product versions": "Flash Player 32.0.0.101，固件 8.0.32.66，nginx 1.25.3.40，升级至 64.99.120.13",
    "sections": "见第 6.4.38.2 条，See section 10.64.128.7",
    "amounts": "合计 +86400000000 毫秒，200-300-4000 mm，13900000000元，+12345678901 dollars，订单号13912345678",
    "tables": "+45 2019 2020 2021 2022, 1 415 642 494, 1990-1995",
    "hotlines": "400-820-8820，95588，110",
    "placeholders": "password = 'password', password: string, pwd=/srv/a1, PASSWORD=$DB_PASS2, you@yourdomain.com",
    "words for accounts": "微信支付 WeChatPay，微信 JSSDK，QQ2013，QQ20130815，护照有效期 20301231",
    "letters and digits": "粤B2-20090059，新A380客机，京D1234次列车",
    "sentences": "look at shop dot com; W@x.transpose(); node@v1.lts-alpine; 密码学：对称密码是AES256",
    "words": "sk-a-long-name-of-a-class-in-a-style-sheet risk-13",
    "wrong check digits": "110105194912310021 4012 8888 8888 1882 11010519491331002X",
}


@pytest.mark.parametrize("kind", STAYS)
def test_stays(kind: str) -> None:
    assert without_personal_data(STAYS[kind]) == (STAYS[kind], {})


def check_digit(body: str) -> str:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 11]


@given(st.integers(110000, 829999), st.dates(), st.integers(0, 999))
def test_identity_numbers(region: int, born, order: int) -> None:
    body = f"{region}{born:%Y%m%d}".replace(" ", "0").zfill(14)[:14] + f"{order:03d}"
    right = check_digit(body)
    assert is_identity_number(body + right) and is_identity_number((body + right).lower())
    assert not any(is_identity_number(body + wrong) for wrong in "0123456789X" if wrong != right)


@pytest.mark.parametrize("body", ["11010519491331002", "11010519490229002", "11010519490431002", "11010500000101002"])
def test_impossible_birthdays(body: str) -> None:
    assert not is_identity_number(body + check_digit(body))


@given(st.integers(0, 10**11 - 1))
def test_one_digit_in_ten_makes_a_card(number: int) -> None:
    assert sum(is_bank_card(f"5212{number:011d}{digit}") for digit in range(10)) == 1


def test_cards_of_no_network() -> None:
    assert not is_bank_card("0000000000000000") and not is_bank_card("1234567812345670") and not is_bank_card("4" * 16)


def test_counts_and_idempotence() -> None:
    text = "a@b.org、c@d.org、13912345678"
    once, replaced = without_personal_data(text)
    assert {marker: len(matches) for marker, matches in replaced.items()} == {"email": 2, "phone": 1}
    assert without_personal_data(once) == (once, {})


@given(st.text(st.sampled_from("0123456789-+. ()Xx:@ab中/"), max_size=40))
def test_markers_are_never_touched_again(text: str) -> None:
    once, _ = without_personal_data(text)
    assert once.count("<") == once.count(">")
    assert without_personal_data(once)[0].count("<") >= once.count("<")


def test_planted_items() -> None:
    """The benchmark's own items: all but eight are replaced, completely and by the marker of their kind."""
    lines = (Path(__file__).parents[3] / "benchmarks/privacy_items.txt").read_text("utf-8").splitlines()
    missed = []
    for _, kind, text in (line.split(" ", 2) for line in lines if line and not line.startswith("#")):
        left = re.sub("<?«.*?»>?", f"<{kind}>", text)
        if without_personal_data(re.sub("[«»]", "", text))[0] != left:
            missed.append(text)
    assert not [text for text in missed if "«" not in text], "look-alikes"
    assert len(missed) <= 8, missed


@pytest.mark.parametrize(
    "piece",
    [
        *"a@ @ a. a@a. a- 1 1. 1- +86 (010 138001380 2001: ab:: sk- -----BEGIN ghp_ xoxb-1-".split(),
        *(
            "1 ",
            "45.20.209.46 ",
            "13912345678 ",
            "Tel: 65529988 ",
            "微信：a",
            "at)",
            "a dot b at ",
            "QQ:1",
            "密码：",
            "password=",
            "京A1车",
            "电话(",
            "护照E1",
            "-----BEGIN PRIVATE KEY-----",
            "4111 1111 ",
            " ",
            "+1 1",
        ),
    ],
)
def test_time_grows_with_the_text(seconds_for_a_megabyte, piece: str) -> None:
    assert seconds_for_a_megabyte(without_personal_data, "", piece) < 15

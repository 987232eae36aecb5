"""Laws and articles from the statute database."""

import pytest

from mindllm_jax.recipes.demo.statutes import read_laws


def test_a_law_reads_as_printed(tmp_path, statutes):
    laws = {law.name: law for law in read_laws(statutes(tmp_path / "laws.db"))}
    assert list(laws) == ["丙解释", "乙法修正案", "甲法"]
    assert laws["甲法"].document().text.splitlines() == [
        "甲法",
        "第一章 总则",
        "第一条 为了保护公民的合法权益，制定本法。",
        "第二条 国家鼓励单位开展活动。",
        "具体办法由国务院规定。",
        "第二章 罚则",
        "第一节 责任",
        "第三条 违反本法规定的，给予警告。",
        "附：表",
    ]
    assert laws["乙法修正案"].document().text == "乙法修正案\n一、 将第一条修改为：“新的第一条。”"
    assert laws["丙解释"].document().text == "丙解释\n解释如下。"


def test_superseded_versions_are_left_out(tmp_path, statutes):
    laws = list(read_laws(statutes(tmp_path / "laws.db")))
    assert not any("旧的" in law.document().text for law in laws)
    assert len({law.id for law in laws}) == len(laws)


def test_another_file_raises(tmp_path):
    path = tmp_path / "laws.db"
    path.write_text("not a database, but long enough to look at " * 30)
    with pytest.raises(ValueError, match=r"laws\.db is not the statute database .*delete it and fetch it again"):
        list(read_laws(path))

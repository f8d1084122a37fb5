"""Every reason that the system writes has its English."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.console.system_words import said
from infra.db.transactions import report, retry_task
from workflows.domain import errors

ROOT = Path(__file__).parents[2]
CHINESE = re.compile("[\u4e00-\u9fff]")
WRITERS = ("infra/db/transactions", "activities", "workers/leader", "infra/json", "workflows/domain")
"""Programs that write the reasons of ends, and notes."""

REFUSALS = {report.UNNAMED, retry_task._FORGOTTEN, *retry_task._OF_SECRET.values()}
"""Constants that only callers of the API see."""


def reasons() -> Iterator[tuple[str, str]]:
    """Each Chinese text with its place: not those of refusals, which callers of the API see, nor those of alerts."""
    for folder in WRITERS:
        for path in sorted((ROOT / folder).glob("*.py")):
            for text in _texts(ast.parse(path.read_text())):
                yield f"{path.relative_to(ROOT)}: {text}", text


def _texts(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.keyword) and tree.arg in ("title", "message"):
        return
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and hasattr(errors, tree.func.id):
        return
    if isinstance(tree, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module) and ast.get_docstring(tree):
        tree.body = tree.body[1:]
    if isinstance(tree, ast.JoinedStr | ast.Constant):
        parts = tree.values if isinstance(tree, ast.JoinedStr) else [tree]
        text = "".join(str(one.value) if isinstance(one, ast.Constant) else "7" for one in parts)
        if CHINESE.search(text):
            yield text
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(tree, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _texts(child)


def test_every_reason_has_its_english() -> None:
    found = {place: text for place, text in reasons() if text not in REFUSALS}
    assert len(found) > 40
    assert [place for place, text in found.items() if CHINESE.search(said("en", text) or "")] == []


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("OOM（已在3个节点上以同样的方式失败，不再重试）", "OOM (failed in the same way on 3 nodes: no more retries)"),
        ("任务已取消：换模型", "The task was cancelled: 换模型"),
        ("节点暂时拒绝（HTTP 503，draining：new driver）", "The node refuses for now (HTTP 503, draining: new driver)"),
        ("节点返回的结果无法接受: 不是UTF-8文本", "The result that the node returned can't be accepted: not UTF-8"),
        ("节点报告执行失败，由监控结束该次执行", "The node reports a failure: the monitor ended the attempt"),
        ("显存不足", "显存不足"),
        ("out of memory", "out of memory"),
        (None, None),
    ],
)  # fmt: skip
def test_only_the_system_s_own_words_are_translated(text: str | None, english: str | None) -> None:
    assert said("en", text) == english
    assert said("zh", text) == text


def test_reasons_within_reasons_end() -> None:
    assert CHINESE.search(said("en", "（已有1个节点拒绝）" * 400) or "")


@pytest.mark.parametrize(
    "begin", ["（已在", "（已有", "（已发生", "（时限", "（已在1", "（已在（已有", "，由监控", "："]
)
def test_the_beginnings_of_reasons_are_read_once(begin: str) -> None:
    """To try each of them up to the end would take minutes."""
    text = begin * 100_000
    began = time.thread_time()
    assert said("en", text) == text
    assert time.thread_time() - began < 2

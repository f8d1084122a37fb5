"""An alert in the words of its reader's language."""

from __future__ import annotations

from api.console import alert_words
from infra.db.nodes import transitions
from infra.db.ops import alerts as stored
from infra.db.ops.alerts import NewAlert


def test_every_kind_of_alert_has_its_words() -> None:
    causes = [
        "fault:g",
        "offline:g",
        "rest:failures:g",
        "unhealthy",
        *(one.cause for one in stored.unserved([stored.Unserved(1, "t", drained=True)])),
    ]
    causes += [stored.stuck(["w"], []).cause, stored.miscounted(["x"]).cause, stored.fleet_silent(["g"], 2).cause]
    causes += [stored.disk_nearly_full("h", "/", 1, 2).cause, stored.undelivered("u", "d").cause]
    assert None not in [alert_words.of_cause(cause) for cause in causes]
    assert alert_words.of_cause("another:x") is None
    assert [alert_words.node_of(cause) for cause in causes[:4]] == ["g", "g", "g", None]


def test_an_alert_in_english_says_names_and_numbers_alone() -> None:
    def said(alert: NewAlert) -> str:
        return alert_words.detail_of(alert.cause, alert.message, "en")

    assert said(transitions._fault_alert("g", "Xid: 79")) == "Xid: 79"
    assert said(transitions._offline_alert("g")) == ""
    assert said(stored.stuck(["task-1", "task-2"], ["a"])) == "2 · task-1"
    assert said(stored.fleet_silent(["a", "b"], 9)) == "9 · 2 · a, b"
    assert said(stored.disk_nearly_full("h", "/data", 1 << 20, 9 << 20)) == "h · /data · 1 MiB"
    assert said(stored.miscounted(["tasks 2 QUEUED: +1"])) == "tasks 2 QUEUED: +1"
    assert said(stored.undelivered("NOTIFY URL 2 (json://…)", "d")) == "NOTIFY URL 2 (json://…)"
    assert [said(one) for one in stored.unserved([stored.Unserved(7, "t")])] == [""]
    assert [alert_words.type_of(f"unserved:{name}") for name in ("7", "others")] == ["7", None]
    assert alert_words.detail_of("rest:refused:g", "GPU节点 g 连续失败：out of memory", "en") == "out of memory"
    assert alert_words.detail_of("rest:refused:g", "GPU节点 g 连续失败", "en") == ""
    assert alert_words.detail_of("another", "消息", "en") == alert_words.detail_of("fault:g", "消息", "zh") == "消息"

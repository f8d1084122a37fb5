"""Reasons that the system itself writes, in English. They are stored in the API's Chinese; what nodes and people say
stays as it is."""

from __future__ import annotations

import re

_DEEP = 4
"""Reasons within reasons that are translated."""
_CHINESE = re.compile("[\u4e00-\u9fff]")
_TEXTS = {  # a number is bounded: without that, a text of their beginnings would be read again and again
    # the end of a task
    r"任务已取消": "The task was cancelled",
    r"任务已取消：(.*)": "The task was cancelled: {}",
    r"任务已取消（在 Temporal 中取消工作流）": "The task was cancelled (its workflow was cancelled in Temporal)",
    r"任务已超过有效期，不再开始执行": "The task has expired and will not start",
    r"任务已超过截止时间": "The task is past its deadline",
    r"(.*)（已在(\S{1,19})个节点上以同样的方式失败，不再重试）": "{} (failed in the same way on {} nodes:"
    " no more retries)",
    r"(.*)（已有(\S{1,19})个节点拒绝）": "{} (rejected by {} nodes)",
    r"(.*)（已发生(\S{1,19})次，不再派发）": "{} ({} times: no longer dispatched)",
    # the end of an attempt
    r"任务执行超时": "The attempt ran into its limit",
    r"(.*)（时限(\S{1,19})毫秒对该类型任务过短）": "{} (the limit of {} ms is short for tasks of this type)",
    r"节点报告执行失败": "The node reports a failure",
    r"节点报告输入不可用": "The node reports that the input can't be used",
    r"节点交回任务": "The node hands the task back",
    r"节点已取消该次执行": "The node cancelled the attempt",
    r"节点已完成": "The node completed it",
    r"节点拒绝该任务的输入（HTTP (\S{1,19})）": "The node rejects the input of the task (HTTP {})",
    r"节点暂时拒绝（HTTP ([^，]*)）": "The node refuses for now (HTTP {})",
    r"节点暂时拒绝（HTTP ([^，]*)，([^：]*)）": "The node refuses for now (HTTP {}, {})",
    r"节点暂时拒绝（HTTP ([^，]*)，([^：]*)：(.*)）": "The node refuses for now (HTTP {}, {}: {})",
    r"节点的应答不符合节点协议（(.*)）": "The node's answer is outside of the node protocol ({})",
    r"不是HTTP": "not HTTP",
    r"节点对派发没有明确应答": "The node gave no clear answer to the dispatch",
    r"节点地址不再被允许": "The node's address is no longer allowed",
    r"节点上报的结果无法接受: (.*)": "The result that the node reported can't be accepted: {}",
    r"节点返回的结果无法接受: (.*)": "The result that the node returned can't be accepted: {}",
    r"超过 (\S{1,19}) KiB": "larger than {} KiB",
    r"不是UTF-8文本": "not UTF-8",
    r"不是合法的JSON文本": "not JSON",
    r"嵌套超过 (\S{1,19}) 层": "nested more than {} levels deep",
    r"含有不成对的代理字符": "holds half of a surrogate pair",
    r"含有NUL字符": "holds the character NUL",
    r"含有超出范围的数字": "holds a number that is out of range",
    # what has become of its node
    r"节点失去联系": "Contact with the node was lost",
    r"节点已注销": "The node was deregistered",
    r"节点故障: (.*)": "The node is faulty: {}",
    r"节点以新的地址或容量重新注册": "The node registered again with another address or capacity",
    r"节点由另一密钥重新注册": "Another key registered the node again",
    r"节点重新注册后不再运行该任务": "The node registered again and no longer runs the task",
    r"节点停止接收新任务的期限已到": "The deadline of the node's drain has passed",
    r"最近(\S{1,19})个任务中有(\S{1,19})个在该节点失败，而其他节点完成了这些任务": "Of the last {} tasks {} failed"
    " on this node, and other nodes completed them",
    r"通过 Temporal 信号操作，未说明原因": "By a signal in Temporal, without a reason",
    # notes
    r"优先级 (.*)": "Priority {}",
    r"(.*)，由监控结束该次执行": "{}: the monitor ended the attempt",
    r"工作流尚未启动，由监控启动": "The workflow had not started: the monitor started it",
    r"工作流已结束而执行结果未被收取，由监控重新运行": "The workflow had ended, and the attempt's end was not"
    " collected: the monitor ran it again",
    r"工作流未在运行而任务已获得槽位，由监控重新运行": "The task had a slot, and its workflow did not run:"
    " the monitor ran it again",
    r"工作流未在运行而任务仍在排队，由监控重新运行": "The task was queued, and its workflow did not run:"
    " the monitor ran it again",
    r"工作流已结束而任务尚未结束，由监控重新运行": "The workflow had ended, but not the task: the monitor ran it again",
    r"工作流无法推进，由监控以新的运行取代": "The workflow could not go on: the monitor replaced its run",
    r"任务既未等待也未执行，由监控重新排队": "The task neither waited nor ran: the monitor queued it again",
    r"再次通知工作流：该次执行已结束": "The workflow was notified again: the attempt has ended",
    r"再次通知工作流：已获得槽位": "The workflow was notified again: the task has a slot",
}
_PATTERNS = [(re.compile(chinese, re.DOTALL), english) for chinese, english in _TEXTS.items()]


def said(language: str, text: str | None) -> str | None:
    """A reason in the person's language, if it is one of the system's."""
    return text if language == "zh" or text is None else _in_english(text, _DEEP)


def _in_english(text: str, depth: int) -> str:
    if not depth or _CHINESE.search(text) is None:
        return text
    for chinese, english in _PATTERNS:
        if (found := chinese.fullmatch(text)) is not None:
            return english.format(*(_in_english(part, depth - 1) for part in found.groups())).strip()
    return text

"""Refusals of the domain. A class's docstring is the message that a caller reads (Chinese, as the specification's)."""

from __future__ import annotations


class DomainError(Exception):
    """操作失败"""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(f"{type(self).__doc__}: {detail}" if detail else str(type(self).__doc__))


class IllegalTransition(DomainError):
    """状态转换不合法"""


class NotInThisState(DomainError):
    """任务当前状态不允许该操作"""


class TaskNotFound(DomainError):
    """任务不存在"""


class GroupNotFound(DomainError):
    """任务组不存在"""


class OperationNotFound(DomainError):
    """批量操作不存在"""


class GpuNotFound(DomainError):
    """GPU不存在"""


class AlertNotFound(DomainError):
    """告警不存在"""


class LateReport(DomainError):
    """该执行尝试已结束，上报未生效"""


class ConflictingResult(DomainError):
    """该执行尝试已有不同的结果"""


class NotTheHolder(DomainError):
    """该任务不属于此GPU"""


class GpuOfAnotherKey(DomainError):
    """该GPU属于其他密钥"""


class BeyondKeyLimits(DomainError):
    """权限不足"""


class ForbiddenAddress(DomainError):
    """ip 或 port 不在允许的节点网络内"""


class ForbiddenReceiver(DomainError):
    """权限不足: url 指向不允许的地址"""


class HttpsRequired(ForbiddenReceiver):
    """请求参数错误: url 必须是 https 地址"""


class WebhookNotFound(DomainError):
    """Webhook不存在"""


class DeliveryNotFound(DomainError):
    """投递记录不存在"""


class WebhookDisabled(DomainError):
    """Webhook已停用，请重新创建"""


class TooManyWebhooks(DomainError):
    """Webhook数量已达上限（20个）"""


class TooManySecrets(DomainError):
    """24小时内的轮换次数已达上限，请稍后重试"""


class TooManyDeliveries(DomainError):
    """请求参数错误: from 与 to 之间的投递超过 10000 条，请缩小范围"""


class IdempotencyConflict(DomainError):
    """Idempotency-Key 已用于不同的请求"""


class DeadlinePassed(DomainError):
    """请求参数错误: deadline 必须是将来的时间（Unix 毫秒）"""

    def __init__(self, where: str = "") -> None:
        """`where` is what comes before the field's name."""
        Exception.__init__(self, str(type(self).__doc__).replace("deadline", f"{where}deadline"))


class TooManyWaiting(DomainError):
    """等待中的任务已达上限，请稍后重试"""


class TooManyOperations(DomainError):
    """进行中的批量操作已达上限，请稍后重试"""


class WaitTooLong(DomainError):
    """预估等待时间超过 maxWait，任务未创建，请稍后重试"""

    def __init__(self, retry_after_s: int, where: str = "") -> None:
        """`where` is what comes before the field's name."""
        self.retry_after_s = retry_after_s
        Exception.__init__(self, str(type(self).__doc__).replace("maxWait", f"{where}maxWait"))

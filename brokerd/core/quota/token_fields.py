"""What the exchange says of a free plan: `limited_user_quotas` and when they begin anew.

They are as old as the Copilot token they came with. What the plan includes (`monthly_quotas`) has
been seen on the seat only, and is read here should it come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.quota.scalars import moment
from brokerd.core.quota.seat import free_kinds


if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from brokerd.core.quota.values import Quota


__all__ = ["read"]


def read(fields: Mapping[str, Any]) -> tuple[Quota, ...]:
    """Read them; nothing of a plan that is paid for. Never raises."""
    return free_kinds(
        fields.get("limited_user_quotas"),
        fields.get("monthly_quotas"),
        moment(fields.get("limited_user_reset_date")),
    )

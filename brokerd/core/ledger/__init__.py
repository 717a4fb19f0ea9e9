"""The usage ledger as values: who is counted, what is counted, and how it is written.

`lines` says under which heading a completion is counted, `counts` what of it, `record` how one is
written into the journal, `asked` what somebody wants to see of all that. No text of a prompt or an
answer has a place in any of it.
"""

from __future__ import annotations

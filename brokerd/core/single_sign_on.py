"""The header that says: an organization wants this login authorized by single sign-on (SAML).

`X-GitHub-SSO: required; url=https://github.com/orgs/…` (GitHub's documentation, "Authenticating to
the REST API"). Tolerant of case and quotes: GitHub writes it all in lower case, bare.
"""

from __future__ import annotations


__all__ = ["HEADER", "page_of"]

HEADER = "x-github-sso"


def page_of(value: str) -> str | None:
    """Return the page that it names, unchecked, "" if none; None where nothing is required."""
    word, *parameters = value.split(";")
    if word.strip().lower() != "required":
        return None
    pairs = (each.partition("=") for each in parameters)
    named = (url.strip() for name, _, url in pairs if name.strip().lower() == "url")
    return next(named, "").strip('"')

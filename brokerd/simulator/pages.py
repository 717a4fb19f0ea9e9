"""The page on which a person approves a device, as github.com/login/device is one.

It runs with a keyboard and a screen reader, without scripts. There is no protection against
forged posts: all there is to win is a token that opens nothing.
"""

from __future__ import annotations

from html import escape


__all__ = ["ask", "told"]

_FRAME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Simulated GitHub</title>
<style>
 :root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
 body {{ max-width: 24rem; margin: 4rem auto; padding: 0 1rem }}
 .banner {{ border: 2px dashed; padding: .5rem 1rem }}
 label {{ display: block; margin: 1rem 0 }}
 input, button {{ font: inherit; padding: .4rem .8rem }}
 input {{ display: block; width: 100%; box-sizing: border-box }}
 [name=user_code] {{ font: 1.5rem ui-monospace, monospace; text-transform: uppercase }}
</style>
<p class="banner" role="note">This is a simulator, not GitHub. Type no password here.</p>
<main>{main}</main>
</html>
"""


def ask(user_code: str, login: str, notice: str = "") -> str:
    """Ask for the code and for a decision; `notice` says what was wrong before."""
    said = f'<p role="alert">{escape(notice)}</p>' if notice else ""
    return _FRAME.format(
        main=f"""<h1>Device activation</h1>{said}
<form method="post" action="/login/device">
<label>Code shown by your device
<input name="user_code" value="{escape(user_code)}" maxlength="9" autocomplete="off"
 required autofocus></label>
<label>Sign in as
<input name="login" value="{escape(login)}" maxlength="39" autocomplete="off"></label>
<button name="decision" value="approve">Authorize</button>
<button name="decision" value="deny">Cancel</button>
</form>"""
    )


def told(*, approved: bool) -> str:
    """Say that it is done."""
    words = (
        ("All set", "Your device is now connected.")
        if approved
        else ("Cancelled", "The device was not connected.")
    )
    return _FRAME.format(main=f"<h1>{words[0]}</h1><p>{words[1]} You may close this page.</p>")

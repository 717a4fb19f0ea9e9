"""One account's way to a token, and to the next one: read `token_machine` first.

- `states`, `events`, `effects`: what can be so, what can happen, what is wanted done;
- `questions`: what is asked next; `outcomes`: what a good answer does; `setbacks`: a bad one;
- `wishes`: what people, callers and the machine underneath do;
- `device_grant`, `refresh`, `renewal`: when to ask.
"""

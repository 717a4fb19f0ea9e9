"""The three APIs that tools speak, and translation between them: pure.

`meaning` is what they all mean; `chat`, `responses` and `messages` each read and write it;
`translation` puts two of them together. `errors` writes a failure as each of them would.
"""

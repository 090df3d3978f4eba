"""Gameye: the host's session API as a `Provider`.

    client       the provider itself: one method a call, outcome by status
    exchange     one HTTP call with a deadline: a reply, or whether it was sent at all
    wire         the JSON that goes out, and the replies that are good news
    refusal      the replies that are not: status to outcome, message, Retry-After
    credential   the bearer token, from a value or a file that may change

Source of every rule here: the vendor's own API description, version 1.2.1.
"""

"""Gameye: the host's session API as a `Provider`.

    client       the provider itself: one method a call, outcome by status
    wire         the JSON that goes out, and the replies that are good news
    refusal      the replies that are not: status to outcome

Source of every rule here: the vendor's own API description, version 1.2.1.
"""

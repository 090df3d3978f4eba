"""Edgegap: the host's deployment API as a `Provider`, and its catalogue.

    client      the provider itself: a start is a POST and the wait until what it made is ready
    follower    that wait: one process's pending deployments, looked at together
    lookout     the list calls: what many want to know at once is asked in one call
    pace        leave to make a list or status call: the host limits both over the account
    tags        what a deployment bears of ours: session id, deployment, namespace, request, location
    wire        the JSON that goes out, and the replies that are good news
    refusal     the replies that are not: status to outcome
    calls       the HTTP calls, one method each
    versions    how long a deployment lives, which is its version's to say
    catalog/    applications, versions, image tags, storages, pull profiles

Source of every rule here: the vendor's own API descriptions, v1 of 2026-04-24 and v2 of 2026-06-01.
"""

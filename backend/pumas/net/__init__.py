"""The one door to hosts outside: every request of the sidecar goes through `client.NetworkClient`.

Nothing here knows what is asked for; the domains (`hub`, `downloads`, `versions`, `updates`) do.
"""

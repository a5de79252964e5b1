"""Point to point on virtual ranks: sends, receives and probes, and the requests that stand for them.

A call that was begun (`calls`) is held by a `Request`; the communicator's methods are mixins (`arrays`,
`objects`, `probes`, `prepared`, `buffered`) over what all of them need (`traffic`).
"""

"""The door to Redis: the only room that imports `redis`.

    connect    a URL in, a `RedisConnection` out: commands, pipelines, blocking reads; never retried, always bounded
    errors     every fault of the server or the wire as one small tree
    scripts    a Lua script as a packaged file, run by its hash
    batching   what is asked for in one turn of the loop goes out in one call
    server     what the server is, and whether it may be used
    embedded   `embedded:DIR`: a server started by its first user, stopped after its last (`embedded_watch`)

It promises that nothing above sees an exception or a type of `redis`, and that no password gets into a message.
What a command means is for the floors above.
"""

"""Several processes that serve one port: the kernel steers each packet, by its connection ID, to who has it.

`serve(...).with_workers(N)` is what an application uses; `Master` is what stands behind it and `fairway serve`.
"""

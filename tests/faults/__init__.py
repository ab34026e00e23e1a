"""The faults of the world, made on purpose: power cuts, killed and paused processes, long load.

disk_log.c, disk.py   a preload library that records what a process does to its database files; images of the disk after a
                      power cut, made from that record
test_disk.py          the image maker itself (quick)
work.py               clients of one server, and what it acknowledged to them
test_power_cuts.py    the service, started on such images
cluster.py            three servers on one database, killed, paused and stopped at random
history.py            what clients, tasks and rows said, and the rules that it must keep
test_history.py       the rules themselves: each fails on a doctored history (quick)
tasks.py              tasks that note what they do; one that leaks
test_histories.py     the rules, over what a cluster did
test_growth.py        a mixed load, after which memory, descriptors, threads and asyncio tasks have not grown
"""

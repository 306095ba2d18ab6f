"""One module per procedure of TS 23.482: each decides, reads and writes through the repository, and raises.

No module here imports aiohttp or a database driver: what a procedure needs from outside is passed to it.
"""

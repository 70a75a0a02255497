"""The command line: one module per command, each a verb of the library.

Records and listings go to standard output, talk to standard error. Exit status: 0 done, 1 failed, 2 used wrongly.
"""

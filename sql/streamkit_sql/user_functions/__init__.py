"""Functions of users in Python: how they are declared, where they are found, what expressions bind them to."""

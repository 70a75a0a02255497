"""Queries to operators: names resolved, types known, time attributes followed, forms told apart."""

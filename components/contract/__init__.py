"""The data contract in the words of Great Expectations.

In: the tables of emd_core.contract. Out: one check each: name, severity, success, what was observed.
"""

"""Who may do what: the named rules of all operations, and the file in which operators override them.

May import `control.settings` and `control.refusals`; knows nothing of the database or of HTTP.
"""

"""Side-by-side measurements against real peers: `python -m bench`. Not a test: the numbers are for people.

`cases` says what is measured, `contenders` how each side is run, `results` what a measurement is, `report` how it is
shown. May import `twinsite` and `tests.support`; nothing imports it.
"""

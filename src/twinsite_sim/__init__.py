"""A simulated installation: real workers on simulated machines, in virtual time, from one seed.

Two sites, a controller with its arbiter, and hosts share one event loop whose clock only moves when nothing is left to
do. What the workers reach of the outside (network, disks, state files, threads, clocks, random numbers) is simulated
and fails on purpose; checkers that know nothing of the workers' insides look at what hosts were told and at what lies
on the disks. One seed is one history, to the byte.

May import all of `twinsite`; nothing in `twinsite` may import this. See docs/simulator.md.
"""

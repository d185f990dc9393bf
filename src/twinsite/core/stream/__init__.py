"""The ordered stream between the two workers of a group: the frame codec and the hello. docs/wire-protocol.md describes it."""

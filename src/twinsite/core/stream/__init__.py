"""The ordered stream between the two workers of a group: frame codec and hello. See docs/wire-protocol.md."""

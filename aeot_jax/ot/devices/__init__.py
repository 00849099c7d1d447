"""Devices that share the samples and the targets, with the same bits on any number of them."""

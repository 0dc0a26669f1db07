"""Convolutions as linear maps: their matrix, their operator norm and bounds of it."""

from lipnb.conv_bounds import conv_norm_bound
from lipnb.conv_matrices import conv_matrix
from lipnb.conv_norms import conv_norm

__all__ = ["conv_matrix", "conv_norm", "conv_norm_bound"]
